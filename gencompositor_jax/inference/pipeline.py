"""Sampling passes: conditions at the model's size -> frames, for a batch of clips at once.

A pass is `encode`, `advance` over all steps, `decode`: pure functions, to be called under jit. `sample` is
the whole pass in one program. The composer runs the parts by themselves, to show progress in between.
"""

import functools
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gencompositor_jax import codec, sharding
from gencompositor_jax.arch import ModelArch
from gencompositor_jax.controls.conditions import Conditions
from gencompositor_jax.diffusion import sampler
from gencompositor_jax.masks.latent import latent_mask
from gencompositor_jax.model.denoiser import Denoiser, LatentConditions
from gencompositor_jax.pixels import to_pixels, to_signed

INPUTS = ("mask", "masked_background", "foreground")
# A clip as pixels: of INPUTS the mask is bool [T, H, W], the others are uint8 [T, H, W, 3].
Example = Mapping[str, np.ndarray]
Guidance = tuple[jax.Array, jax.Array]  # the empty prompt's embedding [L, D], the scale


class Keys(NamedTuple):
    """Where a batch's noise comes from: a key per clip [B] and purpose.

    A clip's noise depends on its own keys alone, so its answer doesn't depend on the rest of the batch.
    """

    start: jax.Array
    steps: jax.Array
    background: jax.Array  # for the codec's posterior
    foreground: jax.Array


def split(keys: jax.Array) -> Keys:
    """One key per clip [B] -> one per clip and purpose."""
    start, steps, for_codec = jax.vmap(lambda key: jax.random.split(key, 3), out_axes=1)(keys)
    return Keys(start, steps, *jax.vmap(jax.random.split, out_axes=1)(for_codec))


def draw(keys: jax.Array, arch: ModelArch) -> jax.Array:
    """Standard normal latents [B, t, h, w, C]."""
    return jax.vmap(lambda key: jax.random.normal(key, arch.latent_shape))(keys)


def encode(params: Any, conditions: Conditions, keys: Keys, *, arch: ModelArch) -> LatentConditions:
    """Conditions [B, T, H, W, C] -> latents; one of the two videos after the other, to save memory.

    params: of the codec, which runs in their type.
    """
    videos = jnp.stack([conditions.masked_background, conditions.foreground])
    noises = jnp.stack([draw(keys.background, arch), draw(keys.foreground, arch)])

    def one(given: tuple[jax.Array, jax.Array]) -> jax.Array:
        video, noise = given
        video = sharding.constrain(video, sharding.ROWS, None, sharding.TOKENS)
        latents = codec.encode(params, arch.codec, video, noise, dtype=_dtype(params))
        return sharding.constrain(latents, sharding.ROWS)

    latents = jax.lax.map(one, (videos, noises))
    factors = arch.codec.time_factor, arch.codec.space_factor
    mask = latent_mask(conditions.mask[..., 0], *factors, rule=arch.latent_mask)
    return LatentConditions(latents[0], latents[1], mask[..., None].astype(jnp.float32))


def advance(
    arrays: Any,
    text: jax.Array,
    guided: Guidance | None,
    given: LatentConditions,
    state: sampler.SolverState,
    first: jax.Array,
    part: sampler.Coefficients,
    keys: jax.Array,
    computed: jax.Array | None = None,
    kept: jax.Array | None = None,
    *,
    arch: ModelArch,
) -> sampler.SolverState:
    """Some steps of the solver, from index `first` on.

    text: the prompt's embedding [L, D], the same for all clips; the network runs in its type. guided: None
    where the prompt is all there is. keys: of the steps' noise [B]. computed, kept: the approximations of
    `fast`, bool [steps] and int [F]; None for the exact pass.
    """
    denoiser = Denoiser(arch, text.dtype)
    networks = {name: arrays[name] for name in ("backbone", "branch")}

    def under(latents: jax.Array, timestep: jax.Array, text: jax.Array) -> jax.Array:
        times = len(latents) // len(given.mask)  # guidance asks for every clip twice
        many = jax.tree.map(lambda x: jnp.concatenate([x] * times), given)
        return denoiser(networks, latents, timestep, many, text, kept)

    def alone(latents: jax.Array, timestep: jax.Array) -> jax.Array:
        return under(latents, timestep, jnp.broadcast_to(text, (len(latents), *text.shape)))

    predict = alone if guided is None else sampler.guided(under, guided[0], text, guided[1])

    def noise(index: jax.Array) -> jax.Array:
        return jax.vmap(lambda key: sampler.step_noise(key, index, arch.latent_shape))(keys)

    return sampler.advance(predict, state, first, part, noise, computed)


