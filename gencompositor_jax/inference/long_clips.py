"""A clip of more frames than the network's: encoded in chunks, sampled in windows, decoded in chunks.

One chunk or one window is on a device at a time. On the host the latents are whole, and nothing else.

    encode_clip    Conditions of chunks     -> LatentConditions    [1, t, h, w, C]
    sample_clip    LatentConditions         -> latents             [1, t, h, w, C]
    decode_clip    latents                  -> frames of chunks    uint8 [n, H, W, 3]

The compiled programs are those of one window and one chunk, whatever the clip's length. A clip of one window
gets the noise that `pipeline.generate` would give it.
"""

import functools
from collections.abc import Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gencompositor_jax import sharding
from gencompositor_jax.arch import ModelArch
from gencompositor_jax.checkpoints import Model
from gencompositor_jax.codec import chunks
from gencompositor_jax.controls.conditions import Conditions
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.diffusion import approximations, sampler
from gencompositor_jax.inference import pipeline
from gencompositor_jax.inference.pipeline import Guidance, NoiseKeys, OnEstimate, OnStep
from gencompositor_jax.inference.programs import Run, directly
from gencompositor_jax.inference.state_file import StateFile
from gencompositor_jax.inference.windows import block_key, cross_fade, window_starts
from gencompositor_jax.masks.latent import latent_mask_chunk
from gencompositor_jax.model.denoiser import LatentConditions
from gencompositor_jax.pixels import to_pixels

OVER_ROWS = (sharding.ROWS, None, sharding.TOKENS)  # clips and rows of pixels, of [B, T, H, W, C]


