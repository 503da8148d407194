"""Compiling the programs of a pass ahead of time, and JAX's own cache of compiled programs."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh

from gencompositor_jax import codec
from gencompositor_jax.arch import Inflation, ModelArch
from gencompositor_jax.checkpoints import Model
from gencompositor_jax.codec import chunks
from gencompositor_jax.controls.conditions import Conditions, blank_conditions
from gencompositor_jax.controls.geometry.offsets import no_offsets
from gencompositor_jax.controls.media.frames import held
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.errors import InputError
from gencompositor_jax.inference import long_clips, pipeline
from gencompositor_jax.inference.pipeline import generate, part_length
from gencompositor_jax.inference.programs import Programs, Recorder, Rehearsal, Run

CACHE_VARIABLE = "GENCOMPOSITOR_CACHE"
CACHE_FOLDER = "~/.cache/gencompositor"


def keep_compiled_programs() -> None:
    """Makes JAX keep compiled programs in ~/.cache/gencompositor, or in the folder GENCOMPOSITOR_CACHE.

    An empty GENCOMPOSITOR_CACHE turns it off; JAX's own setting (JAX_COMPILATION_CACHE_DIR) has precedence.
    """
    folder = os.environ.get(CACHE_VARIABLE, CACHE_FOLDER)
    if folder and "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        jax.config.update("jax_compilation_cache_dir", os.path.expanduser(folder))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)


def requirements(arch: ModelArch, options: SamplingOptions, weights: str | None) -> dict[str, Any]:
    """What the programs of a pass depend on and a user may change; see `Programs.check`."""
    size = {"frames": arch.frames, "height": arch.height, "width": arch.width}
    steps, _ = options.schedule(arch.diffusion)
    calls = {"steps_per_call": part_length(steps), "guided": options.guided}
    return {**size, **calls, "weights": weights}


def compile_pass(
    model: Model,
    options: SamplingOptions,
    weights: str | None,
    folder: Path,
    overwrite: bool,
    frames: int | None = None,
) -> int:
    """Compiles the programs of `generate` for one clip into a folder; returns the folder's bytes.

    frames: of a longer clip, which runs those of `long_clips`.
    """
    arch = model.arch
    recorder = Recorder()
    if frames is None or frames <= arch.frames:
        generate(model, blank_conditions(arch, 1), [0], options, run=Rehearsal(recorder))
    else:
        _run_long(model, options, frames, Rehearsal(recorder))
    return recorder.save(folder, requirements(arch, options, weights), overwrite)


def check_mesh(mesh: Mesh) -> None:
    """Raises InputError unless it is of one device, for which programs are compiled."""
    if mesh.size > 1:
        raise InputError(f"mesh: compiled programs are of one device, not of {mesh.size}")


def check_programs(
    programs: Programs, arch: ModelArch, frames: int, options: SamplingOptions, weights: str | None
) -> None:
    """Raises InputError where programs are of something else than a clip of so many frames, or where those of
    short clips are to run a long one, or the other way round.
    """
    programs.check(requirements(arch, options, weights))
    is_long = frames > arch.frames
    compiled = {signature.name for signature in programs.signatures.values()}
    if ("predict" in compiled) != is_long:
        kind = "one window" if is_long else f"more than {arch.frames} frames"
        raise InputError(
            f"--compiled {programs.folder}: made for clips of {kind}, this one has {frames} frames; run "
            f"gencompositor compile --frames {frames}"
        )


def _run_long(model: Model, options: SamplingOptions, frames: int, run: Run) -> None:
    """The programs of a clip of so many frames, each at least once, on blank conditions."""
    # Masks come inflated: programs don't depend on the inflation.
    model = dataclasses.replace(model, arch=dataclasses.replace(model.arch, inflation=Inflation()))
    arch, length = model.arch, codec.padded_frames(model.arch.codec, frames)
    keys, _ = run(pipeline.start, np.uint32(0), np.zeros(1, np.int32), arch=arch)
    blank = blank_conditions(arch, 1)
    sizes = chunks.chunk_sizes(length, chunks.frames_per_chunk(arch.codec))
    given = (Conditions(*(held(x[0, :1], size) for x in blank[:3])) for size in sizes)
    latents = long_clips.latent_frames(arch, length)
    offsets = None if arch.offset_cell is None else no_offsets(latents)
    encoded = long_clips.encode_clip(model, given, length, offsets, keys, run)
    sampled = long_clips.sample_clip(model, encoded, keys, options, run=run)
    for _ in long_clips.decode_clip(model, sampled, run):
        pass
