"""The versions that a result depends on."""

import functools
import platform
from importlib import metadata

NAMES = ("gencompositor-jax", "jax", "jaxlib", "flax", "numpy", "opencv-python-headless", "av")


@functools.cache
def versions() -> dict[str, str]:
    """Of Python and the packages NAMES, by name; "not installed" where one is absent."""
    return {"python": platform.python_version()} | {name: _version(name) for name in NAMES}


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "not installed"
