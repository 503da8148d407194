"""Recorded cases, and matrix products in full float32."""

from collections.abc import Callable, Iterator

import jax
import pytest

from tests import recordings


@pytest.fixture(scope="session")
def golden() -> Callable[[str], recordings.Golden]:
    """`golden("vae_plain")`: a recorded case."""
    return recordings.load


@pytest.fixture(autouse=True)
def exact_products() -> Iterator[None]:
    with jax.default_matmul_precision("highest"):
        yield
