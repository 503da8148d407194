"""One sampling pass, for a batch of clips: conditions at the model's size -> frames.

    start    seed and clip numbers     -> noise keys, pure noise         [B, t, h, w, C]
    encode   Conditions [B, T, H, W, C] -> LatentConditions              [B, t, h, w, C]
    advance  some steps of the solver   -> latents                       [B, t, h, w, C]
    decode   latents                    -> frames, uint8                 [B, T, H, W, 3]

The four are compiled programs. `generate` calls them from the host, so that progress can be shown, a pass can
be interrupted between two parts, and JAX can keep the programs on disk. The batch axis stays from the first
to the last: one clip is a batch of one. Under `jax.set_mesh` the clips are sharded over the mesh's rows.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils

from gencompositor_jax import codec, sharding
from gencompositor_jax.arch import Inflation, ModelArch
from gencompositor_jax.checkpoints import Model
from gencompositor_jax.controls.conditions import Conditions
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.diffusion import approximations, sampler
from gencompositor_jax.errors import InputError
from gencompositor_jax.inference.programs import Run, directly
from gencompositor_jax.inference.timer import Timer
from gencompositor_jax.masks.latent import latent_mask
from gencompositor_jax.model.denoiser import Denoiser, LatentConditions
from gencompositor_jax.pixels import to_pixels

OnStep = Callable[[int, int], None]  # (steps done, steps in all)
OnEstimate = Callable[[np.ndarray], None]  # a picture of the present estimate, uint8 [h, w, 3]
Guidance = tuple[jax.Array, jax.Array]  # the empty prompt's embedding [L, D], the scale


class NoiseKeys(NamedTuple):
    """PRNG keys [B] by purpose. A clip's noise depends on its own keys alone."""

    start: jax.Array
    steps: jax.Array
    background: jax.Array  # for the codec's posterior
    foreground: jax.Array


class LatentStore(Protocol):
    """Where the latents of a pass are kept before they are decoded."""

    def read(self) -> np.ndarray | None:
        """Latents [B, t, h, w, C] of this very pass; None if there are none."""

    def write(self, latents: np.ndarray) -> None:
        """Keeps the latents [B, t, h, w, C]."""


def generate(
    model: Model,
    conditions: Conditions,
    numbers: Sequence[int],
    options: SamplingOptions = SamplingOptions(),  # noqa: B008 (frozen)
    *,
    seeds: Sequence[int] | None = None,
    size: int | None = None,
    run: Run = directly,
    on_step: OnStep | None = None,
    on_estimate: OnEstimate | None = None,
    timer: Timer | None = None,
    store: LatentStore | None = None,
) -> np.ndarray:
    """The whole pass: frames, uint8 [B, T, H, W, 3], the same on every process.

    Args:
        model: a checkpoint; the networks run in the dtype of its text embeddings, the codec in its own.
        conditions: [B, T, H, W, C] of the model's frames and size, the same on every process.
        numbers: of the clips; a clip's noise is a function of its seed and its number.
        seeds: of the clips; None is `options.seed` for all.
        options: paste-back is left to the caller.
        size: the batch is padded to this size with copies of the first clip, so that a last, shorter batch
            runs the same programs. It is always padded to a multiple of the mesh's rows.
        run: calls the compiled programs.
        on_step: called after each part.
        on_estimate: called before that, with `picture` of the first clip; costs the decoding of one latent
            frame.
        timer: gets the seconds of encode, sample and decode; the first call of a shape compiles within them.
        store: kept latents of this very pass are decoded at once; otherwise it gets what was sampled.

    Raises InputError where the device has too little memory to decode.
    """
    timer = timer or Timer()
    # Masks come inflated: programs don't depend on the inflation.
    model = dataclasses.replace(model, arch=dataclasses.replace(model.arch, inflation=Inflation()))
    latents: Any = None if store is None else store.read()
    if latents is None:
        seeds = [options.seed] * len(numbers) if seeds is None else seeds
        latents = _sample(model, conditions, numbers, seeds, options, size, run, on_step, on_estimate, timer)
        if store is not None:
            store.write(np.asarray(latents))
    with timer("decode"), enough_memory_to_decode(store):
        frames = run(decode, model.arrays["codec"], latents, arch=model.arch)
        return gathered(frames)[: len(numbers)]


