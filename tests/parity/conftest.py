"""Arrays recorded from the released implementation; GENCOMPOSITOR_GOLDEN names another folder of them."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

FOLDER = pathlib.Path(
    os.environ.get("GENCOMPOSITOR_GOLDEN") or pathlib.Path(__file__).parent.parent / "golden"
)


@dataclasses.dataclass(frozen=True)
class Golden:
    """One case: its arrays, and what its json says of them."""

    arrays: dict[str, np.ndarray]
    info: dict[str, Any]


@pytest.fixture(scope="session")
def golden() -> Callable[[str], Golden]:
    def load(name: str) -> Golden:
        with np.load(FOLDER / f"{name}.npz") as arrays:
            return Golden(dict(arrays), json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")))

    return load
