"""A small model with random weights in folders like the release's."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from benchmarks.convert import small_release, write_release
from gencompositor_jax.arch import ModelArch
from gencompositor_jax.cli import build_parser
from gencompositor_jax.conversion import safetensors_io
from gencompositor_jax.conversion.safetensors_io import SafetensorsFile, Tensor

SHARD = 120_000  # bytes: the transformer comes in two files, the others in one each


@pytest.fixture(scope="session")
def small_arch() -> ModelArch:
    return small_release()


@pytest.fixture(scope="session")
def released_once(small_arch, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("released") / "release"
    write_release(folder, small_arch, shard_bytes=SHARD)
    stack = small_arch.backbone
    rng = np.random.default_rng(5)
    null = rng.standard_normal((stack.text_tokens, stack.text_dim)).astype(np.float32)
    np.save(folder / "null.npy", null)
    return folder


@pytest.fixture
def release(released_once, tmp_path) -> Path:
    """A copy that the test may change."""
    return Path(shutil.copytree(released_once, tmp_path / "release"))


@pytest.fixture(scope="session")
def converted_once(released_once, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("converted") / "checkpoint"
    command(
        ["convert", str(released_once), "--null-text", str(released_once / "null.npy"), "--out", str(out)]
    )
    return out


@pytest.fixture
def converted(converted_once, tmp_path) -> Path:
    """A copy that the test may change."""
    return Path(shutil.copytree(converted_once, tmp_path / "checkpoint"))


def command(argv: list[str]) -> None:
    """Run a subcommand; errors are raised."""
    args = build_parser().parse_args(argv)
    args.run(args)


@pytest.fixture
def convert(release, tmp_path) -> Callable[..., Path]:
    """Convert `release` into a new folder."""

    def run(*more: str, null: bool = True) -> Path:
        out = tmp_path / "out"
        text = ["--null-text", str(release / "null.npy")] if null else []
        command(["convert", str(release), *text, "--out", str(out), *more])
        return out

    return run


def read_tensors(path: Path) -> dict[str, np.ndarray]:
    return dict(SafetensorsFile(path).stream(lambda _: None))


def write_tensors(path: Path, tensors: dict[str, np.ndarray]) -> None:
    header = {name: Tensor(array.shape, array.dtype) for name, array in tensors.items()}
    safetensors_io.write(path, header, tensors.values())


def edit_json(path: Path, **fields: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))
