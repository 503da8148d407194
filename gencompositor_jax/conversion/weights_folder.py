"""Folders of PyTorch weights: config.json beside one safetensors file, or beside several and their index.

    transformer/  branch/                           the release's model folder
    vae/  text_encoder/  tokenizer/  scheduler/     CogVideoX-5b-I2V

Pickle files (.bin, .pt, .pth, .ckpt, .pkl) can run code when they are read, so they are refused unless they
are explicitly allowed. Torch then reads them with weights_only.
"""

import dataclasses
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from gencompositor_jax import fields
from gencompositor_jax.conversion.configs import Config, read_config
from gencompositor_jax.conversion.prefixes import WeightsFile, WithoutPrefix, common_prefix
from gencompositor_jax.conversion.safetensors_io import Allocate, OnRead, SafetensorsFile, Tensor, new_buffer
from gencompositor_jax.errors import DifferencesError, InputError, first_line, listed
from gencompositor_jax.files import check_regular, open_regular, read_json

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


# The fields of an index: the file of each tensor. A name with a folder in it would leave the component's.
_INDEX = fields.schema(
    "Index",
    metadata=(dict[str, Any], {}),
    weight_map=fields.map_of(fields.Text, fields.name_of(r"^/\\\x00")),
)


@dataclasses.dataclass(frozen=True)
class WeightsFolder:
    """One component: its files, of which only the headers have been read, and its configuration."""

    name: str  # transformer, branch, vae, text_encoder
    folder: Path
    files: tuple[WeightsFile, ...]
    prefix: str = ""  # that all names in the files have, and those here haven't

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All tensors of all files."""
        return {name: tensor for file in self.files for name, tensor in file.tensors.items()}

    @property
    def bytes(self) -> int:
        """Size of the files."""
        return sum(file.size for file in self.files)

    @property
    def config(self) -> Config:
        """Its config.json. Raises InputError if it is missing."""
        file = self.folder / "config.json"
        if not file.exists():
            raise InputError(f"{file}: missing; put the {self.name}'s config.json beside its weights")
        return read_config(file)

    def read(self, name: str, rows: slice | None = None) -> np.ndarray:
        """One tensor, or some of its rows. Raises InputError where it is missing."""
        for file in self.files:
            if name in file.tensors:
                return file.read(name, rows)
        raise InputError(f"{self.folder}: {name} is missing")


def find(name: str, folders: Sequence[Path], given: Path | None = None) -> Path | None:
    """Path of a component: `given`, or the first of `folders` with such a subfolder, or None."""
    if given is not None:
        if not given.exists():
            raise InputError(f"{given}: no such file or folder; pass the {name}")
        return given
    return next((folder / name for folder in folders if (folder / name).is_dir()), None)


def open_weights(name: str, path: Path, allow_pickle: bool = False) -> WeightsFolder:
    """Open a component's folder or single file; reads headers only.

    Raises InputError for missing or truncated files, an index that disagrees with them, and pickle files that
    are not allowed.
    """
    folder = path if path.is_dir() else path.parent
    files = _indexed(folder) if path.is_dir() else None
    if files is None:
        files = tuple(
            _open(file, allow_pickle) for file in ([path] if path.is_file() else [_only_file(name, path)])
        )
    prefix = common_prefix([tensor for file in files for tensor in file.tensors])
    if prefix:
        files = tuple(WithoutPrefix(file, prefix) for file in files)
    seen: dict[str, Path] = {}
    for file in files:
        for tensor in file.tensors:
            if tensor in seen:
                raise InputError(f"{file.path}: {tensor} is also in {seen[tensor].name}")
            seen[tensor] = file.path
    return WeightsFolder(name, folder, files, prefix)


def stream_and_hash(
    weights: WeightsFolder, hashes: dict[str, str], on_read: Callable[[int], None], allocate: Allocate
) -> Iterator[tuple[str, np.ndarray]]:
    """All tensors, each in the memory that `allocate` returns for it; add each file's SHA-256 to `hashes`.

    on_read: called with the number of bytes of each piece that was read.
    """
    for file in weights.files:
        digest = hashlib.sha256()

        def update(data: memoryview, digest: Any = digest) -> None:
            digest.update(data)
            on_read(len(data))

        yield from file.stream(update, allocate)
        hashes[file.path.name] = digest.hexdigest()


def _indexed(folder: Path) -> tuple[WeightsFile, ...] | None:
    """The files that an index names, None without an index. Raises InputError where they differ from it."""
    indices = sorted(folder.glob("*.safetensors.index.json"))
    if not indices:
        return None
    if len(indices) > 1:
        raise InputError(
            f"{folder}: several indices ({', '.join(i.name for i in indices)}); keep one of them"
        )
    index: Any = fields.read(_INDEX, read_json(indices[0]), str(indices[0]))
    named = index.weight_map
    if not named:
        raise InputError(f"{indices[0]}: weight_map is empty; download it again")
    shards = sorted(set(named.values()))
    missing = [shard for shard in shards if not (folder / shard).is_file()]
    if missing:
        raise InputError(
            f"{folder}: {listed(missing)} missing, but {indices[0].name} names them: download again"
        )
    files = tuple(SafetensorsFile(folder / shard) for shard in shards)
    found = {(tensor, file.path.name) for file in files for tensor in file.tensors}
    problems = [f"{t} is not in {f}" for t, f in sorted(set(named.items()) - found)]
    problems += [f"{t} of {f} is not in the index" for t, f in sorted(found - set(named.items()))]
    if problems:
        raise DifferencesError(str(indices[0]), problems)
    return files


def _only_file(name: str, folder: Path) -> Path:
    tensors = sorted(folder.glob("*.safetensors"))
    if len(tensors) > 1:
        names = ", ".join(file.name for file in tensors)
        raise InputError(f"{folder}: several files ({names}) without an index; pass one file")
    if tensors:
        return tensors[0]
    pickles = sorted(file for file in folder.glob("*") if file.suffix in PICKLES) if folder.is_dir() else []
    if len(pickles) == 1:
        return pickles[0]
    found = f"several pickle files ({', '.join(p.name for p in pickles)})" if pickles else "no weights"
    raise InputError(
        f"{folder}: {found}; the {name} needs one .safetensors file, or several with their index"
    )


def _open(file: Path, allow_pickle: bool) -> WeightsFile:
    if file.suffix not in PICKLES:
        return SafetensorsFile(file)
    if not allow_pickle:
        raise InputError(
            f"{file}: a pickle file can run any code when it is read; use a .safetensors file, or pass "
            "--allow-pickle to read it with torch (weights_only)"
        )
    return PickleFile(file)


class PickleFile:
    """A file of torch.save, read with weights_only, which refuses anything but tensors."""

    def __init__(self, path: Path) -> None:
        """Load with torch. Raises InputError where torch is missing or refuses the file."""
        try:
            import torch
        except ImportError as error:
            raise InputError(
                f"{path}: torch is missing to read it: pip install 'gencompositor-jax[torch]'"
            ) from error
        check_regular(path)
        self.path, self.size = path, path.stat().st_size
        try:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
        except Exception as error:
            reason = first_line(error)
            raise InputError(f"{path}: torch refuses it as a file of weights only ({reason})") from error
        while isinstance(state, Mapping) and set(state) & {"state_dict", "module"} and len(state) == 1:
            (state,) = state.values()
        if not isinstance(state, Mapping) or not all(isinstance(v, torch.Tensor) for v in state.values()):
            raise InputError(f"{path}: not a state_dict of tensors")
        self._state = {str(name): value for name, value in state.items()}
        self.tensors = {name: Tensor(tuple(v.shape), self._dtype(name, v)) for name, v in self._state.items()}

    def _dtype(self, name: str, value: Any) -> np.dtype:
        dtype = str(value.dtype).removeprefix("torch.")
        if not re.fullmatch(r"float(16|32|64)|bfloat16", dtype):
            raise InputError(f"{self.path}: {name} is of type {dtype}, not a floating-point type")
        return np.dtype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)

    def stream(self, on_read: OnRead, allocate: Allocate = new_buffer) -> Iterator[tuple[str, np.ndarray]]:
        """All tensors; `on_read` gets the file's bytes before the first."""
        with open_regular(self.path) as file:
            while piece := file.read(2**24):
                on_read(memoryview(piece))
        for name in self._state:
            tensor = self.read(name)
            data = allocate(tensor.nbytes).view(tensor.dtype).reshape(tensor.shape)
            data[...] = tensor
            yield name, data

    def read(self, name: str, rows: slice | None = None) -> np.ndarray:
        """One tensor, or some of its rows."""
        import torch

        value = self._state[name].detach()
        value = (value if rows is None else value[rows]).contiguous()
        if value.dtype == torch.bfloat16:
            return value.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
        return value.numpy()


def _is_zip(path: Path) -> bool:
    """Whether torch can map the file into memory."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"
