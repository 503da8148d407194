"""Folders of PyTorch weights as people have them: config.json beside safetensors, sharded with an index
or not.

    transformer/  branch/                                   the release's model folder
    vae/  text_encoder/  tokenizer/  scheduler/             CogVideoX-5b-I2V

Pickle files (.bin, .pt, .pth, .ckpt, .pkl) can run code when they are read, so they are refused unless
they are explicitly allowed; then torch reads them, tensors only.
"""

import dataclasses
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import ml_dtypes
import numpy as np

from gencompositor_jax.conversion.safetensors_io import Hear, Room, SafetensorsFile, Tensor, fresh
from gencompositor_jax.errors import InputError

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


class WeightFile(Protocol):
    """A file of tensors."""

    path: Path
    size: int
    tensors: dict[str, Tensor]

    def stream(self, hear: Hear, room: Room = fresh) -> Iterator[tuple[str, np.ndarray]]:
        """All tensors; `hear` gets all bytes of the file. room: called for each; where it is put."""
        ...

    def read(self, name: str, rows: slice | None = None) -> np.ndarray:
        """One tensor, or some of its rows."""
        ...


@dataclasses.dataclass(frozen=True)
class Source:
    """One component: its configuration and its files, headers read and checked, tensors not."""

    name: str  # transformer, branch, vae, text_encoder
    folder: Path
    config: dict[str, Any] | None  # None where a single file has no config.json beside it
    files: tuple[WeightFile, ...]

    @property
    def tensors(self) -> dict[str, Tensor]:
        """All tensors of all files."""
        return {name: tensor for file in self.files for name, tensor in file.tensors.items()}

    @property
    def bytes(self) -> int:
        """Size of the files."""
        return sum(file.size for file in self.files)

    @property
    def config_file(self) -> Path:
        """Where its configuration is or would be."""
        return self.folder / "config.json"

    def read(self, name: str, rows: slice | None = None) -> np.ndarray:
        """One tensor, or some of its rows. Raises InputError where it is missing."""
        for file in self.files:
            if name in file.tensors:
                return file.read(name, rows)
        raise InputError(f"{self.folder}: {name} is missing")


def find(name: str, folders: Sequence[Path], given: Path | None = None) -> Path | None:
    """Where a component is: `given`, or the first of `folders` with such a subfolder, or None."""
    if given is not None:
        if not given.exists():
            raise InputError(f"{given}: no such file or folder; pass the {name}")
        return given
    return next((folder / name for folder in folders if (folder / name).is_dir()), None)


def open_source(name: str, path: Path, allow_pickle: bool = False) -> Source:
    """Opens a component's folder, or a single file of it; reads headers only.

    Raises InputError for missing or truncated files, an index that disagrees with them, and pickle files that
    are not allowed.
    """
    folder = path if path.is_dir() else path.parent
    config = read_config(folder / "config.json") if (folder / "config.json").exists() else None
    files = _indexed(folder) if path.is_dir() else None
    if files is None:
        files = tuple(
            _open(file, allow_pickle) for file in ([path] if path.is_file() else [_only_file(name, path)])
        )
    seen: dict[str, Path] = {}
    for file in files:
        for tensor in file.tensors:
            if tensor in seen:
                raise InputError(f"{file.path}: {tensor} is also in {seen[tensor].name}")
            seen[tensor] = file.path
    return Source(name, folder, config, files)


def read_config(file: Path) -> dict[str, Any]:
    """A JSON object. Raises InputError."""
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file}: can't be read ({error.strerror})") from error
    except ValueError as error:
        raise InputError(f"{file}: not JSON ({error})") from error
    if not isinstance(fields, dict):
        raise InputError(f"{file}: not a JSON object")
    return fields


def hashing(
    source: Source, hashes: dict[str, str], read: Callable[[int], None], room: Room = fresh
) -> Iterator[tuple[str, np.ndarray]]:
    """The tensors of a source; on the way `hashes` gets the SHA-256 of every file by its name.

    read: hears how many bytes were read. room: called for each tensor; where it is put.
    """
    for file in source.files:
        digest = hashlib.sha256()

        def hear(data: memoryview, digest: Any = digest) -> None:
            digest.update(data)
            read(len(data))

        yield from file.stream(hear, room)
        hashes[file.path.name] = digest.hexdigest()


def _indexed(folder: Path) -> tuple[WeightFile, ...] | None:
    """The files that an index names, compared with it both ways; None where there is no index."""
    indices = sorted(folder.glob("*.safetensors.index.json"))
    if not indices:
        return None
    if len(indices) > 1:
        raise InputError(
            f"{folder}: several indices ({', '.join(i.name for i in indices)}); keep one of them"
        )
    named = read_config(indices[0]).get("weight_map")
    if not isinstance(named, dict) or not named:
        raise InputError(f"{indices[0]}: weight_map is missing")
    shards = sorted(set(named.values()))
    missing = [shard for shard in shards if not (folder / shard).is_file()]
    if missing:
        raise InputError(
            f"{folder}: {', '.join(missing)} missing, but {indices[0].name} names them: download again"
        )
    files = tuple(SafetensorsFile(folder / shard) for shard in shards)
    there = {(tensor, file.path.name) for file in files for tensor in file.tensors}
    problems = [f"{t} is not in {f}" for t, f in sorted(set(named.items()) - there)]
    problems += [f"{t} of {f} is not in the index" for t, f in sorted(there - set(named.items()))]
    if problems:
        raise InputError(f"{indices[0]}: {'; '.join(problems)}")
    return files


def _only_file(name: str, folder: Path) -> Path:
    tensors = sorted(folder.glob("*.safetensors"))
    if len(tensors) > 1:
        names = ", ".join(file.name for file in tensors)
        raise InputError(
            f"{folder}: several files ({names}) and no index that says what is where; pass one file"
        )
    if tensors:
        return tensors[0]
    pickles = sorted(file for file in folder.glob("*") if file.suffix in PICKLES) if folder.is_dir() else []
    if len(pickles) == 1:
        return pickles[0]
    found = f"several pickle files ({', '.join(p.name for p in pickles)})" if pickles else "no weights"
    raise InputError(
        f"{folder}: {found}; the {name} needs one .safetensors file, or several with their index"
    )


def _open(file: Path, allow_pickle: bool) -> WeightFile:
    if file.suffix not in PICKLES:
        return SafetensorsFile(file)
    if not allow_pickle:
        raise InputError(
            f"{file}: a pickle file can run any code when it is read; use the .safetensors file, or pass "
            "--allow-pickle to read its tensors with torch (weights_only)"
        )
    return PickleFile(file)


class PickleFile:
    """A file of torch.save, read by torch's restricted unpickler, which refuses anything but tensors."""

    def __init__(self, path: Path) -> None:
        """Raises InputError where torch is missing or refuses the file."""
        try:
            import torch
        except ImportError as error:
            raise InputError(f"{path}: reading it needs torch: pip install torch") from error
        self.path, self.size = path, path.stat().st_size
        try:
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
        except Exception as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
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

    def stream(self, hear: Hear, room: Room = fresh) -> Iterator[tuple[str, np.ndarray]]:
        """All tensors; `hear` gets all bytes of the file first."""
        with self.path.open("rb") as file:
            while piece := file.read(2**24):
                hear(memoryview(piece))
        for name in self._state:
            tensor = self.read(name)
            data = room(tensor.nbytes).view(tensor.dtype).reshape(tensor.shape)
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
    """True of files that can be mapped into memory rather than read."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"
