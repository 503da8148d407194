"""What every test runs under: the CPU, parsed absl flags, and compiled programs of this run alone."""

import os
import shutil
import tempfile
from typing import TYPE_CHECKING

# Before anything imports JAX: tests compare numbers, and those are recorded on the CPU.
os.environ["JAX_PLATFORMS"] = "cpu"
# Most of the tests' time is LLVM's: programs that run once need no fast code, and the older emitters of fused
# loops give it half as much to compile. `make test-optimised` sets its own level.
if "--xla_backend_optimization_level" not in os.environ.get("XLA_FLAGS", ""):
    os.environ["XLA_FLAGS"] = (
        "--xla_backend_optimization_level=0 "
        "--xla_backend_extra_options=xla_cpu_disable_new_fusion_emitters " + os.environ.get("XLA_FLAGS", "")
    )
# Eight virtual devices, for tests of meshes; whatever knows no mesh runs on the first one. On a loaded
# machine devices wait long for another.
os.environ["XLA_FLAGS"] = (
    "--xla_force_host_platform_device_count=8 --xla_cpu_collective_call_terminate_timeout_seconds=900 "
    + os.environ["XLA_FLAGS"]
)
# The project's own cache of compiled programs is off: a test must not depend on an earlier run.
os.environ["GENCOMPOSITOR_CACHE"] = ""

import pytest
from absl import flags
from hypothesis import settings

from tests import shape_checks

if TYPE_CHECKING:
    from gencompositor_jax.checkpoints import Model


shape_checks.install()

# The same examples every time, however slow the machine: a test that fails, fails for everyone.
settings.register_profile("house", deadline=None, derandomize=True)
settings.load_profile("house")


def pytest_configure(config: pytest.Config) -> None:
    """Before JAX is imported, and before xdist's workers, which inherit the environment, are started."""
    if not hasattr(config, "workerinput"):
        share_compiled_programs(config)
    # Grain's worker processes read absl flags, which refuse to be read before they are parsed.
    if not flags.FLAGS.is_parsed():
        flags.FLAGS(["pytest"])


def share_compiled_programs(config: pytest.Config) -> None:
    """Give this run, its workers and the processes that tests start one persistent cache of JAX, which this
    process removes at the end. Many tests compile the same small programs.
    """
    folder = tempfile.mkdtemp(prefix="compiled-programs-")
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    os.environ["JAX_COMPILATION_CACHE_DIR"] = folder
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
    os.environ["JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES"] = "-1"


@pytest.fixture(scope="session", autouse=True)
def one_device() -> None:
    """Whoever names no mesh gets the first device, not all eight."""
    import jax

    jax.config.update("jax_default_device", jax.local_devices()[0])


@pytest.fixture(scope="session")
def small_model() -> "Model":
    """A model of a few thousand parameters, 5 frames of 32 x 48, with random weights."""
    import dataclasses

    import jax
    import numpy as np

    from gencompositor_jax import arch, checkpoints

    tiny = arch.tiny()
    stack = dataclasses.replace(tiny.backbone, num_layers=2, num_heads=1, head_dim=16, time_embed_dim=16)
    small = dataclasses.replace(
        tiny,
        frames=5,
        height=32,
        width=48,
        backbone=stack,
        branch=dataclasses.replace(stack, num_layers=1),
        base_grid=(4, 6),
    )
    rng = np.random.default_rng(0)
    arrays = jax.tree.map(
        lambda leaf: (0.1 * rng.standard_normal(leaf.shape)).astype(leaf.dtype),
        checkpoints.array_shapes(small),
    )
    return checkpoints.Model(small, arrays)


@pytest.fixture(scope="session")
def small_checkpoint(small_model: "Model", tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a checkpoint of `small_model`."""
    from gencompositor_jax import checkpoints

    folder = tmp_path_factory.mktemp("checkpoint") / "small"
    checkpoints.save(folder, small_model)
    return str(folder)
