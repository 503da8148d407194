"""Prints what launch/borrowed_gpu.sh needs, one requirement per line.

    python launch/borrowed_requirements.py           the package's dependencies, without PyAV
    python launch/borrowed_requirements.py pytorch   what benchmarks/gpu_vs_torch.py needs besides torch

No video file is read or written there, and PyAV is the largest dependency but one.
"""

import re
import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).parents[1] / "pyproject.toml"


def requirements(pytorch: bool = False) -> list[str]:
    """The requirements, as pip reads them."""
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    if pytorch:
        return [line for line in project["optional-dependencies"]["parity"] if line.startswith("diffusers")]
    return [line for line in project["dependencies"] if not re.match(r"av\b", line)]


if __name__ == "__main__":
    print(*requirements(sys.argv[1:] == ["pytorch"]), sep="\n")
