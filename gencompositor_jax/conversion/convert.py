"""PyTorch weights -> one Orbax checkpoint, in one pass over the files.

Each file is read once from front to end, hashed on the way; every tensor is checked for NaN, brought
into our layout and written at once as its piece of an array, while the next one is read. So memory holds
a few tensors, whatever the size. All that can be known from headers is checked before anything is
written; the checkpoint appears under its name only when it is complete.

The memory for the tensors is used again and again: fresh memory would cost more than reading into it.
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
from gencompositor_jax.checkpoints.manifest import ArrayFacts
from gencompositor_jax.conversion import configs, plan, sources
from gencompositor_jax.conversion.arrays import ArrayFolder
from gencompositor_jax.conversion.configs import Config
from gencompositor_jax.conversion.layout import has_only_numbers
from gencompositor_jax.conversion.plan import Piece, Plan
from gencompositor_jax.conversion.sources import Source
from gencompositor_jax.errors import InputError
from gencompositor_jax.files import atomic_folder, check_new_folder, check_space

DTYPES = ("keep", "bfloat16", "float16", "float32")
WRITERS = 2
IN_FLIGHT = 6  # tensors in memory; every second one is a bias and tiny

Progress = Callable[[int, int], None]  # (bytes read, bytes in all)


@dataclasses.dataclass(frozen=True)
class Components:
    """The opened sources of a conversion, and the scheduler's configuration."""

    transformer: Source
    branch: Source | None
    vae: Source
    scheduler: Config

    @property
    def by_name(self) -> dict[str, Source]:
        """Those that have tensors."""
        found = {"transformer": self.transformer, "branch": self.branch, "vae": self.vae}
        return {name: source for name, source in found.items() if source is not None}


@dataclasses.dataclass(frozen=True)
class Text:
    """Text embeddings float [L, D], and where they come from."""

    null: np.ndarray
    prompts: Mapping[str, np.ndarray] = dataclasses.field(default_factory=dict)
    provenance: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Job:
    """A conversion that was checked and can be run."""

    arch: ModelArch
    sources: Mapping[str, Source]
    plan: Plan
    unused: Mapping[str, Sequence[str]]
    constants: Mapping[str, np.ndarray]  # arrays that no tensor fills, by their paths
    dtypes: Mapping[str, str]  # of all arrays but those of the text


@dataclasses.dataclass(frozen=True)
class Report:
    """What a conversion did."""

    folder: Path
    arch: ModelArch
    bytes_read: int
    bytes_written: int
    unused: Mapping[str, Sequence[str]]


def config_of(source: Source) -> Config:
    """The configuration of a source. Raises InputError where it has none."""
    if source.config is None:
        raise InputError(
            f"{source.config_file}: missing; put the {source.name}'s config.json beside its weights"
        )
    return Config(source.config_file, source.config)


def check_released(parts: Components, dtype: str = "keep", released_tiles: bool = True) -> Job:
    """Checks the release's components against each other, name by name and shape by shape; reads no tensor.

    Raises InputError with the file and field, or with the complete list of what doesn't fit.
    """
    if parts.branch is None:
        raise InputError("no branch folder was found; pass --branch (or --init-from for plain CogVideoX-I2V)")
    transformer = config_of(parts.transformer)
    if "patch_embed.fg_proj.weight" not in parts.transformer.tensors and (
        transformer.fields.get("_class_name") in configs.PLAIN_CLASSES
    ):
        raise transformer.wrong(
            "_class_name", "plain CogVideoX has no foreground projection; use --init-from to start from it"
        )
    heads = any(name.startswith("branch_x_embedder.") for name in parts.branch.tensors)
    arch = configs.model_arch(
        transformer, config_of(parts.branch), config_of(parts.vae), parts.scheduler, heads, released_tiles
    )
    return job(arch, parts.by_name, plan.released_plan(arch), {}, dtype)


def job(
    arch: ModelArch,
    found: Mapping[str, Source],
    wanted: Plan,
    constants: Mapping[str, np.ndarray],
    dtype: str,
) -> Job:
    """Checks a plan against the sources' headers. Raises InputError with the complete list of what
    doesn't fit.
    """
    if dtype not in DTYPES:
        raise InputError(f"--dtype {dtype}: known are {', '.join(DTYPES)}")
    shapes = plan.leaf_shapes(arch)
    tensors = {name: source.tensors for name, source in found.items()}
    where = {name: source.folder for name, source in found.items()}
    unused = plan.check(wanted, tensors, shapes, {"null_text", *constants}, where)
    dtypes = {name: array.dtype.name for name, array in constants.items()}
    for component, by_tensor in wanted.items():
        for tensor, places in by_tensor.items():
            for piece in places:
                ours = dtypes.setdefault(piece.leaf, tensors[component][tensor].dtype.name)
                if ours != tensors[component][tensor].dtype.name and dtype == "keep":
                    raise InputError(
                        f"{where[component]}: {tensor} has another type than its like; pass --dtype"
                    )
    if dtype != "keep":
        dtypes = dict.fromkeys(dtypes, dtype)
    return Job(arch, found, wanted, unused, constants, dtypes)


