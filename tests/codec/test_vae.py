"""Properties of the VAE; tests/parity compares its numbers with recordings."""

import dataclasses
import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gencompositor_jax import sharding
from gencompositor_jax.arch import VAEArch
from gencompositor_jax.codec import vae, vae_layers, vae_tiling
from gencompositor_jax.errors import InputError

# Three widths: the least that halves time twice. A latent pixel is 4 x 4 pixels.
SMALL = VAEArch(block_widths=(4, 8, 8), layers_per_block=1, latent_channels=2, norm_groups=2)


@pytest.fixture(scope="module")
def params() -> vae.Params:
    """Every leaf is random: fresh zeros would hide the biases, fresh ones the scales."""
    shapes = jax.eval_shape(functools.partial(vae.init, arch=SMALL), jax.random.key(0))
    rng = np.random.default_rng(0)

    def draw(leaf: jax.ShapeDtypeStruct) -> jax.Array:
        fan_in = np.prod(leaf.shape[:-1]) if len(leaf.shape) > 1 else 1
        return jnp.asarray(rng.normal(size=leaf.shape) / np.sqrt(fan_in), jnp.float32)

    return jax.tree.map(draw, shapes)


def clip(frames: int, seed: int = 0, batch: int = 1) -> jax.Array:
    return jax.random.uniform(jax.random.key(seed), (batch, frames, 8, 12, 3), minval=-1, maxval=1)


def test_parameter_count_at_full_size():
    shapes = jax.eval_shape(functools.partial(vae.init, arch=VAEArch()), jax.random.key(0))
    assert sum(leaf.size for leaf in jax.tree.leaves(shapes)) == 215_583_907


def test_fresh_parameters_are_float32_unit_gain_and_drawn_from_the_key():
    fresh = vae.init(jax.random.key(0), SMALL)
    assert {leaf.dtype for leaf in jax.tree.leaves(fresh)} == {jnp.dtype("float32")}
    block = fresh["decoder"]["up_0"]["res_0"]
    for name in ("conv1", "conv2"):
        kernel = block[name]["kernel"]
        assert float(jnp.std(kernel)) == pytest.approx((27 * kernel.shape[-2]) ** -0.5, rel=0.1)
    assert np.all(block["norm1"]["norm"]["scale"] == 1)
    kernels = [block["conv1"]["kernel"], block["conv2"]["kernel"]]
    kernels.append(vae.init(jax.random.key(1), SMALL)["decoder"]["up_0"]["res_0"]["conv1"]["kernel"])
    for a, b in itertools.combinations(kernels, 2):
        assert abs(np.corrcoef(np.ravel(a), np.ravel(b))[0, 1]) < 0.2


def test_later_frames_leave_earlier_latents_unchanged_and_earlier_frames_reach_later_ones(params):
    video = clip(25)
    before = np.asarray(vae.encode_moments(params, SMALL, video))
    assert before.shape == (1, 7, 2, 3, 4)
    late = np.asarray(vae.encode_moments(params, SMALL, video.at[:, 17:].add(0.5)))
    np.testing.assert_array_equal(late[:, :5], before[:, :5])
    assert np.abs(late[:, 5:] - before[:, 5:]).max() > 1e-3
    # Through the caches, a chunk depends on the frame before it.
    early = np.asarray(vae.encode_moments(params, SMALL, video.at[:, 16].add(0.5)))
    assert np.abs(early[:, 5] - before[:, 5]).max() > 1e-3


def test_rows_are_sharded_from_the_level_on_that_the_mesh_divides(params):
    """Of latents with 3 rows: 6, and then 12, which four devices share."""
    z = jax.random.normal(jax.random.key(0), (1, 3, 3, 2, 2))
    expected = vae.decode(params, SMALL, z)
    with jax.set_mesh(sharding.make_mesh({"tensor": 4}, jax.devices()[:4])):
        frames = vae.decode(params, SMALL, jnp.asarray(np.asarray(z)))
    assert frames.sharding.shard_shape(frames.shape)[2] == 3
    np.testing.assert_allclose(frames, expected, atol=1e-5)


def test_clips_of_a_batch_do_not_mix(params):
    videos = clip(9, batch=2)
    together = vae.encode_moments(params, SMALL, videos)
    alone = vae.encode_moments(params, SMALL, videos[1:])
    np.testing.assert_allclose(np.asarray(together[1:]), np.asarray(alone), atol=1e-5)


def test_a_single_latent_is_one_frame_of_a_still(params):
    """The release repeats a single latent frame and decodes 8 frames, which are equal."""
    z = jax.random.normal(jax.random.key(1), (1, 1, 2, 3, 2))
    one = vae.decode(params, SMALL, z)
    eight = vae.decode(params, SMALL, jnp.repeat(z, 2, axis=1))
    assert (one.shape, eight.shape) == ((1, 1, 8, 12, 3), (1, 8, 8, 12, 3))
    np.testing.assert_allclose(np.asarray(eight), np.broadcast_to(np.asarray(one), eight.shape), atol=1e-5)


