"""The architecture's variants: how the foreground enters the backbone, and where residuals are injected."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gencompositor_jax.arch import TransformerArch
from gencompositor_jax.model import cross_attention, erope
from gencompositor_jax.model.denoiser import Denoiser
from gencompositor_jax.model.injection import closed
from gencompositor_jax.model.joint_sequence import Subset, joint_sequence
from tests.model.test_denoiser import ARCH, inputs, predict

CHANGES = {
    "cross_attention": {"fusion": "cross_attention"},
    "channels": {"fusion": "channels"},
    "everywhere": {"injection": "everywhere"},
    "none": {"injection": "none"},
}
ARCHS = {name: dataclasses.replace(ARCH, **changes) for name, changes in CHANGES.items()}
VIDEO = int(np.prod(ARCH.token_grid))


def random_variables(arch):
    rng = np.random.default_rng(1)

    def draw(path, leaf):
        noise = 0.3 * rng.standard_normal(leaf.shape, np.float32)
        return 1 + noise if path[-1].key == "scale" else noise

    shapes = jax.eval_shape(Denoiser(arch).init, jax.random.key(0))
    return jax.tree_util.tree_map_with_path(draw, shapes)


@pytest.fixture(scope="module")
def networks():
    return {name: random_variables(arch) for name, arch in ARCHS.items()}


@pytest.mark.parametrize("name", CHANGES)
def test_every_input_matters_that_the_variant_has(networks, name):
    arch, variables = ARCHS[name], networks[name]
    noisy, timestep, given, text = inputs(arch)
    before = predict(variables, (noisy, timestep, given, text), arch)
    assert before.shape == noisy.shape
    changed = {
        "background": given._replace(background=given.background + 0.1),
        "foreground": given._replace(foreground=given.foreground + 0.1),
        "mask": given._replace(mask=1 - given.mask),
    }
    matters = {
        field: bool(np.abs(predict(variables, (noisy, timestep, other, text), arch) - before).max() > 1e-3)
        for field, other in changed.items()
    }
    # Without a branch nothing reads the mask.
    assert matters == {"background": True, "foreground": True, "mask": arch.injection != "none"}


def test_no_branch_has_no_parameters_of_one(networks):
    assert set(networks["none"]) == {"backbone"} == set(ARCHS["none"].stacks)
    assert set(networks["everywhere"]) == {"backbone", "branch"}


def test_the_unmasked_branch_injects_everywhere():
    """After the only backbone block no attention follows, so injection changes what it reaches alone."""
    arch = dataclasses.replace(
        ARCHS["everywhere"],
        backbone=dataclasses.replace(ARCH.backbone, num_layers=1),
        branch=dataclasses.replace(ARCH.branch, num_layers=1),
    )
    variables, arguments = random_variables(arch), inputs(arch)
    branch = variables["branch"]["params"]
    silent = {**branch, "residual": jax.tree.map(jnp.zeros_like, branch["residual"])}
    without = {**variables, "branch": {**variables["branch"], "params": silent}}
    changed = np.abs(predict(variables, arguments, arch) - predict(without, arguments, arch)).max(-1) > 1e-6
    assert arguments[2].mask.any() and changed.all()


def test_the_token_mask_is_closed_where_the_variant_says():
    mask = jnp.array([[True, False]])
    assert not closed(mask, "everywhere").any()
    np.testing.assert_array_equal(closed(mask, "masked"), mask)


@pytest.fixture(scope="module")
def attended():
    """A sequence of 2 text and 6 video tokens, 4 foreground tokens, and the parameters that mix them."""
    arch = TransformerArch(num_layers=1, num_heads=2, head_dim=16, text_tokens=2)
    tables = erope.fusion_tables("height", (1, 2, 3), (2, 3), arch.head_dim)
    mine, others = (erope.Tables(*(t[part] for t in tables)) for part in (slice(6), slice(6, 10)))
    rng = np.random.default_rng(0)
    x, tokens = (jnp.asarray(rng.standard_normal((2, n, arch.width), np.float32)) for n in (8, 4))
    module = cross_attention.CrossAttention(arch)
    joint, other = joint_sequence(mine, 2), cross_attention.foreground(tokens, others)
    shapes = jax.eval_shape(module.init, jax.random.key(0), x, joint, other)
    variables = jax.tree.map(lambda s: 0.3 * rng.standard_normal(s.shape, np.float32), shapes)
    return lambda x, other: module.apply(variables, x, joint, other), x, other


def test_video_tokens_attend_to_foreground_tokens_and_text_tokens_do_not(attended):
    attend, x, other = attended
    out = attend(x, other)
    assert not out[:, :2].any() and np.abs(out[:, 2:]).min(axis=(0, 2)).max() > 0
    moved = attend(x, other.replace(tokens=-other.tokens))
    assert (np.abs(moved - out)[:, 2:].max(-1) > 1e-3).all()


def test_foreground_tokens_are_a_set_with_positions(attended):
    attend, x, other = attended
    order = np.array([2, 0, 3, 1])
    swapped = other.replace(tokens=other.tokens[:, order], cos=other.cos[order], sin=other.sin[order])
    np.testing.assert_allclose(attend(x, swapped), attend(x, other), atol=1e-5)
    alone = other.replace(tokens=other.tokens[:, order])
    assert np.abs(attend(x, alone) - attend(x, other)).max() > 1e-3


def test_a_video_token_does_not_read_another_one(attended):
    attend, x, other = attended
    difference = np.abs(attend(x.at[:, 3].multiply(-1), other) - attend(x, other)).max((0, 2))
    others = np.delete(difference, 3).max()
    assert difference[3] > 1e-3 and others < 1e-5


def test_no_block_updates_the_foreground_tokens(networks, monkeypatch):
    """With the parameters of one block in all of them, each sees the same keys, whatever the video is."""
    variables, arch = networks["cross_attention"], ARCHS["cross_attention"]
    params = variables["backbone"]["params"]
    same = {**params, "blocks": jax.tree.map(lambda x: np.repeat(x[:1], len(x), 0), params["blocks"])}
    variables = {**variables, "backbone": {**variables["backbone"], "params": same}}
    noisy, timestep, given, text = inputs(arch)
    keys = []

    def attend(q, k, v, length):
        jax.debug.callback(lambda k: keys.append(np.asarray(k)), k)
        return jnp.zeros_like(q)

    monkeypatch.setattr(cross_attention.attention, "attend", attend)
    for x in (noisy, noisy + 1):
        jax.block_until_ready(Denoiser(arch)(variables, x, timestep, given, text))
        jax.effects_barrier()
    # Self-attention, which calls the same function, has the joint sequence's length.
    crossing = [k for k in keys if k.shape[1] == VIDEO]
    assert len(crossing) == 2 * arch.backbone.num_layers
    for k in crossing[1:]:
        np.testing.assert_array_equal(k, crossing[0])


@pytest.mark.parametrize("name", ["cross_attention", "channels"])
def test_a_subset_of_all_tokens_changes_nothing(networks, name):
    arch = ARCHS[name]
    tokens = jnp.broadcast_to(jnp.arange(VIDEO), (2, VIDEO))
    whole = predict(networks[name], inputs(arch), arch)
    subset = predict(networks[name], (*inputs(arch), None, Subset(tokens, tokens)), arch)
    np.testing.assert_allclose(subset, whole, atol=1e-5)


def test_cross_attention_reads_the_kept_foreground_alone(networks):
    arch, variables = ARCHS["cross_attention"], networks["cross_attention"]
    noisy, timestep, given, text = inputs(arch)
    kept = jnp.arange(VIDEO - 1)
    other = given._replace(foreground=given.foreground.at[:, -1, -2:, -2:].add(1.0))
    answers = [predict(variables, (noisy, timestep, g, text, kept), arch) for g in (given, other)]
    np.testing.assert_array_equal(*answers)
    assert np.abs(predict(variables, (noisy, timestep, other, text), arch) - answers[0]).max() > 1e-3
