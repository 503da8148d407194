"""The basis of the linear codec, computed from training clips when a run starts from scratch.

It is a frozen part of the model. A run keeps it in its folder, so that resuming doesn't depend on the data.
"""

from collections.abc import Iterator
from pathlib import Path

import jax
import ml_collections
import numpy as np
from jax.experimental import multihost_utils

from gencompositor_jax.arch import LinearCodecArch, ModelArch
from gencompositor_jax.codec import linear
from gencompositor_jax.data_pipelines.source import ClipSource
from gencompositor_jax.errors import InputError
from gencompositor_jax.files import atomic_write
from gencompositor_jax.multihost import agree, wait_for_all
from gencompositor_jax.npy import read_npz
from gencompositor_jax.pixels import to_signed
from gencompositor_jax.training.validation import fixed_clips

CLIPS = 200  # spread over the data source
FILE = "codec.npz"


def codec_basis(
    config: ml_collections.ConfigDict, arch: ModelArch, source: ClipSource, workdir: Path
) -> linear.Basis | None:
    """The basis that a run uses, the same on every process; None for other codecs and with `config.init`.

    Read from `workdir` if it is there, else computed from the targets and foregrounds of CLIPS clips, by the
    first process, and written. Raises InputError where the file doesn't fit or no clip can be read.
    """
    if config.init or not isinstance(arch.codec, LinearCodecArch):
        return None
    file, codec = workdir / FILE, arch.codec
    basis = jax.tree.map(np.asarray, linear.init(codec))
    problem = None
    if jax.process_index() == 0:
        try:
            basis = read(file, codec) if file.exists() else compute(file, codec, source, config.seed)
        except InputError as error:
            problem = error
    if jax.process_count() > 1:
        wait_for_all("the basis of the codec is known")
    agree(problem)
    if jax.process_count() > 1:
        basis = jax.tree.map(np.asarray, multihost_utils.broadcast_one_to_all(basis))
    return basis


def compute(file: Path, arch: LinearCodecArch, source: ClipSource, seed: int) -> linear.Basis:
    """The basis of a data source, which is also written to a file."""
    basis = linear.principal_components(arch, videos(source, seed))
    with atomic_write(file) as part, part.open("wb") as out:
        np.savez(out, **basis._asdict())
    return basis


def videos(source: ClipSource, seed: int) -> Iterator[np.ndarray]:
    """Targets and foregrounds in [-1, 1], float32 [T, H, W, 3], of CLIPS clips."""
    for clip in fixed_clips(source, CLIPS, seed):
        yield from (to_signed(clip[name]) for name in ("target", "foreground"))


def read(file: Path, arch: LinearCodecArch) -> linear.Basis:
    """A basis of a run's folder. Raises InputError if it is damaged or of another codec."""
    try:
        found = read_npz(file)
    except InputError as error:
        raise InputError(f"{error}; restore it, or pass another --workdir") from error
    shapes = jax.tree.map(np.shape, linear.init(arch)._asdict())
    if jax.tree.map(np.shape, found) != shapes:
        raise InputError(f"{file}: is of another codec than this run's; pass another --workdir")
    return linear.Basis(**found)
