"""What every test runs under: the CPU, parsed absl flags, and no cache outside the test's own folders."""

import os

# Before anything imports JAX: tests compare numbers, and those are recorded on the CPU.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["GENCOMPOSITOR_CACHE"] = ""  # no compilation cache on disk: a test must not depend on an earlier run

import pytest
from absl import flags


def pytest_configure(config: pytest.Config) -> None:
    """Grain's worker processes read absl flags, which refuse to be read before they are parsed."""
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["pytest"])