def decode(params: Any, latents: jax.Array, *, arch: ModelArch) -> jax.Array:
    """Latents [B, t, h, w, C] -> uint8 [B, T, H, W, 3]; the codec runs in its parameters' type."""
    latents = sharding.constrain(latents, sharding.ROWS, None, sharding.TOKENS)
    return to_pixels(codec.decode(params, arch.codec, latents, dtype=_dtype(params)))


def sample(
    arrays: Any,
    examples: Sequence[Example],
    numbers: Sequence[int],
    *,
    arch: ModelArch,
    steps: int,
    seed: int,
    size: int | None = None,
) -> np.ndarray:
    """One sampling pass for a batch of clips: uint8 [B, T, H, W, 3], the same on every process.

    Under `jax.set_mesh` the clips are spread over the mesh's rows; `arrays` may be cut over it in any way.

    Args:
        arrays: of a checkpoint, `checkpoint.Model.arrays`; the network runs in `null_text`'s type.
        examples: the clips, at least one, the same on every process. Only INPUTS are read.
        numbers: of the clips: a clip's noise comes from the seed and its number alone.
        arch: static, like the steps: another one is another program.
        steps: of the DPM solver.
        seed: 0 to 2^32 - 1.
        size: the batch is filled up to this size (and the surplus thrown away), so that a last, shorter batch
            needs no other program. It is always filled up to what the mesh's rows divide.
    """
    mesh = jax.sharding.get_mesh()
    rows = 1 if mesh.empty else sharding.axis_size(mesh, sharding.ROWS)
    full = -(-max(len(examples), size or 0) // rows) * rows
    filled = [*range(len(examples)), *[0] * (full - len(examples))]
    here = filled if mesh.empty else [filled[row] for row in sharding.rows_here(mesh, full)]
    batch: Any = {name: np.stack([examples[i][name] for i in here]) for name in INPUTS}
    if not mesh.empty:
        batch = sharding.to_devices(batch, sharding.rows_here(mesh, full), full, mesh)
    which = np.array([numbers[i] for i in filled])
    frames = _sample(arrays, batch, which, np.uint32(seed), arch=arch, steps=steps)
    return np.asarray(frames)[: len(examples)]


@functools.partial(jax.jit, static_argnames=("arch", "steps"))
def _sample(
    arrays: Any,
    batch: Mapping[str, jax.Array],
    numbers: jax.Array,
    seed: jax.Array,
    *,
    arch: ModelArch,
    steps: int,
) -> jax.Array:
    """INPUTS [B, ...] and numbers int [B] -> uint8 [B, T, H, W, 3], a whole copy on every device."""
    # Under jit the arrays of `Conditions` are JAX's.
    mask: Any = batch["mask"][..., None].astype(jnp.float32)
    videos: Any = (to_signed(batch[name]) for name in INPUTS[1:])
    conditions = Conditions(mask, *videos)
    keys = split(jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), numbers))
    given = encode(arrays["codec"], conditions, keys, arch=arch)
    plan = sampler.coefficients(arch.diffusion, steps, "dpm")
    start = sampler.initial_state(draw(keys.start, arch))
    text = arrays["null_text"]
    state = advance(arrays, text, None, given, start, jnp.int32(0), plan, keys.steps, arch=arch)
    return sharding.constrain(decode(arrays["codec"], state.x, arch=arch))


def _dtype(params: Any) -> Any:
    """The type of a codec's parameters; float32 where it has none."""
    leaves = jax.tree.leaves(params)
    return leaves[0].dtype if leaves else jnp.float32
