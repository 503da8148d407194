import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import jax
import numpy as np
import pytest

from gencompositor_jax import sharding
from gencompositor_jax.codec import chunks
from gencompositor_jax.controls.conditions import Conditions
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.inference import long_clips, pipeline, state_file
from gencompositor_jax.inference.state_file import StateFile
from gencompositor_jax.masks.latent import latent_mask, latent_mask_chunk
from gencompositor_jax.pixels import to_signed

LONG = 13  # frames; the small model has 5, so 4 latent frames in windows of 2


def clip(frames: int) -> Conditions:
    rng = np.random.default_rng(0)
    videos = rng.integers(0, 256, (2, frames, 32, 48, 3), dtype=np.uint8)
    mask = np.broadcast_to(np.arange(48) < 16, (frames, 32, 48))
    return Conditions(mask[..., None].astype(np.float32), *(to_signed(video) for video in videos))


def parts(given: Conditions, arch: Any) -> Iterator[Conditions]:
    first = 0
    for size in chunks.chunk_sizes(len(given.mask), chunks.frames_per_chunk(arch.codec)):
        yield Conditions(*(None if x is None else x[first : first + size] for x in given))
        first += size


def sampled(model: Any, given: Conditions, number: int = 3, **options: Any) -> np.ndarray:
    """The frames [T, H, W, 3] of a clip that is sampled in windows."""
    how = SamplingOptions(**{"steps": 2, "seed": 3} | options)
    keys, _ = pipeline.start(np.uint32(how.seed), np.array([number]), arch=model.arch)
    latents = long_clips.encode_clip(model, parts(given, model.arch), len(given.mask), None, keys)
    x = long_clips.sample_clip(model, latents, keys, how)
    return np.concatenate(list(long_clips.decode_clip(model, x))).astype(int)


@pytest.mark.parametrize("fast", [None, "cache:2"])
def test_one_window_is_the_pass_of_a_short_clip(small_model, fast):
    steps = 4
    whole = pipeline.generate(
        small_model,
        jax.tree.map(lambda x: x[None], clip(5)),
        [3],
        SamplingOptions(steps=steps, seed=3, fast=fast),
    )
    found = sampled(small_model, clip(5), steps=steps, fast=fast)
    assert np.abs(found - whole[0]).max() <= 1


class Killed(Exception):
    """Raised in place of a signal."""


@pytest.mark.parametrize("fast", [None, "cache:2"])
def test_a_killed_clip_resumes_to_the_same_bits(small_model, fast, tmp_path, monkeypatch):
    monkeypatch.setattr(state_file, "EVERY_S", 0.0)
    how, given = SamplingOptions(steps=5, seed=3, fast=fast), clip(LONG)
    keys, _ = pipeline.start(np.uint32(3), np.array([3]), arch=small_model.arch)
    latents = long_clips.encode_clip(small_model, parts(given, small_model.arch), LONG, None, keys)
    evaluations: list[int] = []
    whole = long_clips.sample_clip(
        small_model, latents, keys, how, on_step=lambda i, n: evaluations.append(i)
    )

    def sample(made_from: str, stop: int = 0) -> np.ndarray:
        def on_step(done: int, in_all: int) -> None:
            seen.append(done)
            if done == stop:
                raise Killed

        kept = StateFile(tmp_path / "state.npz", made_from)
        return long_clips.sample_clip(small_model, latents, keys, how, on_step=on_step, kept_state=kept)

    seen: list[int] = []
    with pytest.raises(Killed):
        sample("this", stop=evaluations[-2])
    first, seen = seen, []
    np.testing.assert_array_equal(sample("this"), whole)
    assert 0 < len(seen) < len(first) and seen[-1] == evaluations[-1]
    seen = []
    np.testing.assert_array_equal(sample("another"), whole)
    assert seen == evaluations
    (tmp_path / "state.npz").write_text("damaged")
    np.testing.assert_array_equal(sample("another"), whole)


