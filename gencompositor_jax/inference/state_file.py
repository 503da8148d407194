"""The solver's state of a long clip between two steps, in a file: a killed process loses minutes, not hours.

An .npz file holds `made_from`, a hash of everything that the sampling depends on, `done`, the steps that are
done, and the arrays of the state. It is written at most once in `EVERY_S`, and removed once all is sampled.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gencompositor_jax.errors import InputError
from gencompositor_jax.files import atomic_write
from gencompositor_jax.npy import read_npz

EVERY_S = 30.0  # a state is written in a second or two


@dataclasses.dataclass
class StateFile:
    """The file of one layer's state, which may not exist yet."""

    path: Path
    made_from: str
    written: float = dataclasses.field(default_factory=time.monotonic)

    def read(self, like: Any) -> tuple[int, Any]:
        """Steps that are done, and the state after them: `like`, that before the first, unless the file has
        one of the same inputs. like: a tree of NumPy arrays.
        """
        leaves, tree = jax.tree.flatten(like)
        try:
            found = read_npz(self.path) if self.path.exists() else {}
        except InputError:
            return 0, like
        kept = [found.get(f"state_{i}") for i in range(len(leaves))]
        if str(found.get("made_from")) != self.made_from or any(
            a is None or (a.shape, a.dtype) != (b.shape, b.dtype) for a, b in zip(kept, leaves, strict=True)
        ):
            return 0, like
        return int(found["done"]), jax.tree.unflatten(tree, kept)

    def write(self, done: int, state: Any) -> None:
        """Replaces the file, whole or not at all, unless that was done a moment ago.

        Raises InputError where the disk is full.
        """
        if time.monotonic() < self.written + EVERY_S:
            return
        arrays: dict[str, Any] = {f"state_{i}": leaf for i, leaf in enumerate(jax.tree.leaves(state))}
        arrays |= {"made_from": np.str_(self.made_from), "done": np.int64(done)}
        with atomic_write(self.path, overwrite=True) as part, part.open("wb") as file:
            np.savez(file, **arrays)
        self.written = time.monotonic()

    def remove(self) -> None:
        """Once its latents are kept elsewhere."""
        self.path.unlink(missing_ok=True)
