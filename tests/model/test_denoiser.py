"""The network as a whole, at random small weights."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gencompositor_jax import arch as arch_lib
from gencompositor_jax.model.denoiser import Denoiser, LatentConditions
from gencompositor_jax.model.joint_sequence import Subset
from gencompositor_jax.model.layers import to_patches

ARCH = dataclasses.replace(
    arch_lib.tiny(),
    height=32,
    width=48,
    frames=5,
    base_grid=(2, 3),
    backbone=arch_lib.TransformerArch(
        num_layers=3, num_heads=2, head_dim=16, time_embed_dim=8, text_dim=6, text_tokens=2
    ),
    branch=arch_lib.TransformerArch(
        num_layers=2, num_heads=2, head_dim=16, time_embed_dim=8, text_dim=6, text_tokens=2
    ),
)


@pytest.fixture(scope="module")
def fresh():
    return jax.jit(Denoiser(ARCH).init)(jax.random.key(0))


@pytest.fixture(scope="module")
def variables(fresh):
    """Fresh variables plus noise: parameters that are zero would hide errors."""
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: x + 0.3 * rng.standard_normal(x.shape, np.float32), fresh)


def inputs(arch, seed=2):
    t, h, w, c = arch.latent_shape
    keys = jax.random.split(jax.random.key(seed), 4)
    noisy, background, foreground = (jax.random.normal(k, (2, t, h, w, c)) for k in keys[:3])
    text = jax.random.normal(keys[3], (2, arch.backbone.text_tokens, arch.backbone.text_dim))
    mask = jnp.zeros((2, t, h, w, 1)).at[:, :, :2, :2].set(1.0)
    return noisy, jnp.array([999, 3]), LatentConditions(background, foreground, mask), text


@functools.cache
def compiled(denoiser):
    return jax.jit(denoiser.__call__)


def predict(variables, arguments, arch=ARCH, **options):
    return compiled(Denoiser(arch, **options))(variables, *arguments)


def test_a_fresh_network_predicts_zero(fresh):
    assert not predict(fresh, inputs(ARCH)).any()


def test_every_input_matters(variables):
    noisy, timestep, given, text = inputs(ARCH)
    before = predict(variables, (noisy, timestep, given, text))
    assert before.shape == noisy.shape
    changed = {
        "noisy": (noisy + 0.1, timestep, given, text),
        "timestep": (noisy, timestep // 2, given, text),
        "background": (noisy, timestep, given._replace(background=given.background + 0.1), text),
        "foreground": (noisy, timestep, given._replace(foreground=given.foreground + 0.1), text),
        "mask": (noisy, timestep, given._replace(mask=1 - given.mask), text),
        "text": (noisy, timestep, given, text + 0.1),
    }
    for name, arguments in changed.items():
        assert jnp.abs(predict(variables, arguments) - before).max() > 1e-3, name


def test_batch_members_do_not_mix(variables):
    noisy, timestep, given, text = inputs(ARCH)
    both = predict(variables, (noisy, timestep, given, text))
    second = jax.tree.map(lambda x: x[1:], given)
    alone = predict(variables, (noisy[1:], timestep[1:], second, text[1:]))
    np.testing.assert_allclose(alone, both[1:], atol=1e-5)


@pytest.mark.parametrize("layout", ["released", "height", "width", "time", "shared"])
def test_layouts_give_different_predictions(variables, layout):
    other = "height" if layout != "height" else "time"
    outputs = [
        predict(variables, inputs(ARCH), dataclasses.replace(ARCH, layout=name)) for name in (layout, other)
    ]
    assert jnp.abs(outputs[0] - outputs[1]).max() > 1e-3


def test_the_branch_reaches_only_unmasked_tokens(variables):
    """After the only backbone block no attention follows, so injection changes unmasked tokens alone."""
    arch = dataclasses.replace(
        ARCH,
        backbone=dataclasses.replace(ARCH.backbone, num_layers=1),
        branch=dataclasses.replace(ARCH.branch, num_layers=1),
    )
    first = {name: {**variables[name]["params"]} for name in variables}
    for params in first.values():
        params["blocks"] = jax.tree.map(lambda x: x[:1], params["blocks"])
    first["branch"]["residual"] = jax.tree.map(lambda x: x[:1], first["branch"]["residual"])
    variables = {name: {**variables[name], "params": params} for name, params in first.items()}
    arguments = inputs(arch)
    with_branch = predict(variables, arguments, arch)
    residual = jax.tree.map(jnp.zeros_like, variables["branch"]["params"]["residual"])
    params = {**variables["branch"]["params"], "residual": residual}
    without = predict({**variables, "branch": {**variables["branch"], "params": params}}, arguments, arch)
    changed = jnp.abs(with_branch - without).max(axis=-1) > 1e-6
    masked = arguments[2].mask[..., 0] > 0  # whole 2 x 2 patches
    assert masked.any() and not masked.all()
    assert not changed[masked].any()
    assert changed[~masked].all()


@pytest.mark.parametrize("remat", ["blocks", pytest.param("offload", marks=pytest.mark.slow)])
def test_rematerialisation_keeps_the_gradients(remat, variables):
    def gradient(remat):
        def loss(variables):
            return jnp.sum(Denoiser(ARCH, remat=remat)(variables, *inputs(ARCH)) ** 2)

        return jax.jit(jax.grad(loss))(variables)

    plain, recomputed = jax.tree.leaves(gradient("none")), jax.tree.leaves(gradient(remat))
    for a, b in zip(plain, recomputed, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-3 * float(jnp.abs(a).max() + 1e-6))


def test_offloaded_activations_move_to_the_host_and_back(variables):
    def loss(variables, remat):
        return jnp.sum(Denoiser(ARCH, remat=remat)(variables, *inputs(ARCH)) ** 2)

    def moves(remat):
        return str(jax.make_jaxpr(jax.grad(loss), static_argnums=1)(variables, remat)).count("device_put[")

    # Two moves each, in both transformers: blocks' inputs, attention's outputs and log-sums.
    assert moves("offload") - moves("blocks") == 2 * 2 * 3


def test_half_precision_is_near(variables):
    exact = predict(variables, inputs(ARCH))
    half = predict(variables, inputs(ARCH), dtype=jnp.bfloat16)
    assert half.dtype == jnp.float32
    assert jnp.linalg.norm(half - exact) / jnp.linalg.norm(exact) < 0.05


def test_dropped_foreground_tokens_receive_no_attention(variables, monkeypatch):
    """The reference runs the whole sequence and masks them in attention: the others keep their positions."""
    arguments, (t, rows, columns) = inputs(ARCH), ARCH.token_grid
    video = t * rows * columns
    kept = jnp.array([1, 4, 5, video - 1])
    answer = predict(variables, (*arguments, kept))
    first = ARCH.backbone.text_tokens + video
    hidden = np.ones(first + video, bool)
    hidden[:first] = hidden[first + np.asarray(kept)] = False

    def attend(q, k, v, length):
        scores = jnp.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(q.shape[-1])
        if len(hidden) == k.shape[1]:  # the branch has no foreground
            scores = jnp.where(hidden, -jnp.inf, scores)
        return jnp.einsum("bhqk,bkhd->bqhd", jax.nn.softmax(scores), v)

    monkeypatch.setattr("gencompositor_jax.model.fusion_block.attention.attend", attend)
    oracle = jax.jit(Denoiser(ARCH).__call__)(variables, *arguments)  # anew: with the other attention
    np.testing.assert_allclose(answer, oracle, atol=1e-4)
    monkeypatch.undo()
    assert jnp.abs(predict(variables, arguments) - answer).max() > 1e-2


def test_offsets_move_the_foreground(variables):
    noisy, timestep, given, text = inputs(ARCH)
    tall = predict(variables, (noisy, timestep, given, text), dataclasses.replace(ARCH, layout="height"))
    arch = dataclasses.replace(ARCH, layout="trajectory")
    offsets = jnp.zeros((2, ARCH.latent_shape[0], 2), jnp.int32)
    at_rest = predict(variables, (noisy, timestep, given._replace(offsets=offsets), text), arch)
    np.testing.assert_allclose(at_rest, tall, atol=1e-4)
    moved = given._replace(offsets=offsets.at[1, :, 1].set(1))
    apart = predict(variables, (noisy, timestep, moved, text), arch)
    np.testing.assert_allclose(apart[0], tall[0], atol=1e-4)
    assert jnp.abs(apart[1] - tall[1]).max() > 1e-3


@pytest.mark.parametrize("layout", ["height", "trajectory"])
def test_offsets_belong_to_the_layout_trajectory(layout):
    """A pass that forgets them would be wrong silently."""
    arch = dataclasses.replace(ARCH, layout=layout)
    noisy, timestep, given, text = inputs(ARCH)
    offsets = None if layout == "trajectory" else jnp.zeros((2, ARCH.latent_shape[0], 2), jnp.int32)
    with pytest.raises(AssertionError, match=layout):
        Denoiser(arch)(None, noisy, timestep, given._replace(offsets=offsets), text)


@pytest.mark.parametrize("layout", ["height", "trajectory"])
def test_a_subset_of_all_tokens_changes_nothing(variables, layout):
    arch = dataclasses.replace(ARCH, layout=layout)
    noisy, timestep, given, text = inputs(arch)
    if layout == "trajectory":
        given = given._replace(offsets=jnp.ones((2, ARCH.latent_shape[0], 2), jnp.int32))
    tokens = jnp.broadcast_to(jnp.arange(np.prod(arch.token_grid)), (2, np.prod(arch.token_grid)))
    whole = predict(variables, (noisy, timestep, given, text), arch)
    subset = predict(variables, (noisy, timestep, given, text, None, Subset(tokens, tokens)), arch)
    np.testing.assert_allclose(subset, whole, atol=1e-5)


def test_video_tokens_outside_the_subset_predict_nothing_and_are_not_read(variables):
    noisy, timestep, given, text = inputs(ARCH)
    subset = Subset(jnp.array([[0, 3, 7], [1, 2, 8]]), jnp.array([[0, 1], [4, 5]]))
    arguments = (noisy, timestep, given, text, None, subset)
    prediction = to_patches(predict(variables, arguments), ARCH.backbone.patch)
    shown = np.abs(prediction).max(-1) > 0
    assert [np.flatnonzero(row).tolist() for row in shown] == [[0, 3, 7], [1, 2, 8]]
    other = noisy.at[0, -1, -1, -1].add(1.0)  # the last token, in neither
    again = to_patches(predict(variables, (other, *arguments[1:])), ARCH.backbone.patch)
    np.testing.assert_array_equal(again, prediction)
