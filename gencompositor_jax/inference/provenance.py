"""What sampled latents depend on besides their conditions."""

import dataclasses
from typing import Any

import numpy as np

from gencompositor_jax.arch import Inflation, VAEArch, to_json
from gencompositor_jax.checkpoints import Model
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.inference.latents_file import fingerprint
from gencompositor_jax.model import int8


def facts(model: Model, number: int, options: SamplingOptions) -> dict[str, Any]:
    """Values that JSON can hold, for the `Fingerprint` of a pass.

    Without the VAE's tiles: a pass that ran out of memory may be decoded with other tiles than it was encoded
    with.
    """
    arch = dataclasses.replace(model.arch, inflation=Inflation())  # masks come inflated
    if isinstance(arch.codec, VAEArch):
        arch = dataclasses.replace(arch, codec=dataclasses.replace(arch.codec, tile=None))
    text = np.asarray(model.arrays["null_text"] if options.prompt is None else model.prompts[options.prompt])
    return {
        "arch": to_json(arch),
        "provenance": model.provenance,
        "dtype": str(text.dtype),
        "text": fingerprint({}, [text]),
        "int8": int8.is_quantised(model.arrays),
        "seed": options.seed,
        "number": number,
        "steps": options.steps,
        "solver": options.solver,
        "guidance": options.guidance if options.guided else None,
        "fast": options.fast,
    }
