"""Lowers and compiles the training step of a config for virtual devices; prints its memory per device.

    python benchmarks/compile_train_step.py --config configs/gencompositor_6b.py --devices 8
    python benchmarks/compile_train_step.py --devices 8 --config.mesh.context=8 --config.batch_size=1

Nothing is allocated: arrays are shapes. What a device holds between steps is exact. XLA's temporaries are
those of its CPU backend, which computes bfloat16 in float32 and attends in query chunks: about twice what an
accelerator needs. Takes minutes. Adds to benchmarks/results/compile_train_step.json.
"""

import argparse
import json
import os
import time
from pathlib import Path

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--config", default="configs/gencompositor_6b.py")
parser.add_argument("--devices", type=int, default=8)
parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "compile_train_step.json")
args, rest = parser.parse_known_args()
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = f"--xla_force_host_platform_device_count={args.devices}"

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402

from gencompositor_jax import arch as arch_lib  # noqa: E402
from gencompositor_jax import sharding  # noqa: E402
from gencompositor_jax.denoiser import Denoiser  # noqa: E402
from gencompositor_jax.training import state as state_lib  # noqa: E402
from gencompositor_jax.training.config import load_config  # noqa: E402
from gencompositor_jax.training.step import make_step  # noqa: E402

GIB = 2**30


def share(tree: object) -> int:
    """Bytes of one device's shares of a tree of placed shapes."""
    leaves = jax.tree.leaves(tree)
    return sum(
        jnp.dtype(x.dtype).itemsize * int(jnp.prod(jnp.array(x.sharding.shard_shape(x.shape))))
        for x in leaves
    )


def main() -> None:
    """Compiles and reports."""
    config = load_config(args.config, [r.removeprefix("--config.") for r in rest])
    arch = arch_lib.preset(config.arch, config.arch_changes.to_dict())
    mesh = sharding.make_mesh(config.mesh)
    sharding.check_batch(config.batch_size, config.optimizer.accumulate, mesh)
    optimizer = state_lib.make_optimizer(config)
    state, frozen = state_lib.shapes(config, arch, optimizer, mesh)
    frames = (config.batch_size, arch.frames, arch.height, arch.width)
    rows = sharding.by_rows(mesh)
    batch = {
        name: jax.ShapeDtypeStruct((*frames, 3), jnp.uint8, sharding=rows)
        for name in ("target", "masked_background", "foreground")
    }
    batch["mask"] = jax.ShapeDtypeStruct(frames, jnp.bool_, sharding=rows)
    denoiser = Denoiser(arch, jnp.dtype(config.compute_dtype), config.remat)
    with jax.set_mesh(mesh):
        began = time.perf_counter()
        lowered = make_step(config, denoiser, optimizer, state, mesh).lower(state, frozen, batch)
        to_lower = time.perf_counter() - began
        print(f"lowered in {to_lower:.0f} s", flush=True)
        compiled = lowered.compile()
    facts = compiled.memory_analysis()
    assert facts is not None
    report = {
        "config": args.config,
        "changes": rest,
        "devices": args.devices,
        "mesh": dict(mesh.shape),
        "batch_size": config.batch_size,
        "jax": jax.__version__,
        "lower_seconds": round(to_lower, 1),
        "compile_seconds": round(time.perf_counter() - began - to_lower, 1),
        "gib_per_device": {
            "parameters": share(state.params) / GIB,
            "average": share(state.ema) / GIB,
            "moments": share(state.optimizer) / GIB,
            "frozen": share(frozen) / GIB,
            "batch": share(batch) / GIB,
            "arguments (XLA)": facts.argument_size_in_bytes / GIB,
            "outputs beside the arguments (XLA)": (facts.output_size_in_bytes - facts.alias_size_in_bytes)
            / GIB,
            "temporaries (XLA, CPU)": facts.temp_size_in_bytes / GIB,
        },
    }
    args.out.parent.mkdir(exist_ok=True)
    others = json.loads(args.out.read_text()) if args.out.exists() else []
    told = ("config", "changes", "devices")
    reports = [r for r in others if any(r[k] != report[k] for k in told)] + [report]
    args.out.write_text(json.dumps(reports, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
