"""PyTorch weights -> one Orbax checkpoint, in one pass over the files.

Each file is read once from start to end and hashed on the way. Every tensor is checked for NaN, converted and
written at once as its part of an array, while the next one is read, so memory holds a few tensors. All that
the headers show is checked before anything is written, and the checkpoint appears once it is complete.

The buffers of the tensors are reused: allocating memory would cost more than reading into it.
"""

import dataclasses
import math
import queue
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np

from gencompositor_jax import checkpoints
from gencompositor_jax.arch import ModelArch
from gencompositor_jax.checkpoints import manifest
from gencompositor_jax.checkpoints.manifest import ArraySpec
from gencompositor_jax.conversion import configs, tensor_map
from gencompositor_jax.conversion.arrays import ArrayFolder, all_finite
from gencompositor_jax.conversion.configs import Config
from gencompositor_jax.conversion.tensor_map import Target, TensorMap
from gencompositor_jax.conversion.text_encoder import TextEmbeddings
from gencompositor_jax.conversion.weights_folder import WeightsFolder, stream_and_hash
from gencompositor_jax.errors import DifferencesError, InputError
from gencompositor_jax.files import atomic_folder, check_new_folder, check_space

DTYPES = ("keep", "bfloat16", "float16", "float32")
WRITERS = 2  # threads
BUFFERS = 6  # tensors in memory; every second one is a bias and tiny

Progress = Callable[[int, int], None]  # (bytes read, total bytes)


@dataclasses.dataclass(frozen=True)
class Components:
    """The opened components of a conversion, and the scheduler's configuration."""

    transformer: WeightsFolder
    branch: WeightsFolder | None
    vae: WeightsFolder
    scheduler: Config


@dataclasses.dataclass(frozen=True)
class Conversion:
    """A conversion that was checked and can be run."""

    arch: ModelArch
    weights: Mapping[str, WeightsFolder]
    tensor_map: TensorMap
    unused: Mapping[str, Sequence[str]]  # tensors by component
    constants: Mapping[str, np.ndarray]  # arrays that no tensor fills, by their paths
    dtypes: Mapping[str, str]  # of all arrays but the text embeddings


@dataclasses.dataclass(frozen=True)
class Report:
    """Results of a conversion."""

    folder: Path
    bytes_read: int
    bytes_written: int
    unused: Mapping[str, Sequence[str]]


def check_released(parts: Components, dtype: str = "keep", released_tiles: bool = True) -> Conversion:
    """Check the release's components, tensor by tensor, from the headers of their files.

    Raises InputError with the file and field, or with the list of all differences.
    """
    if parts.branch is None:
        raise InputError("no branch folder was found; pass --branch (or --init-from for plain CogVideoX-I2V)")
    config = parts.transformer.config
    if "patch_embed.fg_proj.weight" not in parts.transformer.tensors and (
        config.fields.get("_class_name") in configs.PLAIN_CLASSES
    ):
        raise config.wrong(
            "_class_name", "plain CogVideoX has no foreground projection; use --init-from to start from it"
        )
    heads = any(name.startswith("branch_x_embedder.") for name in parts.branch.tensors)
    arch = configs.model_arch(
        config, parts.branch.config, parts.vae.config, parts.scheduler, heads, released_tiles
    )
    weights = {"transformer": parts.transformer, "branch": parts.branch, "vae": parts.vae}
    return check(arch, weights, tensor_map.released_map(arch), {}, dtype)


def check(
    arch: ModelArch,
    weights: Mapping[str, WeightsFolder],
    wanted: TensorMap,
    constants: Mapping[str, np.ndarray],
    dtype: str,
) -> Conversion:
    """Check a tensor map against the files' headers. Raises InputError with the list of differences."""
    if dtype not in DTYPES:
        raise InputError(f"--dtype {dtype}: supported are {', '.join(DTYPES)}")
    tensors = {name: each.tensors for name, each in weights.items()}
    where = {name: each.folder for name, each in weights.items()}
    tensor_map.check_sizes(arch, tensors, where)
    filled = {"null_text", *constants}
    unused = tensor_map.check(wanted, tensors, tensor_map.shapes_by_path(arch), filled, where)
    dtypes = {name: array.dtype.name for name, array in constants.items()}
    for component, targets in wanted.items():
        for name, each in targets.items():
            given = tensors[component][name].dtype.name
            for target in each:
                if dtypes.setdefault(target.array, given) != given and dtype == "keep":
                    raise InputError(
                        f"{where[component]}: {name} is {given}, other layers are {dtypes[target.array]}; "
                        "pass --dtype"
                    )
    if dtype != "keep":
        dtypes = dict.fromkeys(dtypes, dtype)
    return Conversion(arch, weights, wanted, unused, constants, dtypes)


