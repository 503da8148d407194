"""Sampling at full size on one GPU: this package and PyTorch's CogVideoX transformer, random weights.

    pip install -e '.[parity,cuda]'                  # with a CUDA build of torch
    python benchmarks/gpu_vs_torch.py [--json]
    python benchmarks/gpu_vs_torch.py --minutes 8    # stops in time; the same command resumes
    python benchmarks/gpu_vs_torch.py --small        # end to end on a CPU; its times mean nothing

49 frames of 480 x 720. Both sides have the released backbone's blocks and 35,326 tokens: ours has text, video
and foreground tokens, and the background branch; PyTorch's has text and twice the video tokens, no branch,
and SDPA. No downloads and no weights are needed. Each side runs in processes of its own, in the order ours,
eager, ours, eager, then ours, compiled (torch.compile), ours, compiled; figures are medians over the
processes. "doubled" is a batch of two, as the release runs its guidance between two equal prompts; ours
evaluates equal prompts once. PyTorch's VAE is tiled, as in the release, and encodes two videos like ours,
where the release encodes three. Totals are encode + 20 steps + decode, from these figures; `gencompositor
benchmark --random released` measures ours as a whole.

Adds each finished process to benchmarks/results/gpu_vs_torch.json. Without torch and diffusers only ours is
measured.
"""

import argparse
import dataclasses
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from gencompositor_jax.files import atomic_write_text

if TYPE_CHECKING:
    from gencompositor_jax.arch import ModelArch

SIDES = ("ours", "eager", "compiled")
TOTAL_STEPS = 20  # of a composite
WARM_UP = 2
RESULTS = Path(__file__).parent / "results" / "gpu_vs_torch.json"


def architecture(small: bool) -> "ModelArch":
    """The released architecture, or a small one that a CPU runs in seconds."""
    from gencompositor_jax import arch

    if not small:
        return arch.released()
    stack = arch.TransformerArch(num_layers=2, num_heads=2, head_dim=64, text_dim=64, text_tokens=16)
    vae = arch.VAEArch(block_widths=(8, 16, 16, 32), layers_per_block=1, norm_groups=8)
    branch = dataclasses.replace(stack, num_layers=1)
    network = dataclasses.replace(arch.released(), backbone=stack, branch=branch, codec=vae)
    return dataclasses.replace(network, frames=9, height=64, width=96, base_grid=(4, 6))


# --- One side, in a process of its own ---


def measure_ours(small: bool, steps: int) -> dict[str, Any]:
    """Figures of ours: encode, steps with and without guidance, decode."""
    import jax
    import jax.numpy as jnp

    from gencompositor_jax.inference.compiling import keep_compiled_programs
    from gencompositor_jax.perf.benchmark import measure, sampling

    if not small and jax.default_backend() != "gpu":
        sys.exit("gpu_vs_torch: JAX finds no GPU here; pass --small to try the script on a CPU")
    keep_compiled_programs()  # compile times aren't compared, so later processes may use the cache
    model = sampling.random_model(architecture(small), jnp.float32 if small else jnp.bfloat16)
    plain = sampling.run(model, steps)
    doubled = sampling.run(model, steps, guided=True)
    return {
        "step": plain["step_seconds"]["median"],
        "step doubled": doubled["step_seconds"]["median"],
        "encode": plain["encode_seconds"]["median"],
        "decode": plain["decode_seconds"]["median"],
        "peak bytes": plain["peak_bytes"],
        "peak bytes doubled": doubled["peak_bytes"],  # of both runs: a process's peak never falls
        "mfu": plain["mfu"],
        "compile": plain["compile_seconds"],
        "joint tokens": plain["joint_tokens"],
        "device": measure.machine(jax.devices()[0])["device"],
        "versions": {"jax": jax.__version__},
    }


def measure_torch(small: bool, steps: int, compiled: bool) -> dict[str, Any]:
    """Figures of PyTorch: steps with and without a doubled batch; if not compiled, also the VAE."""
    import torch
    from diffusers import __version__ as diffusers_version

    if not small and not torch.cuda.is_available():
        sys.exit("gpu_vs_torch: PyTorch finds no GPU here; pass --small to try the script on a CPU")
    device = torch.device("cpu" if small else "cuda")
    dtype = torch.float32 if small else torch.bfloat16
    found: dict[str, Any] = {}

    def timed(name: str, run: Callable[[], object], count: int) -> None:
        """Record the median seconds of a call, and its peak memory."""
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        seconds = []
        for _ in range(WARM_UP + count):
            began = time.perf_counter()
            run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - began)
        found[name] = statistics.median(seconds[WARM_UP:])
        found[f"first {name}"] = seconds[0]
        if device.type == "cuda":
            found[f"peak bytes {name}"] = torch.cuda.max_memory_allocated()

    with torch.inference_mode():
        step, tokens = torch_transformer(architecture(small), device, dtype, compiled)
        timed("step", lambda: step(1), steps)
        timed("step doubled", lambda: step(2), steps)
        if not compiled:
            del step
            for tiled in (True, False):
                encode, decode = torch_vae(architecture(small), device, dtype, tiled)
                how = "" if tiled else " untiled"
                timed(f"encode{how}", encode, 1)
                timed(f"decode{how}", decode, 1)
                del encode, decode
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    versions = {"torch": torch.__version__, "diffusers": diffusers_version}
    return {**found, "joint tokens": tokens, "device": name, "versions": versions}


