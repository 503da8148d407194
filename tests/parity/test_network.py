"""Backbone, branch and their layers against the reference, with its weights."""

import functools
import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gencompositor_jax.arch import ModelArch
from gencompositor_jax.masks.latent import token_mask
from gencompositor_jax.model import erope, layers
from gencompositor_jax.model.background_branch import BackgroundBranch
from gencompositor_jax.model.fusion_block import FusionBlock
from gencompositor_jax.model.fusion_dit import FusionDiT
from gencompositor_jax.model.joint_sequence import joint_sequence
from tests.parity.released import (
    assert_near,
    backbone_variables,
    branch_variables,
    channels_last,
    layer_of,
    model_arch,
)
from tests.recordings import explain, load

pytestmark = pytest.mark.parity
TOLERANCE = 3e-4
STRICT = 2e-5  # of single layers, and of whole passes with the recorded sinusoid of the timestep
TABLES = 2e-6
CASES = explain("transformer_forward")["cases"]
SIZES = ["unit", "tiny"]


class Pass(NamedTuple):
    """One recorded pass of the backbone: converted inputs, and recorded arrays by name."""

    arch: ModelArch
    variables: dict[str, Any]
    latents: list[jax.Array]  # noisy, background, foreground
    text: jax.Array
    timestep: jax.Array
    residuals: jax.Array
    mask: jax.Array
    recorded: dict[str, np.ndarray]


@functools.cache
def recorded_pass(tag: str) -> Pass:
    case = load("transformer_forward")
    own = {key.removeprefix(f"{tag}/"): x for key, x in case.arrays.items() if key.startswith(f"{tag}/")}
    config = case.info["cases"][tag]["config"]
    arch = model_arch(config)
    table = {key: x for key, x in own.items() if key == "patch_embed.pos_embedding"}
    # The input's channels: noisy, masked background, foreground; `in_channels` counts the first two.
    streams = jnp.split(
        channels_last(own["hidden_states"]), [config["out_channels"], config["in_channels"]], axis=-1
    )
    return Pass(
        arch,
        backbone_variables(arch, table),
        streams,
        jnp.asarray(own["encoder_hidden_states"]),
        jnp.asarray(own["timestep"], jnp.int32),
        jnp.stack(case.numbered(f"{tag}/branch_block_samples.")),
        jnp.asarray(token_mask(own["branch_block_masks"][:, :, 0], arch.backbone.patch)),
        own,
    )


@pytest.mark.parametrize("tag", CASES)
def test_backbone(tag, monkeypatch):
    given = recorded_pass(tag)

    @jax.jit
    def forward(sinusoid, residuals):
        monkeypatch.setattr(layers, "timestep_embedding", lambda timestep, size: sinusoid)
        out = FusionDiT(given.arch).apply(
            given.variables, *given.latents, given.text, given.timestep, residuals, given.mask
        )
        return jnp.moveaxis(out, -1, 2)

    own = layers.timestep_embedding(given.timestep, given.arch.backbone.width)
    recorded = given.recorded["inter.time_proj"]
    # Frequencies differ in their last bits between libraries, and the timestep multiplies the difference. The
    # recorded sinusoid removes it.
    for sinusoid, tolerance in ((own, TOLERANCE), (recorded, STRICT)):
        for residuals, name in (
            (given.residuals, "output"),
            (jnp.zeros_like(given.residuals), "output_without_branch"),
        ):
            assert_near(forward(sinusoid, residuals), given.recorded[name], tolerance, name)


