"""How fast and in how much memory a full-size checkpoint is converted and restored.

    python benchmarks/convert.py --work /scratch/convert

writes synthetic weights in the released names, shapes, type and shards (11.7 GiB), reads them once with
`cat`, converts them, verifies the result, restores it sharded onto 8 virtual devices and exports it,
each in a process of its own, and writes benchmarks/results/convert.json. It needs 40 GB of disk, all
given back. `--size small` does all this with a few MB.
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
from gencompositor_jax.conversion import plan, safetensors_io
from gencompositor_jax.conversion.configs import to_configs
from gencompositor_jax.conversion.safetensors_io import SafetensorsFile, Tensor

ROOT = Path(__file__).parent.parent
DEVICES = 8
IMPORTS = "import jax, gencompositor_jax.conversion.convert; jax.devices()"
RESTORE = """
import sys, jax
from gencompositor_jax import checkpoints
from gencompositor_jax.checkpoints import restore
folder = sys.argv[1]
mesh = jax.make_mesh((jax.device_count(),), ("shares",))
shardings = restore.spread(checkpoints.read_facts(folder)[0], mesh)
model = restore.load_sharded(folder, shardings)
leaves = jax.tree.leaves(model.arrays)
print(sum(s.data.nbytes for x in leaves for s in x.addressable_shards if s.device == jax.devices()[0]))
print(sum(x.nbytes for x in leaves))
"""


def small_release() -> ModelArch:
    """The release's architecture, all sizes small."""
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
    shapes = plan.leaf_shapes(arch)

    def there(rule: Any, root: str) -> tuple[int, ...]:
        shape = shapes[f"{root}/{rule.path}"][int(rule.stacked) :]
        return rule.to_torch(np.broadcast_to(np.float32(0), shape)).shape

    return {
        component: {
            rule.key.format(i=i): there(rule, root)
            for rule in rules
            for i in (range(layers) if rule.stacked else [None])
        }
        for component, (root, rules, layers) in plan.component_rules(arch).items()
    }


def write_release(
    folder: Path, arch: ModelArch, dtype: Any = jnp.bfloat16, shard_bytes: int = 5 * 10**9
) -> None:
    """Writes random weights as the release's folders; deterministic."""
    pool = np.random.default_rng(0).standard_normal(2**22 + 17, np.float32).astype(dtype)
    rng = np.random.default_rng(1)
    for component, fields in to_configs(arch).items():
        (folder / component).mkdir(parents=True)
        name = "scheduler_config.json" if component == "scheduler" else "config.json"
        (folder / component / name).write_text(json.dumps(fields))
    for component, shapes in torch_tensors(arch).items():
        tensors = {name: Tensor(shape, np.dtype(dtype)) for name, shape in shapes.items()}
        write_shards(folder / component, tensors, pool, rng, shard_bytes)


def write_shards(
    folder: Path, tensors: dict[str, Tensor], pool: np.ndarray, rng: np.random.Generator, shard_bytes: int
) -> None:
    """One component as shards of at most `shard_bytes` with an index, or as a single file."""

    def size(tensor: Tensor) -> int:
        return int(np.prod(tensor.shape)) * tensor.dtype.itemsize

    shards: list[dict[str, Tensor]] = [{}]
    for name, tensor in tensors.items():
        if shards[-1] and sum(map(size, shards[-1].values())) + size(tensor) > shard_bytes:
            shards.append({})
        shards[-1][name] = tensor

    def arrays(shard: dict[str, Tensor]) -> Iterator[np.ndarray]:
        for tensor in shard.values():
            yield np.resize(np.roll(pool, -int(rng.integers(pool.size))), tensor.shape)

    where: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        of = f"-{number:05d}-of-{len(shards):05d}" if len(shards) > 1 else ""
        file = f"diffusion_pytorch_model{of}.safetensors"
        safetensors_io.write(folder / file, shard, arrays(shard))
        where |= dict.fromkeys(shard, file)
    if len(shards) > 1:
        index = {"metadata": {}, "weight_map": where}
        (folder / "diffusion_pytorch_model.safetensors.index.json").write_text(json.dumps(index))


def measure(command: list[str], folder: Path = ROOT, env: dict[str, str] | None = None) -> dict[str, Any]:
    """Runs a command in a process of its own: seconds, peak memory in bytes, and what it printed."""
    began, peak, cpu = time.perf_counter(), 0, _cpu_of_children()
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | {"JAX_PLATFORMS": "cpu"} | (env or {}),
        stdout=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None:
        # The kernel's own high-water mark of this program; getrusage would count the parent's at the
        # fork, too.
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
    """Has the system forget the files it has read, where we may."""
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
    """Measures and writes the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="an empty or new folder for the files")
    parser.add_argument("--size", choices=("full", "small"), default="full")
    parser.add_argument("--keep", action="store_true", help="leave the files there")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "convert.json")
    args = parser.parse_args()
    args.work.mkdir(parents=True)
    try:
        results = benchmark(args.work, args.size)
    finally:
        if not args.keep:
            shutil.rmtree(args.work)
    args.out.parent.mkdir(exist_ok=True)
    args.out.write_text(json.dumps(results, indent=2) + "\n")
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
    write_release(release, arch, shard_bytes=5 * 10**9 if size == "full" else 10**5)
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
    share, all_of_it = map(int, restored["printed"].split())
    shapes = plan.leaf_shapes(arch).items()
    block = sum(
        2 * int(np.prod(shape[1:])) for name, shape in shapes if name.startswith("backbone/params/blocks")
    )
    results["restore"] = _speed(restored, all_of_it) | {
        "devices": DEVICES,
        "share_of_one_device_bytes": share,
        "one_layer_bytes": block,
        "array_bytes": all_of_it,
        "above_interpreter_and_arrays_bytes": restored["peak_bytes"] - interpreter["peak_bytes"] - all_of_it,
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
