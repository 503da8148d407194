"""Time and memory of converting, verifying, restoring and exporting a full-size checkpoint.

    python benchmarks/convert.py --work /scratch/convert

writes random weights with the released names, shapes, type and shards (11.7 GiB), reads them once with
`cat`, converts them, verifies the result, restores it sharded onto 8 virtual devices and exports it, each in
a process of its own. The results go to benchmarks/results/convert.json. It needs 40 GB of disk space and
frees it at the end. `--size small` runs all this with a few MB.
"""

import argparse
import dataclasses
import hashlib
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from gencompositor_jax.arch import ModelArch, TransformerArch, VAEArch
from gencompositor_jax.conversion import tensor_map
from gencompositor_jax.conversion.configs import to_configs
from gencompositor_jax.conversion.export import SHARD_BYTES, write_shards
from gencompositor_jax.conversion.safetensors_io import SafetensorsFile, Tensor
from gencompositor_jax.files import atomic_write_text

ROOT = Path(__file__).parent.parent
DEVICES = 8
IMPORTS = "import jax, gencompositor_jax.conversion.convert; jax.devices()"
RESTORE = """
import sys, jax
from gencompositor_jax import checkpoints
from gencompositor_jax.checkpoints import restore
folder = sys.argv[1]
mesh = jax.make_mesh((jax.device_count(),), ("shares",))
shardings = restore.fully_sharded(checkpoints.read_metadata(folder).arch, mesh)
model = restore.load_sharded(folder, shardings)
leaves = jax.tree.leaves(model.arrays)
print(sum(s.data.nbytes for x in leaves for s in x.addressable_shards if s.device == jax.devices()[0]))
print(sum(x.nbytes for x in leaves))
"""


def small_release() -> ModelArch:
    """The release's architecture with small sizes."""
    stack = TransformerArch(
        num_layers=4, num_heads=2, head_dim=16, time_embed_dim=16, text_dim=24, text_tokens=6
    )
    vae = VAEArch(
        block_widths=(4, 8, 8, 8), layers_per_block=1, latent_channels=4, norm_groups=2, tile=(240, 360)
    )
    return ModelArch(
        frames=9,
        height=64,
        width=96,
        backbone=stack,
        branch=dataclasses.replace(stack, num_layers=2),
        codec=vae,
    )


def torch_tensors(arch: ModelArch) -> dict[str, dict[str, tuple[int, ...]]]:
    """Names and shapes of the released components' tensors."""
    shapes = tensor_map.shapes_by_path(arch)
    found: dict[str, dict[str, tuple[int, ...]]] = {}
    for component, rules in tensor_map.component_rules(arch).items():
        found[component] = {}
        for name, _, rule in rules.tensors():
            shape = shapes[f"{rules.root}/{rule.path}"][int(rule.stacked) :]
            # A view of one number has any shape and takes no memory.
            found[component][name] = rule.to_torch(np.broadcast_to(np.float32(0), shape)).shape
    return found


def write_release(
    folder: Path, arch: ModelArch, dtype: Any = jnp.bfloat16, shard_bytes: int = SHARD_BYTES
) -> None:
    """Write deterministic random weights as the release's folders."""
    values = np.random.default_rng(0).standard_normal(2**22 + 17, np.float32).astype(dtype)
    rng = np.random.default_rng(1)
    for component, fields in to_configs(arch).items():
        (folder / component).mkdir(parents=True)
        name = "scheduler_config.json" if component == "scheduler" else "config.json"
        (folder / component / name).write_text(json.dumps(fields))
    for component, shapes in torch_tensors(arch).items():

        def read(names: list[str], shapes: dict[str, tuple[int, ...]] = shapes) -> Iterator[np.ndarray]:
            for name in names:
                yield np.resize(np.roll(values, -int(rng.integers(values.size))), shapes[name])

        tensors = {name: Tensor(shape, np.dtype(dtype)) for name, shape in shapes.items()}
        write_shards(folder / component, tensors, read, shard_bytes)


def measure(command: list[str], folder: Path = ROOT, env: dict[str, str] | None = None) -> dict[str, Any]:
    """Run a command in a process of its own: seconds, peak memory in bytes, and its output."""
    began, peak, cpu = time.perf_counter(), 0, _cpu_of_children()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | {"JAX_PLATFORMS": "cpu"} | (env or {}),
        stdout=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None:
        # The kernel's high-water mark of this program; getrusage would include the parent's at the fork.
        status = Path(f"/proc/{process.pid}/status").read_text()
        mark = next((line for line in status.splitlines() if line.startswith("VmHWM:")), "VmHWM: 0 kB")
        peak = max(peak, int(mark.split()[1]) * 1024)
        time.sleep(0.01)
    if process.returncode:
        raise SystemExit(f"{' '.join(command[:5])} ...: failed with {process.returncode}")
    assert process.stdout is not None
    return {
        "seconds": round(time.perf_counter() - began, 1),
        "cpu_seconds": round(_cpu_of_children() - cpu, 1),
        "peak_bytes": peak,
        "printed": process.stdout.read(),
    }


