"""A model's answers to many test examples at once, made as the product makes them."""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from data_pipelines.examples import TestExample
from gencompositor_jax import codec, masks, sampler
from gencompositor_jax.arch import ModelArch
from gencompositor_jax.checkpoint import Model
from gencompositor_jax.controls.conditions import Conditions, to_pixels, to_signed
from gencompositor_jax.controls.paste_back import paste_back
from gencompositor_jax.controls.view import identity_view
from gencompositor_jax.denoiser import Denoiser, LatentConditions

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
    filled = list(range(len(examples))) + [0] * ((size or len(examples)) - len(examples))
    conditions = Conditions(
        mask=np.stack([examples[i]["mask"][..., None].astype(np.float32) for i in filled]),
        masked_background=np.stack([to_signed(examples[i]["masked_background"]) for i in filled]),
        foreground=np.stack([to_signed(examples[i]["foreground"]) for i in filled]),
    )
    keys = jax.vmap(jax.random.fold_in, (None, 0))(
        jax.random.key(seed), jnp.array([numbers[i] for i in filled])
    )
    raw = to_pixels(_sample(model.arrays, conditions, keys, arch=model.arch, steps=steps))
    view = identity_view(raw.shape[2:4])
    return [
        paste_back(example["background"], generated, example["mask"], view, FEATHER)[0]
        for example, generated in zip(examples, raw, strict=False)
    ]


@functools.partial(jax.jit, static_argnames=("arch", "steps"))
def _sample(
    arrays: Any, conditions: Conditions, keys: jax.Array, *, arch: ModelArch, steps: int
) -> jax.Array:
    """Conditions [B, T, H, W, C] and a key per clip -> float32 video [B, T, H, W, 3], not clipped."""

    def draw(keys: jax.Array) -> jax.Array:
        return jax.vmap(lambda key: jax.random.normal(key, arch.latent_shape))(keys)

    for_start, for_steps, for_codec = jax.vmap(lambda key: jax.random.split(key, 3), out_axes=1)(keys)
    background_noise, foreground_noise = jax.vmap(jax.random.split, out_axes=1)(for_codec)
    latent = masks.latent_mask(
        conditions.mask[..., 0], arch.codec.time_factor, arch.codec.space_factor, rule=arch.latent_mask
    )

    def encode(video: Any, noise: jax.Array) -> jax.Array:
        return codec.encode(arrays["codec"], arch.codec, video, noise)

    given = LatentConditions(
        background=encode(conditions.masked_background, draw(background_noise)),
        foreground=encode(conditions.foreground, draw(foreground_noise)),
        mask=latent[..., None].astype(jnp.float32),
    )
    networks = {name: arrays[name] for name in ("backbone", "branch")}
    denoiser = Denoiser(arch, arrays["null_text"].dtype)
    text = jnp.broadcast_to(arrays["null_text"], (len(keys), *arrays["null_text"].shape))

    def denoise(latents: jax.Array, timestep: jax.Array) -> jax.Array:
        return denoiser(networks, latents, timestep, given, text)

    def noise(index: jax.Array) -> jax.Array:
        return jax.vmap(lambda key: sampler.step_noise(key, index, arch.latent_shape))(for_steps)

    plan = sampler.plan(arch.diffusion, steps, "dpm")
    state = sampler.advance(denoise, sampler.begin(draw(for_start)), jnp.int32(0), plan, noise)
    return codec.decode(arrays["codec"], arch.codec, state.x).astype(jnp.float32)
