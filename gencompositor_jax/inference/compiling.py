"""Compiling the programs of a pass ahead of time, and JAX's own cache of compiled programs."""

import os
from pathlib import Path
from typing import Any

import jax

from gencompositor_jax.arch import ModelArch
from gencompositor_jax.checkpoints import Model
from gencompositor_jax.controls.conditions import blank_conditions
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.inference.pipeline import generate, part_length
from gencompositor_jax.inference.programs import Recorder, Rehearsal

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
    model: Model, options: SamplingOptions, weights: str | None, folder: Path, overwrite: bool
) -> int:
    """Compiles the programs of `generate` for one clip into a folder; returns the folder's bytes."""
    arch = model.arch
    recorder = Recorder()
    generate(model, blank_conditions(arch, 1), [0], options, run=Rehearsal(recorder))
    return recorder.save(folder, requirements(arch, options, weights), overwrite)
