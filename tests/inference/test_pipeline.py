import dataclasses
import functools
from typing import Any

import jax
import numpy as np
import pytest

from gencompositor_jax import codec, sharding
from gencompositor_jax.arch import LinearCodecArch, VAEArch, released
from gencompositor_jax.checkpoints import Model, array_shapes
from gencompositor_jax.controls.conditions import Conditions
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.diffusion import sampler
from gencompositor_jax.inference import pipeline
from gencompositor_jax.inference.compiling import compile_pass
from gencompositor_jax.inference.programs import Programs
from gencompositor_jax.pixels import to_signed

STEPS = 2


def clips(count: int, seed: int = 0) -> Conditions:
    """Random videos of the small model's size, each with a mask of its own."""
    rng = np.random.default_rng(seed)
    videos = rng.integers(0, 256, (2, count, 5, 32, 48, 3), dtype=np.uint8)
    masks = np.arange(48) < np.arange(16, 16 + 8 * count, 8)[:, None, None, None]
    masks = np.broadcast_to(masks, (count, 5, 32, 48))
    return Conditions(masks[..., None].astype(np.float32), *(to_signed(video) for video in videos))


def generate(model: Any, given: Conditions, numbers: list[int], seed: int = 3, **how: Any) -> np.ndarray:
    options = SamplingOptions(steps=STEPS, seed=seed)
    return pipeline.generate(model, given, numbers, options, **how).astype(int)


@pytest.fixture(scope="module")
def answer(small_model) -> np.ndarray:
    return generate(small_model, clips(3), [5, 6, 7])


def test_a_clips_answer_depends_on_itself_alone(small_model, answer):
    assert answer.shape == (3, 5, 32, 48, 3) and 0 <= answer.min() < answer.max() <= 255
    # Other clips around it, in another place, with other fillers: sums in another order at most.
    swapped = generate(small_model, jax.tree.map(lambda x: x[[2, 0]], clips(3)), [7, 5], size=3)
    assert np.abs(swapped - answer[[2, 0]]).max() <= 1
    # Its number and the seed are what its noise comes from.
    others = generate(small_model, clips(3), [5, 6, 8])
    assert np.abs(others - answer)[:2].max() <= 1 < np.abs(others - answer)[2].max()
    assert np.abs(generate(small_model, clips(3), [5, 6, 7], seed=4) - answer).max() > 1


@pytest.mark.parametrize(
    "sizes",
    [{"data": 2, "fsdp": 2, "context": 2}, pytest.param({"fsdp": 8}, marks=pytest.mark.slow)],
    ids=str,
)
def test_on_a_mesh_with_cut_weights_it_is_the_same(small_model, answer, sizes):
    """Three clips over four or eight rows, so the batch is filled up; two devices cut one clip's tokens."""
    mesh = sharding.make_mesh(sizes)
    arrays = jax.device_put(small_model.arrays, sharding.shardings(small_model.arrays, mesh))
    kernel = arrays["backbone"]["params"]["blocks"]["attention"]["query"]["kernel"]
    assert not kernel.is_fully_replicated
    with jax.set_mesh(mesh):
        frames = generate(dataclasses.replace(small_model, arrays=arrays), clips(3), [5, 6, 7])
    assert np.abs(frames - answer).max() <= 1


def test_noise_is_another_for_each_clip_and_purpose(small_model):
    keys = pipeline.noise_keys(jax.random.split(jax.random.key(0), 2))
    drawn = [np.asarray(pipeline.draw(part, small_model.arch)) for part in keys]
    assert drawn[0].shape == (2, *small_model.arch.latent_shape)
    flat = np.concatenate(drawn).reshape(8, -1)
    assert np.abs(np.corrcoef(flat) - np.eye(8)).max() < 0.1  # eight independent draws
    np.testing.assert_allclose(flat.std(axis=1), 1, atol=0.1)


def test_each_video_is_read_from_its_posterior_with_its_own_noise(small_model, monkeypatch):
    """With a codec whose latents are the noise it is given, shifted by the video's mean."""
    monkeypatch.setattr(pipeline.codec, "encode", lambda _, arch, video, noise, dtype: noise + video.mean())
    arch, keys = small_model.arch, pipeline.noise_keys(jax.random.split(jax.random.key(0), 2))
    video = np.ones((2, 5, 32, 48, 3), np.float32)
    given = pipeline.encode({}, Conditions(video[..., :1], 0 * video, 8 * video), keys, arch=arch)
    np.testing.assert_allclose(given.background, pipeline.draw(keys.background, arch), atol=1e-5)
    np.testing.assert_allclose(given.foreground - 8, pipeline.draw(keys.foreground, arch), atol=1e-5)
    assert (given.mask == 1).all() and given.mask.shape == (*given.background.shape[:-1], 1)


def advanced(model: Any, guided: bool, **how: Any) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """Latents after a part of two steps, and the shapes of what the network was asked for."""
    arch, arrays = model.arch, model.arrays
    rng, asked = np.random.default_rng(0), []
    latents = [rng.standard_normal((1, *arch.latent_shape)).astype(np.float32) for _ in range(3)]
    mask = np.zeros((1, *arch.latent_shape[:3], 1), np.float32)
    given = pipeline.LatentConditions(latents[0], latents[1], mask)
    keys = pipeline.noise_keys(jax.random.split(jax.random.key(0), 1))
    part = sampler.coefficients(arch.diffusion, 2, "dpm")
    state = sampler.initial_state(jax.numpy.asarray(latents[2]), skipping="computed" in how)
    null = arrays["null_text"]
    network = pipeline.Denoiser.__call__

    def counted(self: Any, variables: Any, noisy: jax.Array, *rest: Any) -> jax.Array:
        asked.append(noisy.shape)
        return network(self, variables, noisy, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline.Denoiser, "__call__", counted)
        state = pipeline.advance(
            arrays,
            2 * null,
            (null, 3.0) if guided else None,
            given,
            state,
            0,
            part,
            keys.steps,
            arch=arch,
            **how,
        )
    return np.asarray(state.x), asked


