"""A model's composites of many test examples at once, made as `Compositor` makes them."""

from collections.abc import Sequence

import numpy as np

from gencompositor_jax.checkpoints import Model
from gencompositor_jax.controls.conditions import stack_conditions
from gencompositor_jax.controls.geometry.paste_back import paste_back
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
) -> list[np.ndarray]:
    """Samples a batch of test examples and composites each result into its background.

    Only the masked background, the foreground and the mask of an example reach the network.

    Args:
        model: any checkpoint; the examples have its frames, height and width.
        examples: at least one.
        numbers: of the examples; a clip's noise depends on the seed and its number alone.
        options: of the sampling.
        size: the batch is padded to it; see `generate`.

    Returns:
        uint8 [T, H, W, 3] for each example, equal to its background outside its mask.
    """
    frames = generate(model, stack_conditions(examples), numbers, options, size=size)
    return [composite(*pair, options.feather) for pair in zip(examples, frames, strict=True)]


def composite(
    example: TestExample, generated: np.ndarray, feather: float = SamplingOptions.feather
) -> np.ndarray:
    """Generated frames, uint8 [T, H, W, 3], composited into an example's background."""
    view = identity_view(generated.shape[1:3])
    return paste_back(example["background"], generated, example["mask"], view, feather)[0]