@pytest.mark.parametrize("tag", CASES)
def test_backbone_layer_by_layer(tag):
    """Every recorded stage: shows where a whole pass deviates."""
    given = recorded_pass(tag)
    arch, stack, recorded = given.arch, given.arch.backbone, given.recorded
    params, buffers = given.variables["params"], given.variables["buffers"]
    noisy, background, foreground = given.latents
    grid = (noisy.shape[1], noisy.shape[2] // stack.patch, noisy.shape[3] // stack.patch)
    words, tokens = given.text.shape[1], math.prod(grid)
    video = slice(words, words + tokens)

    np.testing.assert_array_equal(given.mask[..., None], recorded["inter.token_mask"])
    tables = erope.fusion_tables(arch.layout, grid, arch.base_grid, stack.head_dim)
    for ours, name in zip(tables, ("rope_cos", "rope_sin"), strict=True):
        assert_near(np.repeat(ours, 2, axis=1), recorded[name], TABLES, name)

    sinusoid = layers.timestep_embedding(given.timestep, stack.width)
    assert_near(sinusoid, recorded["inter.time_proj"], 1e-4)
    time = two_linears(params["time_embed"], recorded["inter.time_proj"])
    assert_near(time, recorded["inter.temb"], STRICT)

    x = layers.PatchEmbedding(stack).apply(
        {"params": params["patch_embed"], "buffers": buffers["patch_embed"]},
        given.text,
        jnp.concatenate([noisy, background], axis=-1),
        foreground,
        no_positions,
    )
    seen = {"inter.patch_embed": x}
    block = jax.jit(
        lambda params, x: FusionBlock(stack).apply({"params": params}, x, time, joint_sequence(tables, words))
    )
    residuals = jnp.where(given.mask[None, :, :, None], 0, given.residuals)
    for i in range(stack.num_layers):
        x = block(layer_of(params["blocks"], i), x)
        seen |= {f"inter.block{i}.text": x[:, :words], f"inter.block{i}.hidden": x[:, words:]}
        sample = CASES[tag]["layer_to_branch_sample"][i]
        assert sample == i // math.ceil(stack.num_layers / len(residuals))
        x = x.at[:, video].add(residuals[sample])
    x = layers.LayerNorm(layers.BLOCK_EPS).apply({"params": params["norm_final"]}, x)[:, video]
    seen["inter.norm_out"] = modulated_norm_out(params, x, time)
    for name in set(seen) & set(recorded):
        assert_near(seen[name], recorded[name], STRICT, name)


def no_positions() -> np.ndarray:
    raise AssertionError("the table comes with the weights")


def two_linears(params, x):
    x = jax.nn.silu(x @ params["linear_1"]["kernel"] + params["linear_1"]["bias"])
    return x @ params["linear_2"]["kernel"] + params["linear_2"]["bias"]


def modulated_norm_out(params, x, time):
    linear = params["modulation_out"]
    shift, scale = jnp.split(jax.nn.silu(time) @ linear["kernel"] + linear["bias"], 2, axis=-1)
    normed = layers.LayerNorm(layers.BLOCK_EPS).apply({"params": params["norm_out"]}, x)
    return layers.modulate(normed, shift[:, None], scale[:, None])


@pytest.mark.parametrize("tag", CASES)
def test_bfloat16_backbone_stays_near_float32(tag):
    """Weights and activations in bfloat16, as on accelerators."""
    given = recorded_pass(tag)

    @functools.partial(jax.jit, static_argnums=0)
    def forward(dtype):
        variables = jax.tree.map(lambda x: jnp.asarray(x, dtype), given.variables)
        return FusionDiT(given.arch, dtype).apply(
            variables, *given.latents, given.text, given.timestep, given.residuals, given.mask
        )

    exact, rounded = forward(jnp.float32), forward(jnp.bfloat16)
    error = jnp.linalg.norm(rounded - exact) / jnp.linalg.norm(exact)
    assert 1e-5 < error < 1e-2


def test_branch(golden):
    arch, case = model_arch(), golden("branch_forward")
    arrays, stack, variables = case.arrays, arch.branch, branch_variables(arch)
    noisy, given = channels_last(arrays["hidden_states"]), channels_last(arrays["branch_cond"])
    background, mask = given[..., :-1], given[..., -1:]
    text = jnp.asarray(arrays["encoder_hidden_states"])
    timestep = jnp.asarray(arrays["timestep"], jnp.int32)
    tokens = layers.PatchEmbedding(stack).apply(
        {kind: tree["patch_embed"] for kind, tree in variables.items()},
        text,
        jnp.concatenate([noisy, background, mask], axis=-1),
        None,
        no_positions,
    )
    assert_near(tokens, arrays["patch_embed"], STRICT)
    grid = (noisy.shape[1], noisy.shape[2] // stack.patch, noisy.shape[3] // stack.patch)
    tables = erope.plain_tables(grid, arch.base_grid, stack.head_dim)
    for ours, name in zip(tables, ("rope_cos", "rope_sin"), strict=True):
        assert_near(np.repeat(ours, 2, axis=1), arrays[name], TABLES, name)
    samples = jax.jit(BackgroundBranch(arch).apply)(variables, noisy, background, mask, text, timestep)
    recorded = case.numbered("block_sample.")
    assert len(samples) == len(recorded) == stack.num_layers
    for i, (ours, sample) in enumerate(zip(samples, recorded, strict=True)):
        assert_near(ours, sample, TOLERANCE, f"sample {i}")
    # The reference can scale the branch, which only multiplies its residuals.
    for ours, half in zip(samples, case.numbered("block_sample_half_scale."), strict=False):
        assert_near(ours / 2, half, TOLERANCE)


def initial_table(arch, grid):
    """The table of added positions at initialisation; text rows are zero."""
    video, foreground, _ = erope.stream_indices(arch.layout, grid)
    ours = erope.added_positions(
        np.concatenate([video, foreground]), arch.backbone.width, arch.position_scale
    )
    return np.pad(ours, ((arch.backbone.text_tokens, 0), (0, 0)))


def test_initial_position_table(golden):
    arch = model_arch()
    recorded = golden("patch_embed").arrays["initial_pos_embedding"]
    assert_near(initial_table(arch, arch.token_grid)[None], recorded, TABLES)


def test_patch_embedding_and_its_token_order(golden):
    arch, arrays = model_arch(), golden("patch_embed").arrays
    own = {kind: tree["patch_embed"] for kind, tree in backbone_variables(arch).items()}
    streams, patch = golden("patch_embed").info["config"]["in_channels"], arch.backbone.patch

    def embed(images, text, positions):
        images = channels_last(images)
        variables = {"params": own["params"], "buffers": {"positions": positions}}
        return layers.PatchEmbedding(arch.backbone).apply(
            variables, jnp.asarray(text), images[..., :streams], images[..., streams:], no_positions
        )

    tokens = embed(arrays["image_embeds"], arrays["text_embeds"], own["buffers"]["positions"])
    assert_near(tokens, arrays["embeds"], STRICT)
    pooled = token_mask(arrays["masks"][:, :, 0], patch)
    np.testing.assert_array_equal(pooled[..., None], arrays["token_mask"])
    one = erope.grid_indices(arch.token_grid)
    order = [np.pad(one, ((0, 0), (1, 0)), constant_values=stream) for stream in (0, 1)]
    np.testing.assert_array_equal(np.concatenate(order), arrays["token_order"])
    # For another number of frames the reference computes a new table, like `Model.at_size`.
    other = arrays["mismatch_image_embeds"]
    fresh = initial_table(arch, (other.shape[1], *arch.token_grid[1:]))
    tokens = embed(other, arrays["text_embeds"][: len(other)], fresh)
    assert_near(tokens, arrays["mismatch_embeds"], STRICT)


# A wrong eps hardly changes whole passes, but single layers with tiny inputs.


@pytest.fixture
def params():
    return backbone_variables(model_arch())["params"]


@pytest.mark.parametrize("size", SIZES)
def test_modulated_norm(golden, params, size):
    arrays = golden("submodules").arrays
    text, video = arrays[f"{size}/norm1_in_text"], arrays[f"{size}/norm1_in_hidden"]
    is_text = jnp.arange(text.shape[1] + video.shape[1]) < text.shape[1]
    out, gate = layers.ModulatedNorm().apply(
        {"params": layer_of(params["blocks"], 0)["norm1"]},
        jnp.concatenate([text, video], axis=1),
        jnp.asarray(arrays["temb"]),
        is_text,
    )
    assert_near(out[:, ~is_text], arrays[f"{size}/norm1_hidden"], STRICT)
    assert_near(out[:, is_text], arrays[f"{size}/norm1_text"], STRICT)
    assert_near(gate[:, ~is_text][:, :1], arrays[f"{size}/norm1_gate"], STRICT)
    assert_near(gate[:, is_text][:, :1], arrays[f"{size}/norm1_text_gate"], STRICT)


@pytest.mark.parametrize("size", SIZES)
def test_layer_norms(golden, params, size):
    case = golden("submodules")
    arrays, attention = case.arrays, layer_of(params["blocks"], 0)["attention"]
    qk = jnp.asarray(arrays[f"{size}/qk_in"])
    for name, recorded in (("norm_query", "norm_q"), ("norm_key", "norm_k")):
        ours = layers.LayerNorm(layers.QK_EPS).apply({"params": attention[name]}, qk)
        assert_near(ours, arrays[f"{size}/{recorded}"], STRICT, name)
    x = jnp.asarray(arrays[f"{size}/norm1_in_hidden"])
    final = layers.LayerNorm(layers.BLOCK_EPS).apply({"params": params["norm_final"]}, x)
    assert_near(final, arrays[f"{size}/norm_final"], STRICT)
    assert_near(modulated_norm_out(params, x, arrays["temb"]), arrays[f"{size}/norm_out"], STRICT)
    if size == "tiny":  # the case that depends on eps
        for name, own, given in (
            ("norm_final", layers.BLOCK_EPS, x),
            ("norm_q", layers.QK_EPS, qk),
        ):
            weights = params[name] if name in params else attention["norm_query"]
            other = layers.LayerNorm(10 * own).apply({"params": weights}, given)
            assert np.abs(other - arrays[f"{size}/{name}"]).max() > 0.1


def test_feed_forward(golden, params):
    arrays, stack = golden("submodules").arrays, model_arch().backbone
    own = layer_of(params["blocks"], 0)["feed_forward"]
    out, seen = layers.FeedForward(stack).apply(
        {"params": own}, jnp.asarray(arrays["gelu_in"]), capture_intermediates=True, mutable=["intermediates"]
    )
    assert_near(out, arrays["ff_out"], STRICT)
    up = seen["intermediates"]["up"]["__call__"][0]
    assert_near(jax.nn.gelu(up, approximate=True), arrays["gelu_out"], STRICT)


def test_time_embedding(golden, params):
    arrays, stack = golden("submodules").arrays, model_arch().backbone
    timestep = jnp.asarray(arrays["t"], jnp.int32)
    # Frequencies differ in their last bits between libraries, and t multiplies the difference by up to 999.
    assert_near(layers.timestep_embedding(timestep, stack.width), arrays["time_proj"], 1e-4)
    out = layers.TimeEmbedding(stack).apply({"params": params["time_embed"]}, timestep)
    assert_near(out, arrays["time_emb"], TOLERANCE)
    assert_near(two_linears(params["time_embed"], arrays["time_proj"]), arrays["time_emb"], STRICT)


def test_eps_as_recorded(golden):
    eps = golden("submodules").info["eps"]
    assert {eps[name] for name in ("block_norms", "norm_final", "norm_out")} == {layers.BLOCK_EPS}
    assert eps["qk_norm"] == layers.QK_EPS