def run(
    work: Job,
    text: Text,
    out: Path,
    parts: int = 1,
    overwrite: bool = False,
    provenance: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> Report:
    """Converts. The checkpoint appears whole or not at all; a killed conversion is simply started again.

    parts: cut each layer in as many files, for loading into a mesh of so many devices. Raises InputError
    naming all tensors with NaN or infinity, and where the disk is full or read-only.
    """
    leaves = _leaves(work, text)
    needed = sum(math.prod(facts.shape) * jnp.dtype(facts.dtype).itemsize for facts in leaves.values())
    check_new_folder(out, overwrite)
    check_space(out, needed)
    total = sum(source.bytes for source in work.sources.values())
    hashes: dict[str, dict[str, str]] = {}
    with atomic_folder(out, overwrite) as folder:
        empty = [name for name in ("codec",) if not any(leaf.startswith(f"{name}/") for leaf in leaves)]
        arrays = ArrayFolder(folder / "arrays", leaves, empty, parts)
        for name, array in {**work.constants, **_text_arrays(text)}.items():
            arrays.put(name, None, array)
        done = 0

        def read(count: int) -> None:
            nonlocal done
            done += count
            if progress is not None:
                progress(done, total)

        with _Writers(arrays) as writers:
            for component, source in work.sources.items():
                hashes[component] = {}
                for name, tensor in sources.hashing(source, hashes[component], read, writers.room):
                    writers.put(f"{source.folder}: {name}", tensor, work.plan[component].get(name, []))
        if missing := arrays.missing():
            raise AssertionError(f"not written: {missing}")
        facts = {
            "made_by": "gencompositor convert",
            **(provenance or {}),
            "sources": hashes,
            "unused": {name: list(names) for name, names in work.unused.items() if names},
            **text.provenance,
        }
        checkpoints.write_facts(folder, checkpoints.Facts(work.arch, facts, tuple(text.prompts)))
        known = {f"arrays/{name}": file for name, file in arrays.hashes.items()}
        manifest.write(folder, leaves, known)
    return Report(out, work.arch, total, needed, work.unused)


class _Writers:
    """Threads that write tensors while the next are read. The first error stops all; NaN is collected."""

    def __init__(self, arrays: ArrayFolder) -> None:
        self._arrays = arrays
        self._pool = ThreadPoolExecutor(WRITERS)
        self._free: queue.SimpleQueue[np.ndarray] = queue.SimpleQueue()
        for _ in range(IN_FLIGHT):
            self._free.put(np.empty(0, np.uint8))
        self._not_finite: list[str] = []
        self._error: BaseException | None = None

    def room(self, count: int) -> np.ndarray:
        """Memory for the tensor that is put next, once a writer is done with an earlier one."""
        self._memory = self._free.get()
        if self._error is not None:
            raise self._error
        if self._memory.size < count:
            self._memory = np.empty(count, np.uint8)
        return self._memory[:count]

    def put(self, where: str, tensor: np.ndarray, places: Sequence[Piece]) -> None:
        """Has a tensor, which lies in what `room` returned last, written to its places."""
        memory = self._memory
        self._pool.submit(self._write, where, tensor, places).add_done_callback(
            lambda future: self._done(future, memory)
        )

    def _write(self, where: str, tensor: np.ndarray, places: Sequence[Piece]) -> None:
        if not has_only_numbers(tensor):
            self._not_finite.append(where)
        if not self._not_finite:  # otherwise the rest is only looked at, for the list
            for piece in places:
                self._arrays.put(piece.leaf, piece.layer, piece.change(tensor))

    def _done(self, future: "Future[None]", memory: np.ndarray) -> None:
        if not future.cancelled():
            self._error = self._error or future.exception()
        self._free.put(memory)

    def __enter__(self) -> "_Writers":
        return self

    def __exit__(self, kind: Any, *_: object) -> None:
        self._pool.shutdown(wait=True, cancel_futures=kind is not None)
        if kind is not None:
            return
        if self._error is not None:
            raise self._error
        if self._not_finite:
            raise InputError(
                f"NaN or infinity in {len(self._not_finite)} tensors: {'; '.join(self._not_finite)}"
            )


def _text_arrays(text: Text) -> dict[str, np.ndarray]:
    return {"null_text": text.null, **{f"prompts/{name}": each for name, each in text.prompts.items()}}


def _leaves(work: Job, text: Text) -> dict[str, ArrayFacts]:
    """Type and shape of every array that is written. Raises InputError where a text embedding doesn't fit."""
    shapes = plan.leaf_shapes(work.arch)
    wanted = shapes["null_text"]
    for name, array in _text_arrays(text).items():
        if array.shape != wanted:
            raise InputError(
                f"{name}: a text embedding of {list(array.shape)}, the model takes {list(wanted)}"
            )
        if not np.isfinite(array).all():
            raise InputError(f"{name}: the text embedding holds NaN or infinity")
    leaves = {
        name: ArrayFacts(work.dtypes[name], shape) for name, shape in shapes.items() if name != "null_text"
    }
    texts = {name: ArrayFacts(array.dtype.name, array.shape) for name, array in _text_arrays(text).items()}
    return {**leaves, **texts}