def _cpu_of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def drop_caches() -> bool:
    """Empty the page cache. Returns whether that is permitted."""
    subprocess.run(["sync"], check=False)
    try:
        Path("/proc/sys/vm/drop_caches").write_text("3")
    except OSError:
        return False
    return True


def tensor_hashes(folder: Path) -> dict[str, str]:
    """SHA-256 of type, shape and bytes of every tensor below a folder, by component and name."""
    found = {}
    for path in sorted(folder.glob("*/*.safetensors")):
        file = SafetensorsFile(path)
        for name, array in file.stream(lambda _: None):
            digest = hashlib.sha256(f"{array.dtype} {array.shape}".encode())
            digest.update(array.reshape(-1).view(np.uint8).data)
            found[f"{path.parent.name}/{name}"] = digest.hexdigest()
    return found


def main() -> None:
    """Measure and writes the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="new folder for the files")
    parser.add_argument("--size", choices=("full", "small"), default="full")
    parser.add_argument("--keep", action="store_true", help="keep the files")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "convert.json")
    args = parser.parse_args()
    args.work.mkdir(parents=True)
    try:
        results = benchmark(args.work, args.size)
    finally:
        if not args.keep:
            shutil.rmtree(args.work)
    args.out.parent.mkdir(exist_ok=True)
    atomic_write_text(args.out, json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


def benchmark(work: Path, size: str) -> dict[str, Any]:
    """All measurements; sizes in bytes."""
    arch = (
        dataclasses.replace(ModelArch(), codec=VAEArch(tile=(240, 360)))
        if size == "full"
        else small_release()
    )
    work = work.absolute()
    release, checkpoint, exported = work / "release", work / "checkpoint", work / "exported"
    write_release(release, arch, shard_bytes=SHARD_BYTES if size == "full" else 10**5)
    files = sorted(release.glob("*/*.safetensors"))
    total = sum(file.stat().st_size for file in files)
    stack = arch.backbone
    np.save(work / "null.npy", np.zeros((stack.text_tokens, stack.text_dim), np.float32))
    python = sys.executable
    cold = drop_caches()
    cat = measure(["sh", "-c", 'cat "$@" > /dev/null', "cat", *map(str, files)])
    drop_caches()
    copied = measure(["sh", "-c", 'cat "$@" > copy', "cat", *(str(file.absolute()) for file in files)], work)
    (work / "copy").unlink()
    interpreter = measure([python, "-c", IMPORTS])
    drop_caches()
    cli = [python, "-m", "gencompositor_jax"]
    null = ["--null-text", str(work / "null.npy")]
    shards = ["--shard", str(DEVICES)]
    converted = measure([*cli, "convert", str(release), *null, *shards, "--out", str(checkpoint)])
    results: dict[str, Any] = {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "load_after_converting": round(os.getloadavg()[0], 1),
        "source_bytes": total,
        "files": len(files),
        "read_from_disk": cold,
        "interpreter_peak_bytes": interpreter["peak_bytes"],
        "cat": _speed(cat, total),
        "cat_to_a_file": _speed(copied, total),
        "convert": _speed(converted, total)
        | {"above_interpreter_bytes": converted["peak_bytes"] - interpreter["peak_bytes"]},
    }
    results["convert"]["times_cat_to_a_file"] = round(converted["seconds"] / max(copied["seconds"], 0.1), 1)
    results["convert"]["times_cat"] = round(converted["seconds"] / max(cat["seconds"], 0.1), 1)
    verified = measure([*cli, "inspect", str(checkpoint), "--verify"])
    results["verify"] = _speed(verified, total)
    flags = {"XLA_FLAGS": f"--xla_force_host_platform_device_count={DEVICES}"}
    drop_caches()
    restored = measure([python, "-c", RESTORE, str(checkpoint)], env=flags)
    shard, all_shards = map(int, restored["printed"].split())
    shapes = tensor_map.shapes_by_path(arch).items()
    block = sum(
        2 * int(np.prod(shape[1:])) for name, shape in shapes if name.startswith("backbone/params/blocks")
    )
    results["restore"] = _speed(restored, all_shards) | {
        "devices": DEVICES,
        "share_of_one_device_bytes": shard,
        "one_layer_bytes": block,
        "array_bytes": all_shards,
        "above_interpreter_and_arrays_bytes": restored["peak_bytes"] - interpreter["peak_bytes"] - all_shards,
    }
    before = tensor_hashes(release)
    shutil.rmtree(release)
    results["export"] = _speed(measure([*cli, "export", str(checkpoint), "--out", str(exported)]), total)
    results["round_trip_identical"] = before == tensor_hashes(exported)
    results["tensors"] = len(before)
    return results


def _speed(measured: dict[str, Any], total: int) -> dict[str, Any]:
    seconds = measured["seconds"]
    return {
        "seconds": seconds,
        "gb_per_second": round(total / 1e9 / max(seconds, 1e-3), 3),
        "cpu_seconds": measured["cpu_seconds"],
        "peak_bytes": measured["peak_bytes"],
    }


if __name__ == "__main__":
    main()
