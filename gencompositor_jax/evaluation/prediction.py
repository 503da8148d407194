"""What a model generates for many test examples at once, and its composites, made as `Compositor` does."""

from collections.abc import Sequence

import numpy as np

from gencompositor_jax.checkpoints import Model
from gencompositor_jax.controls.conditions import stack_conditions
from gencompositor_jax.controls.geometry.paste_back import Transfer, paste_back
from gencompositor_jax.controls.geometry.view import identity_view
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.data_pipelines.examples import TestExample
from gencompositor_jax.inference.pipeline import generate


def predict(
    model: Model,
    examples: Sequence[TestExample],
    numbers: Sequence[int],
    options: SamplingOptions = SamplingOptions(),  # noqa: B008 (frozen)
    size: int | None = None,
) -> np.ndarray:
    """Samples a batch of test examples: the network's frames, uint8 [B, T, H, W, 3].

    Only the masked background, the foreground and the mask of an example reach the network.

    Args:
        model: any checkpoint; the examples have its frames, height and width.
        examples: at least one.
        numbers: of the examples; a clip's noise depends on the seed and its number alone.
        options: of the sampling; paste-back is left to `composite`.
        size: the batch is padded to it; see `generate`.
    """
    return generate(model, stack_conditions(examples), numbers, options, size=size)


def composite(
    example: TestExample,
    generated: np.ndarray,
    feather: float = SamplingOptions.feather,
    transfer: Transfer | None = None,
) -> np.ndarray:
    """Generated frames, uint8 [T, H, W, 3], in an example's background, equal to it outside the mask."""
    view = identity_view(generated.shape[1:3])
    return paste_back(example["background"], generated, example["mask"], view, feather, transfer)[0]