@contextlib.contextmanager
def enough_memory_to_decode(store: LatentStore | None) -> Iterator[None]:
    """Raises InputError, with the remedy, where the device has too little memory."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        resume = f"; {store} keeps the latents, the same call resumes from them" if store else ""
        raise InputError(
            f"the device has too little memory to decode: decode in tiles (tiles=released){resume}"
        ) from error


def _sample(
    model: Model,
    conditions: Conditions,
    numbers: Sequence[int],
    seeds: Sequence[int],
    options: SamplingOptions,
    size: int | None,
    run: Run,
    on_step: OnStep | None,
    on_estimate: OnEstimate | None,
    timer: Timer,
) -> jax.Array:
    """`generate` up to the latents [B, t, h, w, C]."""
    arch, arrays = model.arch, model.arrays
    steps, solver = options.schedule(arch.diffusion)
    networks = {name: arrays[name] for name in arch.stacks}
    text = arrays["null_text"] if options.prompt is None else model.prompts[options.prompt]
    guidance = (arrays["null_text"], jnp.float32(options.guidance)) if options.guided else None
    fast = approximations.parse(options.fast)
    computed = approximations.computed_steps(steps, fast.cache) if fast.cache > 1 else None
    kept = approximations.kept_tokens(conditions.foreground, arch) if fast.drop_blank else None
    with timer("encode"):
        batch, filled = _placed(conditions, numbers, size)
        of_clips = (
            np.asarray(column, kind)[filled] for column, kind in ((seeds, np.uint32), (numbers, np.int32))
        )
        keys, state = on_rows(run(start, *of_clips, arch=arch, skipping=computed is not None))
        given = on_rows(run(encode, arrays["codec"], batch, keys, arch=arch))
        jax.block_until_ready(given)
    with timer("sample"):
        table = sampler.coefficients(arch.diffusion, steps, solver)
        columns = [c.astype(np.int32 if c.dtype.kind == "i" else np.float32) for c in table]
        length = part_length(steps)
        for first in range(0, steps, length):
            now = slice(first, first + length)
            part = sampler.Coefficients(*(column[now] for column in columns))
            flags = None if computed is None else computed[now]
            moving = given, state, np.int32(first), part, keys.steps, flags, kept
            state = on_rows(run(advance, networks, text, guidance, *moving, arch=arch))
            jax.block_until_ready(state)
            if on_estimate is not None:
                on_estimate(picture(model, state.x0_old))
            if on_step is not None:
                on_step(first + length, steps)
    return state.x


def part_length(steps: int) -> int:
    """Steps per call of `advance`: a divisor, so that one program serves all calls.

    At least ten calls where the number allows it: between two of them progress is shown and a pass can be
    interrupted.
    """
    return max(d for d in range(1, steps + 1) if steps % d == 0 and (d == 1 or steps // d >= 10))


@functools.partial(jax.jit, static_argnames=("arch", "skipping"))
def start(
    seeds: jax.Array, numbers: jax.Array, *, arch: ModelArch, skipping: bool = False
) -> tuple[NoiseKeys, sampler.SolverState]:
    """Noise keys of clips `numbers`, int [B], and the solver's state before its first step.

    seeds: uint32 [B], or one for all clips.
    """
    seeds = jnp.broadcast_to(seeds, numbers.shape)
    keys = noise_keys(jax.vmap(lambda seed, n: jax.random.fold_in(jax.random.key(seed), n))(seeds, numbers))
    latents = sharding.constrain(draw(keys.start, arch), sharding.ROWS)
    return keys, sampler.initial_state(latents, skipping=skipping)


@functools.partial(jax.jit, static_argnames="arch")
def encode(params: Any, conditions: Conditions, keys: NoiseKeys, *, arch: ModelArch) -> LatentConditions:
    """Conditions [B, T, H, W, C] -> latents; one of the two videos after the other, to save memory.

    params: of the codec, which runs in their dtype.
    """
    videos = jnp.stack([conditions.masked_background, conditions.foreground])
    noises = jnp.stack([draw(keys.background, arch), draw(keys.foreground, arch)])

    def one(given: tuple[jax.Array, jax.Array]) -> jax.Array:
        video, noise = given
        video = sharding.constrain(video, sharding.ROWS, None, sharding.TOKENS)
        latents = codec.encode(params, arch.codec, video, noise, dtype=dtype_of(params))
        return sharding.constrain(latents, sharding.ROWS)

    latents = jax.lax.map(one, (videos, noises))
    factors = arch.codec.time_factor, arch.codec.space_factor
    mask = latent_mask(conditions.mask[..., 0], *factors, rule=arch.latent_mask)
    mask = mask[..., None].astype(jnp.float32)
    offsets = None if conditions.offsets is None else jnp.asarray(conditions.offsets)
    return LatentConditions(latents[0], latents[1], mask, offsets)


@functools.partial(jax.jit, static_argnames="arch", donate_argnames="state")
def advance(
    networks: Any,
    text: jax.Array,
    guidance: Guidance | None,
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

    networks: variables of `ModelArch.stacks`. text: the prompt's embedding [L, D], the same for all clips;
    the networks run in its dtype. guidance: None evaluates the prompt alone. keys: of the steps' noise [B].
    computed, kept: of `approximations`, bool [steps] and int [F]; None for the exact pass.
    """
    predict = predictor(networks, text, guidance, given, kept, arch)

    def noise(index: jax.Array) -> jax.Array:
        return jax.vmap(lambda key: sampler.step_noise(key, index, arch.latent_shape))(keys)

    return sampler.advance(predict, state, first, part, noise, computed)


