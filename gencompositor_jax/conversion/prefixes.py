"""Names of tensors without the prefix that a wrapper put before all of them."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from gencompositor_jax.conversion.safetensors_io import Allocate, OnRead, Tensor, new_buffer

# DataParallel, torch.compile, Lightning, single-file checkpoints, whole pipelines.
PREFIXES = ("module.", "_orig_mod.", "model.diffusion_model.", "model.", "diffusion_model.", "transformer.")


class WeightsFile(Protocol):
    """A file of tensors."""

    path: Path
    size: int
    tensors: dict[str, Tensor]

    def stream(self, on_read: OnRead, allocate: Allocate = new_buffer) -> Iterator[tuple[str, np.ndarray]]:
        """All tensors, each in the memory that `allocate` returns for it; `on_read` gets the file's bytes."""
        ...

    def read(self, name: str, rows: slice | None = None) -> np.ndarray:
        """One tensor, or some of its rows."""
        ...


def common_prefix(names: Sequence[str]) -> str:
    """What wrappers (DataParallel, torch.compile, Lightning, whole pipelines) put before all names.

    The longest chain of PREFIXES that every name begins with, "" for none.
    """
    found = ""
    while names and (
        more := next((p for p in PREFIXES if all(name.startswith(found + p) for name in names)), "")
    ):
        found += more
    return found


class WithoutPrefix:
    """A file of tensors under shorter names."""

    def __init__(self, file: WeightsFile, prefix: str) -> None:
        self._file, self._prefix = file, prefix
        self.path, self.size = file.path, file.size
        self.tensors = {name.removeprefix(prefix): tensor for name, tensor in file.tensors.items()}

    def stream(self, on_read: OnRead, allocate: Allocate = new_buffer) -> Iterator[tuple[str, np.ndarray]]:
        """See `WeightsFile.stream`."""
        for name, tensor in self._file.stream(on_read, allocate):
            yield name.removeprefix(self._prefix), tensor

    def read(self, name: str, rows: slice | None = None) -> np.ndarray:
        """See `WeightsFile.read`."""
        return self._file.read(self._prefix + name, rows)