def test_a_network_without_memory_does_not_see_the_windows(small_model, monkeypatch):
    """A prediction frame by frame gives what one window over the whole clip gives, but for the noise."""

    def network(*args: Any) -> Any:
        return lambda latents, timestep: 0.5 * latents + args[3].background

    monkeypatch.setattr(pipeline, "predictor", network)
    arch = dataclasses.replace(small_model.arch, frames=LONG)
    whole = dataclasses.replace(small_model, arch=arch)
    # The solver `ddim` adds no noise of its own.
    options: dict[str, Any] = {"solver": "ddim", "steps": 3}
    noise = np.random.default_rng(1).standard_normal((1, *arch.latent_shape)).astype(np.float32)

    def given_noise(keys: Any, block: Any, *, arch: Any) -> Any:
        size = arch.latent_shape[0]
        return jax.lax.dynamic_slice_in_dim(noise, block * size, size, axis=1)

    monkeypatch.setattr(long_clips, "block_noise", given_noise)
    for jitted in (long_clips.predict, long_clips.solve):
        jitted.clear_cache()
    frames = [sampled(model, clip(LONG), **options) for model in (small_model, whole)]
    for jitted in (long_clips.predict, long_clips.solve):
        jitted.clear_cache()
    assert np.abs(frames[0] - frames[1]).max() <= 1


def test_predictions_are_cross_faded(small_model):
    """Of windows that predict their own number; one step of the solver returns the prediction."""
    arch, number = small_model.arch, itertools.count()

    def run(program: Any, *args: Any, **static: Any) -> Any:
        if program is long_clips.predict:
            return jax.numpy.full((1, *arch.latent_shape), next(number), jax.numpy.float32)
        return program(*args, **static)

    keys, _ = pipeline.start(np.uint32(3), np.array([0]), arch=arch)
    latents = long_clips.encode_clip(small_model, parts(clip(LONG), arch), LONG, None, keys)
    how = SamplingOptions(steps=1, solver="ddim")
    x = long_clips.sample_clip(small_model, latents, keys, how, run=run)
    np.testing.assert_allclose(x.min(axis=(0, 2, 3, 4)), [0, 0.5, 1.5, 2], atol=1e-4)
    np.testing.assert_allclose(x.max(axis=(0, 2, 3, 4)), [0, 0.5, 1.5, 2], atol=1e-4)


def test_a_long_clip_is_sampled_in_windows(small_model):
    """The same each time; progress counts the network's evaluations."""
    heard: list[tuple[int, int]] = []
    how = SamplingOptions(steps=2, seed=3)
    keys, _ = pipeline.start(np.uint32(3), np.array([0]), arch=small_model.arch)
    latents = long_clips.encode_clip(small_model, parts(clip(LONG), small_model.arch), LONG, None, keys)
    x = long_clips.sample_clip(small_model, latents, keys, how, on_step=lambda *at: heard.append(at))
    assert x.shape == (1, 4, *small_model.arch.latent_shape[1:]) and np.isfinite(x).all()
    assert heard == [(done, 6) for done in range(1, 7)]  # three windows, two steps
    again = long_clips.sample_clip(small_model, latents, keys, how)
    np.testing.assert_array_equal(again, x)


@pytest.mark.slow
def test_on_a_mesh_windows_are_rows(small_model):
    alone = sampled(small_model, clip(LONG))
    with jax.set_mesh(sharding.make_mesh({"data": 2, "fsdp": 1, "context": 4})):
        together = sampled(small_model, clip(LONG))
    assert np.abs(together - alone).max() <= 1


def test_noise_is_by_latent_frame(small_model):
    keys, state = pipeline.start(np.uint32(3), np.array([3]), arch=small_model.arch)
    blocks = [long_clips.block_noise(keys.start, b, arch=small_model.arch) for b in range(3)]
    np.testing.assert_array_equal(blocks[0], state.x)
    flat = np.stack([np.ravel(block) for block in blocks])
    assert np.abs(np.corrcoef(flat) - np.eye(3)).max() < 0.1


@pytest.mark.parametrize("rule", ["released", "union"])
def test_chunks_of_a_mask_are_rows_of_its_latent_mask(rule):
    mask = np.random.default_rng(0).random((29, 8, 16)) < 0.1
    whole, first, found = latent_mask(mask, 4, 8, rule), 0, []
    for size in (13, 8, 8):
        found.append(latent_mask_chunk(mask[first : first + size], first, 29, 4, 8, rule))
        first += size
    np.testing.assert_array_equal(np.concatenate(found), whole)