def run(
    conversion: Conversion,
    text: TextEmbeddings,
    out: Path,
    shards: int = 1,
    overwrite: bool = False,
    provenance: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Report:
    """Convert. The checkpoint appears once it is complete; after a crash, run the conversion again.

    shards: number of files per large layer, for loading onto a mesh of as many devices. Raises InputError
    with the list of all tensors that hold NaN or infinity, and where the checkpoint can't be written.
    """
    specs = _specs(conversion, text)
    needed = sum(math.prod(spec.shape) * jnp.dtype(spec.dtype).itemsize for spec in specs.values())
    check_new_folder(out, overwrite, "model.json")
    check_space(out, needed)
    total, done = sum(each.bytes for each in conversion.weights.values()), 0
    hashes: dict[str, dict[str, str]] = {name: {} for name in conversion.weights}

    def on_read(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, total)

    with atomic_folder(out, overwrite) as folder:
        empty = [name for name in ("codec",) if not any(path.startswith(f"{name}/") for path in specs)]
        arrays = ArrayFolder(folder / "arrays", specs, empty, shards)
        for name, array in {**conversion.constants, **text.arrays}.items():
            arrays.put(name, None, array)
        with _Writers(arrays) as writers:
            for component, weights in conversion.weights.items():
                tensors = stream_and_hash(weights, hashes[component], on_read, writers.allocate)
                for name, tensor in tensors:
                    targets = conversion.tensor_map[component].get(name, [])
                    writers.put(f"{weights.folder}: {name}", tensor, targets)
        if missing := arrays.missing():
            raise AssertionError(f"not written: {missing}")
        origin = {
            "made_by": "gencompositor convert",
            **(provenance or {}),
            "sources": hashes,
            "unused": {name: list(names) for name, names in conversion.unused.items() if names},
            **text.provenance,
        }
        checkpoints.write_metadata(folder, checkpoints.Metadata(conversion.arch, origin, tuple(text.prompts)))
        known = {f"arrays/{name}": file for name, file in arrays.hashes.items()}
        manifest.write(folder, specs, known)
    return Report(out, total, needed, conversion.unused)


def _specs(conversion: Conversion, text: TextEmbeddings) -> dict[str, ArraySpec]:
    """Type and shape of every array. Raises InputError where a text embedding doesn't fit."""
    shapes = tensor_map.shapes_by_path(conversion.arch)
    wanted = shapes.pop("null_text")
    for name, array in text.arrays.items():
        if array.shape != wanted:
            raise InputError(f"{name}: shape {list(array.shape)}, the model takes {list(wanted)}")
        if not np.isfinite(array).all():
            raise InputError(f"{name}: holds NaN or infinity")
    specs = {name: ArraySpec(conversion.dtypes[name], shape) for name, shape in shapes.items()}
    return specs | {name: ArraySpec(array.dtype.name, wanted) for name, array in text.arrays.items()}


class _Writers:
    """Threads that write tensors while the next ones are read.

    The first error stops them all. Tensors with NaN or infinity are collected and reported at the end.
    """

    def __init__(self, arrays: ArrayFolder) -> None:
        self._arrays = arrays
        self._pool = ThreadPoolExecutor(WRITERS)
        self._free: queue.SimpleQueue[np.ndarray] = queue.SimpleQueue()
        for _ in range(BUFFERS):
            self._free.put(np.empty(0, np.uint8))
        self._not_finite: list[str] = []
        self._error: BaseException | None = None

    def allocate(self, count: int) -> np.ndarray:
        """A buffer for the tensor that is put next; waits until one is free."""
        self._buffer = self._free.get()
        if self._error is not None:
            raise self._error
        if self._buffer.size < count:
            self._buffer = np.empty(count, np.uint8)
        return self._buffer[:count]

    def put(self, where: str, tensor: np.ndarray, targets: Sequence[Target]) -> None:
        """Queue a tensor, stored in the buffer that `allocate` returned last, for writing to its targets."""
        buffer = self._buffer
        self._pool.submit(self._write, where, tensor, targets).add_done_callback(
            lambda future: self._done(future, buffer)
        )

    def _write(self, where: str, tensor: np.ndarray, targets: Sequence[Target]) -> None:
        if not all_finite(tensor):
            self._not_finite.append(where)
        if not self._not_finite:  # otherwise the rest is only checked
            for target in targets:
                self._arrays.put(target.array, target.layer, target.to_jax(tensor))

    def _done(self, future: "Future[None]", buffer: np.ndarray) -> None:
        if not future.cancelled():
            self._error = self._error or future.exception()
        self._free.put(buffer)

    def __enter__(self) -> "_Writers":
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=kind is not None)
        if kind is not None:
            return
        if self._error is not None:
            raise self._error
        if self._not_finite:
            raise DifferencesError(f"NaN or infinity in {len(self._not_finite)} tensors", self._not_finite)
