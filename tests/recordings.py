"""Arrays recorded from the released implementation: `NAME.npz`, explained by `NAME.json` beside it.

GENCOMPOSITOR_GOLDEN names another folder with the same names; its sizes may be others, so tests read every
size and every list of cases from the arrays and their json.
"""

import dataclasses
import functools
import json
import os
import pathlib
from typing import Any

import numpy as np

FOLDER = pathlib.Path(os.environ.get("GENCOMPOSITOR_GOLDEN") or pathlib.Path(__file__).parent / "golden")


@dataclasses.dataclass(frozen=True)
class Golden:
    """One case: its arrays, and what its json says of them."""

    arrays: dict[str, np.ndarray]
    info: dict[str, Any]

    def numbered(self, prefix: str) -> list[np.ndarray]:
        """The arrays `prefix0`, `prefix1`, ... in the order of their numbers."""
        names = [name for name in self.arrays if name.startswith(prefix)]
        return [self.arrays[f"{prefix}{i}"] for i in range(len(names))]


def explain(name: str) -> dict[str, Any]:
    """The json of a case; cheap, for the parameters of tests."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


@functools.cache
def load(name: str) -> Golden:
    """A case, read once."""
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return Golden(dict(arrays), explain(name))


def starts(name: str, ending: str) -> list[str]:
    """What stands before `ending` in the names of a case's arrays, in their order."""
    with np.load(FOLDER / f"{name}.npz") as arrays:
        return [key.removesuffix(ending) for key in arrays.files if key.endswith(ending)]
