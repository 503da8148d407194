"""A model's answers to many test examples at once, made as the product makes them."""

from collections.abc import Sequence

import numpy as np

from gencompositor_jax.checkpoints import Model
from gencompositor_jax.controls.geometry.paste_back import paste_back
from gencompositor_jax.controls.geometry.view import identity_view
from gencompositor_jax.data_pipelines.examples import TestExample
from gencompositor_jax.inference import pipeline

FEATHER = 2.0  # pixels; what `Compositor.render` uses unless told


def predict(
    model: Model,
    examples: Sequence[TestExample],
    numbers: Sequence[int],
    *,
    steps: int = 20,
    seed: int = 42,
    size: int | None = None,
) -> list[np.ndarray]:
    """Samples a batch of test examples and pastes each answer back into its background.

    Only the masked background, the foreground and the mask of an example reach the network. Each clip's noise
    comes from the seed and the clip's number alone, so an answer doesn't depend on the rest of the batch.

    Args:
        model: any checkpoint; the examples have its frames, height and width.
        examples: at least one.
        numbers: of the examples, one each.
        steps: of the DPM solver.
        seed: of the noise.
        size: the batch is filled up to this size (and the surplus thrown away), so that a last, shorter batch
            needs no other compiled program.

    Returns:
        uint8 [T, H, W, 3] for each example: outside its mask exactly its background.
    """
    raw = pipeline.sample(model.arrays, examples, numbers, arch=model.arch, steps=steps, seed=seed, size=size)
    return [composite(*pair) for pair in zip(examples, raw, strict=True)]


def composite(example: TestExample, generated: np.ndarray) -> np.ndarray:
    """An answer of the network, uint8 [T, H, W, 3], pasted back into its example's background."""
    view = identity_view(generated.shape[1:3])
    return paste_back(example["background"], generated, example["mask"], view, FEATHER)[0]