def torch_transformer(
    arch: "ModelArch", device: Any, dtype: Any, compiled: bool = False
) -> tuple[Callable[[int], object], int]:
    """A forward pass of PyTorch's transformer for a batch of 1 or 2, and its number of tokens."""
    import torch
    from diffusers import CogVideoXTransformer3DModel

    t, h, w, channels = arch.latent_shape
    stack = arch.backbone
    torch.set_default_dtype(dtype)
    with torch.device(device):
        model = CogVideoXTransformer3DModel(
            num_attention_heads=stack.num_heads,
            attention_head_dim=stack.head_dim,
            in_channels=2 * channels,
            out_channels=channels,
            time_embed_dim=stack.time_embed_dim,
            text_embed_dim=stack.text_dim,
            num_layers=stack.num_layers,
            sample_width=w,
            sample_height=h,
            sample_frames=4 * (2 * t - 1) + 1,
            max_text_seq_length=stack.text_tokens,
            use_rotary_positional_embeddings=True,
        ).eval()
        tokens = 2 * t * h * w // stack.patch**2
        rotary = torch.rand(tokens, stack.head_dim), torch.rand(tokens, stack.head_dim)
        video = torch.randn(2, 2 * t, 2 * channels, h, w)
        text = torch.randn(2, stack.text_tokens, stack.text_dim)
        timestep = torch.tensor([500, 500])
    torch.set_default_dtype(torch.float32)
    run = torch.compile(model, dynamic=False) if compiled else model

    def step(batch: int) -> object:
        return run(video[:batch], text[:batch], timestep[:batch], image_rotary_emb=rotary).sample

    return step, stack.text_tokens + tokens


def torch_vae(
    arch: "ModelArch", device: Any, dtype: Any, tiled: bool
) -> tuple[Callable[[], object], Callable[[], object]]:
    """Functions that encode two videos, one after the other, and decode one."""
    import torch
    from diffusers import AutoencoderKLCogVideoX

    codec: Any = arch.codec
    with torch.device(device):
        vae = AutoencoderKLCogVideoX(
            down_block_types=("CogVideoXDownBlock3D",) * 4,
            up_block_types=("CogVideoXUpBlock3D",) * 4,
            block_out_channels=codec.block_widths,
            layers_per_block=codec.layers_per_block,
            latent_channels=codec.latent_channels,
            norm_num_groups=codec.norm_groups,
            sample_height=arch.height,
            sample_width=arch.width,
        )
        t, h, w, channels = arch.latent_shape
        video = torch.randn(1, 3, arch.frames, arch.height, arch.width, dtype=dtype)
        latents = torch.randn(1, channels, t, h, w, dtype=dtype)
    vae = vae.to(dtype).eval()
    if tiled:
        vae.enable_tiling()
    return (
        lambda: [vae.encode(video).latent_dist.sample() for _ in range(2)],
        lambda: vae.decode(latents).sample,
    )


# --- All processes ---


def order(rounds: int, with_torch: bool) -> list[str]:
    """The side of each process, in order."""
    if not with_torch:
        return ["ours"] * rounds
    return [side for other in SIDES[1:] for _ in range(rounds) for side in ("ours", other)]


def missing() -> list[str]:
    """Packages of the PyTorch side that aren't installed."""
    return [name for name in ("torch", "diffusers") if importlib.util.find_spec(name) is None]