def predictor(
    networks: Any,
    text: jax.Array,
    guidance: Guidance | None,
    given: LatentConditions,
    kept: jax.Array | None,
    arch: ModelArch,
) -> sampler.Predict:
    """The network with its conditions bound; the arguments are those of `advance`."""
    denoiser = Denoiser(arch, text.dtype)

    def conditioned(latents: jax.Array, timestep: jax.Array, text: jax.Array) -> jax.Array:
        times = len(latents) // len(given.mask)  # guidance evaluates every clip twice
        repeated = jax.tree.map(lambda x: jnp.concatenate([x] * times), given)
        return denoiser(networks, latents, timestep, repeated, text, kept)

    def unguided(latents: jax.Array, timestep: jax.Array) -> jax.Array:
        return conditioned(latents, timestep, jnp.broadcast_to(text, (len(latents), *text.shape)))

    return unguided if guidance is None else sampler.guided(conditioned, guidance[0], text, guidance[1])


@functools.partial(jax.jit, static_argnames="arch")
def decode(params: Any, latents: jax.Array, *, arch: ModelArch) -> jax.Array:
    """Latents [B, t, h, w, C] -> uint8 [B, T, H, W, 3]; the codec runs in its parameters' dtype."""
    latents = sharding.constrain(latents, sharding.ROWS, None, sharding.TOKENS)
    return to_pixels(codec.decode(params, arch.codec, latents, dtype=dtype_of(params)))


def picture(model: Model, estimate: jax.Array | np.ndarray) -> np.ndarray:
    """The middle latent frame of a solver's estimate of the result, uint8 [h, w, 3].

    estimate: latents [B, t, h, w, C], of which the first clip is shown. The frame is decoded by itself, as if
    it were a clip's first one: nearly what it shows in the clip, at the cost of one frame.
    """
    middle = estimate.shape[1] // 2
    frame = decode(model.arrays["codec"], estimate[:, middle : middle + 1], arch=model.arch)
    return gathered(frame)[0, 0]


def noise_keys(keys: jax.Array) -> NoiseKeys:
    """One key per clip [B] -> one per clip and purpose."""
    start, steps, for_codec = jax.vmap(lambda key: jax.random.split(key, 3), out_axes=1)(keys)
    return NoiseKeys(start, steps, *jax.vmap(jax.random.split, out_axes=1)(for_codec))


def draw(keys: jax.Array, arch: ModelArch) -> jax.Array:
    """Standard normal latents [B, t, h, w, C]."""
    return jax.vmap(lambda key: jax.random.normal(key, arch.latent_shape))(keys)


def _placed(conditions: Conditions, numbers: Sequence[int], size: int | None) -> tuple[Conditions, list[int]]:
    """The batch padded to `size` and to the mesh's rows, sharded over them, and which clip is in each row."""
    mesh = jax.sharding.get_mesh()
    rows = 1 if mesh.empty else sharding.axis_size(mesh, sharding.ROWS)
    full = -(-max(len(numbers), size or 0) // rows) * rows
    filled = [*range(len(numbers)), *[0] * (full - len(numbers))]
    here = range(full) if mesh.empty else sharding.rows_here(mesh, full)
    given = {name: x for name, x in conditions._asdict().items() if x is not None}
    batch: Any = {name: x[[filled[row] for row in here]] for name, x in given.items()}
    if not mesh.empty:
        batch = sharding.to_devices(batch, here, full, mesh)
    return Conditions(**batch), filled


def on_rows(tree: Any) -> Any:
    """A program's results for a batch, sharded over the rows of the mesh in force; scalars are replicated.

    XLA chooses the shardings of results: without this, a program would be compiled again for the results of
    its first call. Over a mesh of several processes they stay as they are: no process holds all of them.
    """
    mesh = jax.sharding.get_mesh()
    if mesh.empty or mesh.is_multi_process:
        return tree
    rows, whole = sharding.by_rows(mesh), sharding.replicated(mesh)
    return jax.tree.map(lambda x: jax.device_put(x, rows if x.ndim else whole), tree)


def gathered(frames: jax.Array) -> np.ndarray:
    """All rows on every process."""
    if frames.is_fully_addressable:
        return np.asarray(frames)
    return np.asarray(multihost_utils.process_allgather(frames, tiled=True))


def dtype_of(params: Any) -> Any:
    """The dtype of a codec's parameters; float32 where it has none."""
    leaves = jax.tree.leaves(params)
    return leaves[0].dtype if leaves else jnp.float32
