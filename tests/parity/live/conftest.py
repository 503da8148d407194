"""Live parity: both implementations side by side, skipped without the extra `parity`.

The reference here is the PyPI package diffusers (and transformers), whose CogVideoX the release is built on.
"""

import importlib.util

import pytest

NEEDED = ("torch", "diffusers", "transformers")
MISSING = [name for name in NEEDED if importlib.util.find_spec(name) is None]


@pytest.fixture(scope="session", autouse=True)
def two_quiet_libraries() -> None:
    """Skips without the packages. Limits PyTorch to one thread, so that tests may run in parallel."""
    if MISSING:
        pytest.skip(f"{', '.join(MISSING)} not installed: pip install -e '.[parity]'")
    import diffusers
    import torch
    import transformers

    torch.set_num_threads(1)
    torch.set_grad_enabled(False)
    diffusers.logging.set_verbosity_error()
    transformers.logging.set_verbosity_error()