def run_side(side: str, args: argparse.Namespace) -> dict[str, Any]:
    """The figures of one process, or its exit code."""
    words = ["--side", side, "--steps", str(args.steps)] + ["--small"] * args.small
    env = dict(os.environ)
    if args.small:
        env |= {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [sys.executable, __file__, *words], env=env, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        return {"side": side, "failed": done.returncode}
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return {"side": side, **figures}


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Medians over the processes, totals, and ratios (PyTorch / ours: by what factor ours is faster)."""

    def median(side: str, name: str) -> float | None:
        found = [run[name] for run in runs if run["side"] == side and run.get(name) is not None]
        return statistics.median(found) if found else None

    kinds = [(side, how) for side in SIDES for how in ("", " doubled")]
    steps = {side + how: median(side, f"step{how}") for side, how in kinds}
    ends = {
        "ours": [median("ours", name) for name in ("encode", "decode")],
        "pytorch": [median("eager", name) for name in ("encode", "decode")],
        "pytorch untiled": [median("eager", f"{name} untiled") for name in ("encode", "decode")],
    }
    totals: dict[str, float] = {}
    for name, step in steps.items():
        encode, decode = ends["ours" if name.startswith("ours") else "pytorch"]
        if step is not None and encode is not None and decode is not None:
            totals[name] = encode + TOTAL_STEPS * step + decode
    peaks = {"ours": median("ours", "peak bytes"), "ours doubled": median("ours", "peak bytes doubled")}
    peaks |= {side + how: median(side, f"peak bytes step{how}") for side, how in kinds if side != "ours"}
    peaks |= {f"eager {name}": median("eager", f"peak bytes {name}") for name in ("encode", "decode")}
    ours, ours_total = steps["ours"], totals.get("ours")
    others = {name: step for name, step in steps.items() if name != "ours" and step is not None}
    return {
        "step_seconds": steps,
        f"total_seconds_{TOTAL_STEPS}_steps": totals,
        "vae_seconds": {
            name: dict(zip(("encode", "decode"), pair, strict=True)) for name, pair in ends.items()
        },
        "peak_bytes": peaks,
        "mfu": median("ours", "mfu"),
        "step_ratios": {n: step / ours for n, step in others.items() if ours},
        "total_ratios": {n: totals[n] / ours_total for n in others if ours_total and n in totals},
        "processes": {side: sum(run["side"] == side for run in runs) for side in SIDES},
    }


def table(report: dict[str, Any]) -> str:
    """The summary as a table."""
    summed, lines = report["summary"], []
    for name, step in summed["step_seconds"].items():
        if step is not None:
            total = summed[f"total_seconds_{TOTAL_STEPS}_steps"].get(name)
            ratio, peak = summed["step_ratios"].get(name, 1.0), summed["peak_bytes"].get(name)
            parts = [f"{name:<18} {step:8.4f} s per step ({ratio:.2f} x ours)"]
            parts += [] if total is None else [f"{total:7.2f} s in all"]
            parts += [] if not peak else [f"peak {peak / 2**30:.1f} GiB"]
            lines.append(", ".join(parts))
    for name, ends in summed["vae_seconds"].items():
        if ends["encode"] is not None:
            lines.append(f"VAE of {name}: encode {ends['encode']:.3f} s, decode {ends['decode']:.3f} s")
    return "\n".join(lines)


def read(out: Path, setting: dict[str, Any]) -> list[dict[str, Any]]:
    """The runs that an earlier call finished."""
    if not out.exists():
        return []
    known = json.loads(out.read_text())
    if known["setting"] != setting:
        sys.exit(
            f"gpu_vs_torch: {out} has runs of {known['setting']}, not {setting}; delete it or pass --out"
        )
    runs: list[dict[str, Any]] = known["runs"]
    return runs


def main() -> None:
    """Run the missing processes, write and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=2, help="processes of each side per pair (default 2)")
    parser.add_argument("--steps", type=int, default=8, help="steps that are timed per process (default 8)")
    parser.add_argument("--minutes", type=float, help="start no process after this time")
    parser.add_argument(
        "--small", action="store_true", help="a tiny network on the CPU; needs --out to write"
    )
    parser.add_argument("--out", type=Path, help=f"default {RESULTS}")
    parser.add_argument("--json", action="store_true", help="also print the summary as one last line of JSON")
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side == "ours":
        print(json.dumps(measure_ours(args.small, args.steps)))
        return
    if args.side:
        print(json.dumps(measure_torch(args.small, args.steps, args.side == "compiled")))
        return

    began, absent = time.monotonic(), missing()
    if absent:
        print(f"PyTorch is skipped: {' and '.join(absent)} can't be imported", flush=True)
    out = args.out or (None if args.small else RESULTS)
    setting = {"small": args.small, "rounds": args.rounds, "steps": args.steps, "torch": not absent}
    runs = [] if out is None else read(out, setting)
    for side in order(args.rounds, not absent)[len(runs) :]:
        if args.minutes is not None and time.monotonic() - began > 60 * args.minutes:
            print("out of time: the same command resumes here", flush=True)
            break
        runs.append(run_side(side, args))
        figure = f"{runs[-1]['step']:.4f} s per step" if "step" in runs[-1] else "failed, see above"
        print(f"{side}: {figure}", flush=True)
        if out is not None:
            write(out, {"setting": setting, "summary": summary(runs), "runs": runs})
    report = {"setting": setting, "summary": summary(runs), "runs": runs}
    print(table(report))
    if args.json:
        print(json.dumps(report["summary"]))


def write(out: Path, report: dict[str, Any]) -> None:
    """Write the report, parent folders included."""
    out.parent.mkdir(parents=True, exist_ok=True)
    atomic_write_text(out, json.dumps(report, indent=2) + "\n")


if __name__ == "__main__":
    main()