def test_bfloat16_keeps_norms_and_results_in_float32(params):
    video, z = clip(9), jax.random.normal(jax.random.key(1), (1, 3, 2, 3, 2))
    for run, x in ((vae.encode_moments, video), (vae.decode, z)):
        exact, rough = (np.asarray(run(params, SMALL, x, dtype)) for dtype in (jnp.float32, jnp.bfloat16))
        assert rough.dtype == np.float32
        error = np.sqrt(np.mean((rough - exact) ** 2) / np.mean(exact**2))
        assert 1e-5 < error < 0.05  # it is bfloat16, and it is close
    x = jnp.full((1, 2, 2, 2, 4), 300, jnp.bfloat16).at[0, 0, 0, 0].set(302)
    assert vae_layers.group_norm(x, jnp.ones(4), jnp.zeros(4), 2, 1e-6).dtype == jnp.float32


@pytest.mark.slow
def test_memory_is_that_of_a_chunk_whatever_the_length():
    """Temporary memory of the compiled decoder: one pass over all latents would need 6 times as much."""
    shapes = jax.eval_shape(functools.partial(vae.init, arch=SMALL), jax.random.key(0))

    def megabytes(t: int, arch: VAEArch = SMALL) -> float:
        z = jax.ShapeDtypeStruct((1, t, 8, 8, SMALL.latent_channels), jnp.float32)
        memory = vae.decode.lower(shapes, arch, z).compile().memory_analysis()
        assert memory is not None
        return memory.temp_size_in_bytes / 2**20

    short, long = megabytes(5), megabytes(33)
    assert long < 2 * short  # of 6.6 times the latents
    assert megabytes(33, dataclasses.replace(SMALL, latents_per_chunk=32)) > 3 * long


@pytest.mark.parametrize("frames", range(2, 8))
def test_frame_counts_without_a_rule_are_refused(frames):
    with pytest.raises(InputError, match=f"video of {frames} frames.*pass 9 or more"):
        vae.encode_moments({}, SMALL, clip(frames))


def test_chunk_sizes_that_break_time_resampling_are_refused():
    with pytest.raises(InputError, match="latents_per_chunk=3: pass an even number"):
        vae.decode({}, dataclasses.replace(SMALL, latents_per_chunk=3), jnp.zeros((1, 5, 2, 2, 2)))
    with pytest.raises(InputError, match="frames_per_chunk=6: pass a multiple of 4"):
        vae.encode_moments({}, dataclasses.replace(SMALL, frames_per_chunk=6), clip(9))


# --- layers ----------------------------------------


@settings(max_examples=8, deadline=None)
@given(frames=st.integers(2, 5), data=st.data())
def test_a_convolution_in_two_chunks_is_the_convolution_of_the_whole(
    frames: int, data: st.DataObject
) -> None:
    split = data.draw(st.integers(1, frames - 1))
    rng = np.random.default_rng(frames)
    x, kernel, bias = (
        jnp.asarray(rng.normal(size=shape), jnp.float32)
        for shape in ((1, frames, 3, 4, 2), (3, 3, 3, 2, 3), (3,))
    )
    whole, _ = vae_layers.causal_conv(x, kernel, bias, None)
    head, past = vae_layers.causal_conv(x[:, :split], kernel, bias, None)
    tail, _ = vae_layers.causal_conv(x[:, split:], kernel, bias, past)
    np.testing.assert_allclose(np.concatenate([head, tail], axis=1), np.asarray(whole), atol=1e-5)


@settings(max_examples=8, deadline=None)
@given(frames=st.integers(3, 6), batch=st.integers(1, 2), time=st.sampled_from([1, 3]))
def test_a_convolution_of_frames_is_that_of_the_video(frames: int, batch: int, time: int) -> None:
    rng = np.random.default_rng(frames)
    x, kernel = (
        jnp.asarray(rng.normal(size=shape), jnp.float32)
        for shape in ((batch, frames, 5, 4, 2), (time, 3, 3, 2, 3))
    )
    video, images = vae_layers.convolve_video(x, kernel), vae_layers.convolve_frames(x, kernel)
    assert video.shape == (batch, frames - time + 1, 5, 4, 3)
    np.testing.assert_allclose(images, video, atol=1e-5)


