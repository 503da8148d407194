"""Where the weights of the large segmenters are: a folder that the user names, or the hub's cache.

`--segment-weights FOLDER`, or `GENCOMPOSITOR_SEGMENTERS=FOLDER`, names the folder, in which each model has
one of its own, as the hub's `download --local-dir` writes it. Nothing is downloaded here.
"""

import dataclasses
import os
from pathlib import Path

from gencompositor_jax.errors import InputError

VARIABLE = "GENCOMPOSITOR_SEGMENTERS"


@dataclasses.dataclass(frozen=True)
class Stored:
    """A model of the hub."""

    title: str
    repository: str

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.repository.split("/")[-1]


SAM2 = Stored("SAM 2", "facebook/sam2.1-hiera-small")
GROUNDING_DINO = Stored("Grounding DINO", "IDEA-Research/grounding-dino-tiny")


def use(folder: str) -> None:
    """Name the folder for this process and those that it starts, in place of `VARIABLE`.

    Raises InputError where it is none, or has no model.
    """
    path = Path(folder)
    if not path.is_dir():
        raise InputError(f"--segment-weights {folder}: no such folder")
    names = [model.name for model in (SAM2, GROUNDING_DINO)]
    if not any((path / name / "config.json").is_file() for name in names):
        raise InputError(f"--segment-weights {folder}: pass the folder that holds {' and '.join(names)}")
    os.environ[VARIABLE] = str(path.absolute())


def find(model: Stored) -> Path | None:
    """The folder of a model's configuration and weights; None if there is none.

    Raises InputError where `GENCOMPOSITOR_SEGMENTERS` is no folder.
    """
    if named := os.environ.get(VARIABLE):
        if not Path(named).is_dir():
            raise InputError(
                f"{VARIABLE}={named}: no such folder; it holds {SAM2.name} and {GROUNDING_DINO.name}"
            )
        if (Path(named) / model.name / "config.json").is_file():
            return Path(named) / model.name
    snapshots = _hub() / f"models--{model.repository.replace('/', '--')}" / "snapshots"
    found = [path.parent for path in snapshots.glob("*/config.json")]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def places(model: Stored) -> str:
    """Where `find` looks, for a message."""
    named = os.environ.get(VARIABLE)
    folder = f"{named or f'${VARIABLE}'}/{model.name}"
    return f"{folder} (from {model.repository}) or {_hub()}"


def check_installed() -> None:
    """Raises InputError with the remedy where what runs the models is missing."""
    try:
        import torch  # noqa: F401
        import transformers  # noqa: F401
    except ImportError as error:
        raise InputError(
            f"segment: the weights of {SAM2.title} are there, but {error.name} isn't installed: "
            "pip install 'gencompositor-jax[segment]'"
        ) from error


def _hub() -> Path:
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    return Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
