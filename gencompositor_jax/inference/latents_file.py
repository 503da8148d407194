"""Sampled latents on disk, written before they are decoded: a decoder that runs out of memory, or a killed
process, costs no sampling.

An .npz file holds the latents of a scene's layers, `latents_0`, `latents_1`, ..., each float32 [t, h, w, C]
as sampled, and for each `made_from_0`, ..., a hash of everything that the sampling depends on.
"""

import dataclasses
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gencompositor_jax.errors import InputError
from gencompositor_jax.files import atomic_write
from gencompositor_jax.npy import read_npz


@dataclasses.dataclass(frozen=True)
class LayerLatents:
    """The latents of one layer in a file, which may not exist yet. A batch of one clip: [1, t, h, w, C]."""

    path: Path
    layer: int
    made_from: str  # of `fingerprint`

    def __str__(self) -> str:
        return str(self.path)

    def read(self) -> np.ndarray | None:
        """The layer's latents if the file has them and they were made from the same inputs.

        Raises InputError where the file holds something else than latents.
        """
        arrays = read(self.path)
        known = arrays.get(f"made_from_{self.layer}")
        return arrays[f"latents_{self.layer}"][None] if str(known) == self.made_from else None

    def write(self, latents: np.ndarray) -> None:
        """Adds the layer to the layers before it; the file is replaced whole or not at all."""
        arrays = read(self.path)
        kinds: dict[str, Any] = {"latents": latents[0], "made_from": np.str_(self.made_from)}
        kept = {f"{kind}_{i}": arrays[f"{kind}_{i}"] for i in range(self.layer) for kind in kinds}
        own = {f"{kind}_{self.layer}": value for kind, value in kinds.items()}
        with atomic_write(self.path, overwrite=True) as part, part.open("wb") as file:
            np.savez(file, **kept, **own)


def read(path: Path) -> dict[str, Any]:
    """All arrays of a file; none if it doesn't exist. Raises InputError for another kind of file."""
    if not os.path.lexists(path):
        return {}
    try:
        found = read_npz(path)
    except InputError as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise InputError(
            f"{path}: not a file of latents ({reason}); delete it, or write elsewhere"
        ) from error
    numbers = [name.rpartition("_")[2] for name in found if name.startswith("made_from_")]
    latents = [found.get(f"latents_{number}") for number in numbers]
    if not numbers or any(each is None or each.ndim != 4 or each.dtype != np.float32 for each in latents):
        raise InputError(
            f"{path}: holds something else than latents; delete it, or write the result elsewhere"
        )
    return found


class Fingerprint:
    """A hash of facts (values that JSON can hold) and of arrays: their numbers, shapes and dtypes."""

    def __init__(self, facts: Mapping[str, Any]) -> None:
        self._hash = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())

    def add(self, array: np.ndarray) -> None:
        """The next array."""
        self._hash.update(f"{array.dtype}{array.shape}".encode())
        self._hash.update(np.ascontiguousarray(array).view(np.uint8).data)

    def digest(self) -> str:
        """In hexadecimal digits."""
        return self._hash.hexdigest()


def fingerprint(facts: Mapping[str, Any], arrays: Iterable[np.ndarray]) -> str:
    """The `Fingerprint` of facts and arrays."""
    found = Fingerprint(facts)
    for array in arrays:
        found.add(array)
    return found.digest()