@pytest.mark.parametrize("platform, sides", [("gpu", 2), ("cpu", 3), ("tpu", 3)])
def test_a_gpu_convolves_frames(monkeypatch: pytest.MonkeyPatch, platform: str, sides: int) -> None:
    monkeypatch.setattr(vae_layers.sharding, "platform", lambda: platform)
    shapes = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in ((1, 3, 4, 4, 2), (3, 3, 3, 2, 3), (3,))]
    program = str(jax.make_jaxpr(lambda *given: vae_layers.causal_conv(*given, None))(*shapes))
    assert f"window_strides=({', '.join(['1'] * sides)})" in program


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 9))
def test_doubling_time_undoes_halving_it_for_clips_that_change_in_pairs(frames: int) -> None:
    x = jnp.arange(frames, dtype=jnp.float32).reshape(1, frames, 1, 1, 1)
    doubled = vae_layers.repeat_frames(x, 2 * frames - frames % 2) if frames > 1 else x
    assert doubled.shape[1] == 2 * frames - frames % 2
    np.testing.assert_array_equal(np.asarray(vae_layers.halve_time(doubled)), np.asarray(x))


# --- tiles ----------------------------------------


@settings(max_examples=8, deadline=None)
@given(
    st.tuples(st.integers(1, 23), st.integers(1, 23)),
    st.tuples(st.integers(2, 8), st.integers(2, 8)),
    st.data(),
)
def test_tiles_of_an_identity_give_the_image_back(
    image: tuple[int, int], size: tuple[int, int], data: st.DataObject
):
    blend = tuple(data.draw(st.integers(0, extent // 2)) for extent in size)
    stride = (size[0] - blend[0], size[1] - blend[1])
    plan = vae_tiling.TilePlan(size, stride, (blend[0], blend[1]), stride)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 2, *image, 1)), jnp.float32)
    result = jax.jit(lambda x: vae_tiling.in_tiles(lambda tile: tile, x, plan))(x)
    np.testing.assert_allclose(np.asarray(result), x, atol=1e-6)


def test_a_seam_fades_from_the_old_tile_to_the_new():
    old, new = jnp.zeros((1, 1, 6, 2, 1)), jnp.ones((1, 1, 5, 2, 1))
    rows = np.asarray(vae_tiling.blend_seam(old, new, 4, axis=2))[0, 0, :, 0, 0]
    np.testing.assert_allclose(rows, [0, 0.25, 0.5, 0.75, 1])
    # A tile that ends at the border is blended over its own length.
    rows = np.asarray(vae_tiling.blend_seam(old, new[:, :, :2], 4, axis=2))[0, 0, :, 0, 0]
    np.testing.assert_allclose(rows, [0, 0.5])


@pytest.mark.parametrize(("tile", "axis"), [((32, 360), "height"), ((240, 364), "width"), ((8, 8), "height")])
def test_tiles_that_do_not_fit_are_refused(tile, axis):
    with pytest.raises(InputError, match=f"its {axis} does not fit"):
        vae_tiling.tile_plans(VAEArch(tile=tile))


def test_tiles_are_used_only_where_a_frame_is_larger():
    encode, decode = vae_tiling.tile_plans(VAEArch(tile=(240, 360)))
    assert not vae_tiling.needs_tiles(encode, 240, 360)
    assert vae_tiling.needs_tiles(encode, 248, 360)
    assert vae_tiling.needs_tiles(decode, 30, 46)


def test_norm_of_a_nearly_flat_clip_is_that_of_float64():
    """A white background with a small element: a sequential float32 sum would lose the small variation."""
    rng = np.random.default_rng(0)
    x = np.full((1, 9, 64, 96, 8), 0.7, np.float32) + 0.01 * rng.standard_normal(8).astype(np.float32)
    x[:, :, 20:40, 30:60] += 0.05 * rng.standard_normal((1, 9, 20, 30, 8)).astype(np.float32)
    scale, bias = np.ones(8, np.float32), np.zeros(8, np.float32)
    ours = jax.jit(vae_layers.group_norm, static_argnums=(3, 4))(x, scale, bias, 4, 1e-6)
    groups = x.astype(np.float64).reshape(*x.shape[:-1], 4, 2)
    mean, variance = (f(groups, axis=(1, 2, 3, 5), keepdims=True) for f in (np.mean, np.var))
    exact = ((groups - mean) / np.sqrt(variance + 1e-6)).reshape(x.shape)
    np.testing.assert_allclose(ours, exact, rtol=0, atol=5e-4)


def test_a_tpu_decodes_to_the_same_numbers(params, monkeypatch):
    z = jax.random.normal(jax.random.key(5), (1, 5, 4, 6, 2))

    def decoded():
        return jax.jit(lambda z: vae.decode.__wrapped__(params, SMALL, z))(z)

    here = decoded()
    asked = []
    monkeypatch.setattr(vae_layers.sharding, "platform", lambda: asked.append(1) or "tpu")
    np.testing.assert_allclose(decoded(), here, rtol=1e-5, atol=1e-5)
    assert asked
