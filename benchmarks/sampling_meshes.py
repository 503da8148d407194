"""Sampling on meshes of eight virtual CPU devices against one device: the frames before and after rounding.

    python benchmarks/sampling_meshes.py

The embedded model, eight clips of noise, 20 steps, float32; and a small causal VAE, whose rows of pixels the
mesh shards. Writes benchmarks/results/sampling_meshes.json. It measures no time: virtual devices share the
cores.
"""

import dataclasses
import json
import os
from pathlib import Path
from typing import Any

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_force_host_platform_device_count=8"

import jax
import jax.numpy as jnp
import numpy as np

from gencompositor_jax import arch as arch_lib
from gencompositor_jax import checkpoints, codec, sharding
from gencompositor_jax.controls.conditions import Conditions
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.files import atomic_write_text
from gencompositor_jax.inference.pipeline import generate
from gencompositor_jax.perf.benchmark.sampling import noise
from gencompositor_jax.perf.plan import hlo, work
from gencompositor_jax.pixels import to_pixels

RESULTS = Path(__file__).parent / "results" / "sampling_meshes.json"
MESHES: tuple[dict[str, int], ...] = (
    {"data": 8},
    {"tensor": 4, "data": 2},
    {"context": 4, "data": 2},
    {"fsdp": 8},
)
CLIPS = 8


class Kept:
    """Keeps the latents of a pass."""

    latents: np.ndarray

    def read(self) -> None:
        """None: nothing is kept before."""

    def write(self, latents: np.ndarray) -> None:
        """Keeps them."""
        self.latents = latents


def clips(arch: arch_lib.ModelArch) -> Conditions:
    """Clips of noise, each with a seed of its own."""
    given: Any = jax.tree.map(lambda *each: np.stack(each), *(noise(arch, seed) for seed in range(CLIPS)))
    return given


def frames_on(model: checkpoints.Model, sizes: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """(frames before rounding, in -1..1, decoded on one device; frames, uint8)."""
    devices = jax.devices()[: int(np.prod(list(sizes.values()) or [1]))]
    mesh = sharding.make_mesh(sizes, devices)
    placed = dataclasses.replace(model, arrays=sharding.place(model.arrays, mesh))
    kept = Kept()
    with jax.set_mesh(mesh):
        frames = generate(placed, clips(model.arch), range(CLIPS), SamplingOptions(), store=kept)
    return np.asarray(
        codec.decode(model.arrays["codec"], model.arch.codec, jnp.asarray(kept.latents))
    ), frames


def vae_on(params: Any, arch: arch_lib.VAEArch, video: np.ndarray, sizes: dict[str, int]) -> list[np.ndarray]:
    """Latents of a video, and what they decode to."""
    mesh = sharding.make_mesh(sizes, jax.devices()[: int(np.prod(list(sizes.values()) or [1]))])
    with jax.set_mesh(mesh):
        rows = (sharding.ROWS, None, sharding.TOKENS)
        latents = jax.jit(lambda p, x: codec.encode(p, arch, sharding.constrain(x, *rows)))(params, video)
        decoded = jax.jit(lambda p, x: codec.decode(p, arch, sharding.constrain(x, *rows)))(params, latents)
    return [np.asarray(latents), np.asarray(decoded)]


def decoding_work(arch: arch_lib.VAEArch, params: Any, sizes: dict[str, int]) -> float:
    """Products that one device does to decode a clip with 30 rows of latents."""
    mesh = sharding.make_mesh(sizes, jax.devices()[: int(np.prod(list(sizes.values()) or [1]))])
    latents = jax.ShapeDtypeStruct((1, 5, 30, 46, 16), np.float32, sharding=sharding.by_rows(mesh))
    with jax.set_mesh(mesh):
        compiled = jax.jit(lambda p, x: codec.decode(p, arch, x)).lower(params, latents).compile()
    return sum(one.times * one.flops for one in work.operations(hlo.parse(compiled.as_text() or "")))


def main() -> None:
    """Compare, print and write."""
    model = checkpoints.load(checkpoints.packaged())
    before, rounded = frames_on(model, {})
    small = arch_lib.VAEArch(block_widths=(16, 16, 32, 32), layers_per_block=1, norm_groups=4)
    params = codec.init_codec(jax.random.key(0), small)
    video = np.random.default_rng(0).uniform(-1, 1, (8, 9, 64, 96, 3)).astype(np.float32)
    latents, decoded = vae_on(params, small, video, {})
    report: dict[str, Any] = {}
    for sizes in MESHES:
        floats, levels = frames_on(model, sizes)
        difference = np.abs(levels.astype(int) - rounded)
        its_latents, its_video = vae_on(params, small, video, sizes)
        report[",".join(f"{axis}={size}" for axis, size in sizes.items())] = {
            "frames_before_rounding_max": float(np.abs(floats - before).max()),
            "levels_max": int(difference.max()),
            "values_that_differ": float((difference > 0).mean()),
            "vae_latents_max": float(np.abs(its_latents - latents).max() / latents.std()),
            "vae_frames_max": float(np.abs(its_video - decoded).max() / decoded.std()),
            "vae_values_that_differ": float((to_pixels(its_video) != to_pixels(decoded)).mean()),
        }
        print(sizes, json.dumps(report[list(report)[-1]]), flush=True)
    alone = decoding_work(small, params, {})
    report["decoding_work_per_device"] = {
        name: round(decoding_work(small, params, sizes) / alone, 3)
        for name, sizes in (("tensor=4", {"tensor": 4}), ("tensor=4,context=2", {"tensor": 4, "context": 2}))
    }
    print(report["decoding_work_per_device"])
    atomic_write_text(RESULTS, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