def test_the_network_is_asked_once_unless_a_prompt_guides(small_model):
    """Once in the program of a step: for as many clips as there are, or for twice as many with a prompt."""
    shape = small_model.arch.latent_shape
    alone, asked = advanced(small_model, guided=False)
    assert asked == [(1, *shape)]
    guided, asked = advanced(small_model, guided=True)
    assert asked == [(2, *shape)]
    assert np.abs(guided - alone).max() > 0


def test_approximations_reach_the_network_and_the_sampler(small_model):
    tokens = int(np.prod(small_model.arch.token_grid))
    exact, _ = advanced(small_model, guided=True)
    same, _ = advanced(small_model, True, kept=np.arange(tokens, dtype=np.int32), computed=np.ones(2, bool))
    np.testing.assert_allclose(same, exact, atol=1e-6)
    fewer, _ = advanced(small_model, True, kept=np.arange(1, dtype=np.int32))
    skipped, _ = advanced(small_model, True, computed=np.array([True, False]))
    assert np.abs(fewer - exact).max() > 1e-6 and np.abs(skipped - exact).max() > 1e-6


def conv_types(function: Any, *args: Any) -> set[str]:
    """Types that a function's convolutions compute in."""
    found, waiting = set(), [jax.make_jaxpr(function)(*args).jaxpr]
    while waiting:
        for equation in waiting.pop().eqns:
            if equation.primitive.name == "conv_general_dilated":
                found |= {str(v.aval.dtype) for v in (*equation.invars, *equation.outvars)}
            for value in equation.params.values():
                inner = getattr(value, "jaxpr", value)
                waiting += [inner] if hasattr(inner, "eqns") else []
    return found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_vae_runs_in_the_type_of_its_weights(dtype):
    codec_arch = VAEArch(block_widths=(4, 4, 4), layers_per_block=1, norm_groups=2, latent_channels=4)
    arch = dataclasses.replace(released(), frames=17, height=16, width=16, codec=codec_arch)
    shapes = jax.eval_shape(lambda key: codec.init_codec(key, codec_arch), jax.random.key(0))
    params = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, dtype), shapes)
    latents = jax.ShapeDtypeStruct((1, *arch.latent_shape), np.float32)
    frames = jax.ShapeDtypeStruct((1, 17, 16, 16, 3), np.float32)
    mask = jax.ShapeDtypeStruct((1, 17, 16, 16, 1), np.float32)
    keys = jax.eval_shape(lambda: pipeline.noise_keys(jax.random.split(jax.random.key(0), 1)))
    encode = functools.partial(pipeline.encode, arch=arch)
    assert conv_types(encode, params, Conditions(mask, frames, frames), keys) == {dtype}
    decode = functools.partial(pipeline.decode, arch=arch)
    assert conv_types(decode, params, latents) == {dtype}
    assert jax.eval_shape(decode, params, latents).dtype == np.uint8  # made on the device


@pytest.fixture(scope="module")
def linear_model(small_model) -> Any:
    """`small_model` on linear latents, in the layout `trajectory`."""
    arch = dataclasses.replace(
        small_model.arch, codec=LinearCodecArch(latent_channels=24), layout="trajectory"
    )
    arch = dataclasses.replace(arch, **{n: dataclasses.replace(s, patch=1) for n, s in stacks(arch)})
    rng = np.random.default_rng(0)
    arrays = jax.tree.map(
        lambda leaf: (0.6 * rng.standard_normal(leaf.shape)).astype(leaf.dtype), array_shapes(arch)
    )
    return Model(arch, {**arrays, "codec": codec.init_codec(jax.random.key(0), arch.codec)})


def stacks(arch) -> list[tuple[str, Any]]:
    return [("backbone", arch.backbone), ("branch", arch.branch)]


def moving(count: int) -> Conditions:
    """`clips` whose foregrounds are moved by as many tokens as their number says."""
    return clips(count)._replace(offsets=np.arange(count, dtype=np.int32).repeat(4).reshape(count, 2, 2))


@pytest.fixture(scope="module")
def moved(linear_model) -> np.ndarray:
    return generate(linear_model, moving(3), [5, 6, 7])


def test_offsets_are_those_of_their_clip(linear_model, moved):
    """In a batch that is padded and in another order."""
    swapped = generate(linear_model, jax.tree.map(lambda x: x[[2, 0]], moving(3)), [7, 5], size=3)
    assert np.abs(swapped - moved[[2, 0]]).max() <= 1
    at_rest = generate(linear_model, moving(3)._replace(offsets=np.zeros((3, 2, 2), np.int32)), [5, 6, 7])
    changed = (at_rest != moved).mean((1, 2, 3, 4))
    assert changed[0] < 0.01 and changed[1:].min() > 0.03


def test_offsets_on_a_mesh(linear_model, moved):
    with jax.set_mesh(sharding.make_mesh({"data": 2, "fsdp": 2, "context": 2})):
        frames = generate(linear_model, moving(3), [5, 6, 7])
    assert np.abs(frames - moved).max() <= 1


@pytest.mark.slow
def test_a_compiled_pass_takes_offsets(linear_model, moved, tmp_path):
    compile_pass(linear_model, SamplingOptions(steps=STEPS), None, tmp_path / "programs", False)
    one = jax.tree.map(lambda x: x[1:2], moving(3))
    frames = generate(linear_model, one, [6], run=Programs.load(tmp_path / "programs"))
    assert np.abs(frames - moved[1:2]).max() <= 1