def latent_frames(arch: ModelArch, frames: int) -> int:
    """Latent frames t of a clip of `frames` frames, time_factor k + 1 or held up to that."""
    return -(-(frames - 1) // arch.codec.time_factor) + 1


def encode_clip(
    model: Model,
    given: Iterable[Conditions],
    frames: int,
    offsets: np.ndarray | None,
    keys: NoiseKeys,
    run: Run = directly,
) -> LatentConditions:
    """The latents of a clip's conditions: NumPy, float32 [1, t, h, w, C].

    given: conditions [n, H, W, C] of consecutive chunks, n by `chunks.chunk_sizes` of `frames`, which is
    time_factor k + 1. offsets: int32 [t, 2], of the foreground. keys: of one clip.
    """
    arch, params = model.arch, model.arrays["codec"]
    factors = arch.codec.time_factor, arch.codec.space_factor
    noises = {name: _Noise(getattr(keys, name), arch, run) for name in ("background", "foreground")}
    states: dict[str, Any] = dict.fromkeys(noises)
    found: dict[str, list[np.ndarray]] = {name: [] for name in (*noises, "mask")}
    first = 0
    for part in given:
        mask = latent_mask_chunk(part.mask[..., 0], first, frames, *factors, rule=arch.latent_mask)
        found["mask"].append(mask[..., None].astype(np.float32))
        start = sum(map(len, found["background"]))
        for name, video in (("background", part.masked_background), ("foreground", part.foreground)):
            noise = noises[name](start, start + len(mask))
            latents, states[name] = run(encode_chunk, params, video[None], noise, states[name], arch=arch)
            found[name].append(np.asarray(latents)[0])
        first += len(part.mask)
    whole: Any = {name: np.concatenate(parts)[None] for name, parts in found.items()}
    whole["offsets"] = None if offsets is None else offsets[None]
    return LatentConditions(**whole)


def sample_clip(
    model: Model,
    given: LatentConditions,
    keys: NoiseKeys,
    options: SamplingOptions,
    kept: np.ndarray | None = None,
    run: Run = directly,
    on_step: OnStep | None = None,
    on_estimate: OnEstimate | None = None,
    kept_state: StateFile | None = None,
) -> np.ndarray:
    """Latents [1, t, h, w, C] of a clip, NumPy float32, sampled in windows of the model's frames.

    given: of the whole clip, t at least the model's. kept: foreground tokens of a window, of
    `approximations`. on_step: called after each evaluation of the network, with (done, in all).
    on_estimate: called after each step with `pipeline.picture` of the clip's middle. kept_state: gets the
    state after a step now and then, and begins with the one that an earlier call has left.
    """
    arch, arrays = model.arch, model.arrays
    steps, solver = options.schedule(arch.diffusion)
    size, total = arch.latent_shape[0], given.mask.shape[1]
    starts = window_starts(total, size)
    weights = cross_fade(starts, size, total)[..., None, None, None]
    networks = {name: arrays[name] for name in arch.stacks}
    text = arrays["null_text"] if options.prompt is None else model.prompts[options.prompt]
    guidance = (arrays["null_text"], jnp.float32(options.guidance)) if options.guided else None
    cache = approximations.parse(options.fast).cache
    computed = approximations.computed_steps(steps, cache) if cache > 1 else None
    evaluated = np.ones(steps, bool) if computed is None else computed

    blocks = range(-(-total // size))
    states = [
        jax.tree.map(
            np.asarray,
            sampler.initial_state(
                run(block_noise, keys.start, np.int32(b), arch=arch), skipping=computed is not None
            ),
        )
        for b in blocks
    ]
    prediction = np.zeros((1, len(blocks) * size, *arch.latent_shape[1:]), np.float32)
    table = sampler.coefficients(arch.diffusion, steps, solver)
    columns = [c.astype(np.int32 if c.dtype.kind == "i" else np.float32) for c in table]
    first, states = (0, states) if kept_state is None else kept_state.read(states)
    done, in_all = (len(starts) * int(part.sum()) for part in (evaluated[:first], evaluated))
    for index in range(first, steps):
        part = sampler.Coefficients(*(column[index : index + 1] for column in columns))
        if evaluated[index]:
            x = np.concatenate([state.x for state in states], axis=1)
            prediction[:] = 0
            for group in _groups(len(starts)):
                windows = [(starts[w], starts[w] + size) for w in group]
                latents = np.concatenate([x[:, a:b] for a, b in windows])
                seen = jax.tree.map(lambda v, at=windows: np.concatenate([v[:, a:b] for a, b in at]), given)
                latents, seen = _on_rows((latents, seen))
                network = networks, text, guidance, seen, latents, part.timestep[0], kept
                predicted = pipeline.gathered(run(predict, *network, arch=arch))
                # A group may be filled up with its first window.
                for row, w in enumerate(dict.fromkeys(group)):
                    a, b = windows[row]
                    prediction[0, a:b] += weights[w] * predicted[row]
                    done += 1
                if on_step is not None:
                    on_step(done, in_all)
        flags = None if computed is None else computed[index : index + 1]
        for b in blocks:
            own = prediction[:, b * size : (b + 1) * size]
            advanced = run(
                solve, own, states[b], np.int32(index), part, keys.steps, np.int32(b), flags, arch=arch
            )
            states[b] = jax.tree.map(np.asarray, advanced)
        if kept_state is not None:
            kept_state.write(index + 1, states)
        if on_estimate is not None:
            on_estimate(pipeline.picture(model, states[len(blocks) // 2].x0_old))
    return np.concatenate([state.x for state in states], axis=1)[:, :total]


def decode_clip(model: Model, latents: np.ndarray, run: Run = directly) -> Iterator[np.ndarray]:
    """The frames of latents [1, t, h, w, C], chunk by chunk: uint8 [n, H, W, 3], time_factor (t - 1) + 1 in
    all.
    """
    arch, params = model.arch, model.arrays["codec"]
    state, first = None, 0
    for size in chunks.chunk_sizes(latents.shape[1], chunks.latents_per_chunk(arch.codec)):
        part = latents[:, first : first + size]
        frames, state = run(decode_chunk, params, part, state, arch=arch)
        yield pipeline.gathered(frames)[0]
        first += size


@functools.partial(jax.jit, static_argnames="arch")
def block_noise(keys: jax.Array, block: jax.Array, *, arch: ModelArch) -> jax.Array:
    """Standard normal latents [B, t, h, w, C] of a block of the model's latent frames."""
    return pipeline.draw(_block_keys(keys, block), arch)


@functools.partial(jax.jit, static_argnames="arch", donate_argnames="state")
def encode_chunk(
    params: Any, video: jax.Array, noise: jax.Array, state: chunks.State, *, arch: ModelArch
) -> tuple[jax.Array, chunks.State]:
    """Video [B, n, H, W, 3] in [-1, 1] -> latents, and the codec's state for the next chunk."""
    video = sharding.constrain(video, *OVER_ROWS)
    dtype = pipeline.dtype_of(params)
    latents, state = chunks.encode_chunk(params, arch.codec, video, state, noise, dtype=dtype)
    return latents, _kept(state)


@functools.partial(jax.jit, static_argnames="arch", donate_argnames="state")
def decode_chunk(
    params: Any, latents: jax.Array, state: chunks.State, *, arch: ModelArch
) -> tuple[jax.Array, chunks.State]:
    """Latents -> uint8 [B, n, H, W, 3], and the codec's state for the next chunk."""
    latents = sharding.constrain(latents, *OVER_ROWS)
    video, state = chunks.decode_chunk(params, arch.codec, latents, state, dtype=pipeline.dtype_of(params))
    return to_pixels(video), _kept(state)


@functools.partial(jax.jit, static_argnames="arch")
def predict(
    networks: Any,
    text: jax.Array,
    guidance: Guidance | None,
    given: LatentConditions,
    latents: jax.Array,
    timestep: jax.Array,
    kept: jax.Array | None = None,
    *,
    arch: ModelArch,
) -> jax.Array:
    """The network's prediction for windows [B, t, h, w, C]; the arguments are those of `pipeline.advance`."""
    network = pipeline.predictor(networks, text, guidance, given, kept, arch)
    return network(latents, jnp.full(latents.shape[:1], timestep, jnp.int32))


@functools.partial(jax.jit, static_argnames="arch")
def solve(
    prediction: jax.Array,
    state: sampler.SolverState,
    index: jax.Array,
    part: sampler.Coefficients,
    keys: jax.Array,
    block: jax.Array,
    computed: jax.Array | None = None,
    *,
    arch: ModelArch,
) -> sampler.SolverState:
    """One step of the solver for a block of latent frames whose prediction is known."""

    def noise(index: jax.Array) -> jax.Array:
        own = _block_keys(keys, block)
        return jax.vmap(lambda key: sampler.step_noise(key, index, arch.latent_shape))(own)

    return sampler.advance(lambda *_: prediction, state, index, part, noise, computed)


def _kept(state: chunks.State) -> chunks.State:
    """The state of a chunk for the next: XLA would shard it as it likes, for another program each time."""
    return jax.tree.map(lambda x: sharding.constrain(x, *OVER_ROWS), state)


class _Noise:
    """Noise of latent frames by their index in the clip, for the codec; keeps the last block."""

    def __init__(self, keys: jax.Array, arch: ModelArch, run: Run) -> None:
        self._draw = functools.lru_cache(maxsize=2)(
            lambda block: np.asarray(run(block_noise, keys, np.int32(block), arch=arch))
        )
        self._size = arch.latent_shape[0]

    def __call__(self, first: int, stop: int) -> np.ndarray:
        """[1, stop - first, h, w, C]."""
        return np.stack([self._draw(j // self._size)[:, j % self._size] for j in range(first, stop)], axis=1)


def _block_keys(keys: jax.Array, block: jax.Array) -> jax.Array:
    return jax.vmap(lambda key: block_key(key, block))(keys)


def _groups(windows: int) -> list[list[int]]:
    """Windows that are evaluated together: as many as the mesh has rows, the last group filled up with its
    first window.
    """
    mesh = jax.sharding.get_mesh()
    rows = 1 if mesh.empty else sharding.axis_size(mesh, sharding.ROWS)
    groups = [list(range(first, min(first + rows, windows))) for first in range(0, windows, rows)]
    return [group + group[:1] * (rows - len(group)) for group in groups]


def _on_rows(tree: Any) -> Any:
    """A batch, the same on every process, sharded over the rows of the mesh in force."""
    mesh = jax.sharding.get_mesh()
    if mesh.empty:
        return tree
    here = sharding.by_rows(mesh)
    return jax.tree.map(lambda x: jax.make_array_from_callback(x.shape, here, lambda at: x[at]), tree)
