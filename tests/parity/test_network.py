"""Backbone, branch and their layers against the reference, with its weights in its own names."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gencompositor_jax import erope, layers, masks
from gencompositor_jax.arch import ModelArch, TransformerArch, VAEArch
from gencompositor_jax.branch import BackgroundBranch
from gencompositor_jax.conversion.network_names import backbone_rules, branch_rules, to_variables
from gencompositor_jax.dit import FusionDiT
from tests.parity.conftest import FOLDER

pytestmark = pytest.mark.parity
TOLERANCE = 3e-4
CASES = json.loads((FOLDER / "transformer_forward.json").read_text())["cases"]


@pytest.fixture(autouse=True)
def exact_products():
    with jax.default_matmul_precision("highest"):
        yield


def stack_of(config):
    return TransformerArch(
        num_layers=config["num_layers"],
        num_heads=config["num_attention_heads"],
        head_dim=config["attention_head_dim"],
        time_embed_dim=config["time_embed_dim"],
        text_dim=config["text_embed_dim"],
        text_tokens=config["max_text_seq_length"],
    )


def arch_of(golden):
    config = golden("weights_transformer").info["config"]
    return ModelArch(
        frames=config["sample_frames"],
        height=8 * config["sample_height"],
        width=8 * config["sample_width"],
        backbone=stack_of(config),
        branch=stack_of(golden("branch_forward").info["config"]),
        codec=VAEArch(latent_channels=config["out_channels"]),
    )


def channels_last(x):
    return jnp.asarray(np.moveaxis(x, 2, -1))


@pytest.mark.parametrize("tag", CASES)
def test_backbone(golden, tag):
    arch, arrays = arch_of(golden), golden("transformer_forward").arrays
    weights = dict(golden("weights_transformer").arrays)
    replaced = f"{tag}/patch_embed.pos_embedding"
    if replaced in arrays:
        weights["patch_embed.pos_embedding"] = arrays[replaced]
    variables = to_variables(backbone_rules(arch), weights, arch.backbone.num_layers)
    given = channels_last(arrays[f"{tag}/hidden_states"])
    noisy, background, foreground = jnp.split(given, 3, axis=-1)
    masked = masks.token_mask(arrays[f"{tag}/branch_block_masks"][:, :, 0], arch.backbone.patch)
    np.testing.assert_array_equal(masked[..., None], arrays[f"{tag}/inter.token_mask"])
    names = sorted(name for name in arrays if name.startswith(f"{tag}/branch_block_samples."))
    residuals = jnp.stack([arrays[name] for name in names])
    timestep = jnp.asarray(arrays[f"{tag}/timestep"], jnp.int32)

    def forward(residuals):
        text = arrays[f"{tag}/encoder_hidden_states"]
        out = FusionDiT(arch).apply(variables, noisy, background, foreground, text, timestep, residuals, ~masked)
        return np.moveaxis(out, -1, 2)

    np.testing.assert_allclose(forward(residuals), arrays[f"{tag}/output"], rtol=0, atol=TOLERANCE)
    without = forward(jnp.zeros_like(residuals))
    np.testing.assert_allclose(without, arrays[f"{tag}/output_without_branch"], rtol=0, atol=TOLERANCE)


def test_branch(golden):
    arch, arrays = arch_of(golden), golden("branch_forward").arrays
    variables = to_variables(branch_rules(arch), golden("weights_branch").arrays, arch.branch.num_layers)
    given = channels_last(arrays["branch_cond"])
    samples = BackgroundBranch(arch).apply(
        variables,
        channels_last(arrays["hidden_states"]),
        given[..., :-1],
        given[..., -1:],
        arrays["encoder_hidden_states"],
        jnp.asarray(arrays["timestep"], jnp.int32),
    )
    for i, sample in enumerate(samples):
        np.testing.assert_allclose(sample, arrays[f"block_sample.{i}"], rtol=0, atol=TOLERANCE)


def test_initial_position_table(golden):
    arch, case = arch_of(golden), golden("patch_embed")
    recorded = case.arrays["initial_pos_embedding"][0]
    video, foreground, _ = erope.stream_indices("released", arch.token_grid)
    ours = erope.added_positions(np.concatenate([video, foreground]), arch.backbone.width, arch.position_scale)
    text = arch.backbone.text_tokens
    np.testing.assert_allclose(ours, recorded[text:], rtol=0, atol=2e-6)
    assert not recorded[:text].any()


def test_patch_embedding_and_its_token_order(golden):
    arch, arrays = arch_of(golden), golden("patch_embed").arrays
    variables = to_variables(
        backbone_rules(arch), golden("weights_transformer").arrays, arch.backbone.num_layers
    )
    own = {kind: tree["patch_embed"] for kind, tree in variables.items()}
    images = channels_last(arrays["image_embeds"])
    foreground = arch.codec.latent_channels
    tokens = layers.PatchEmbedding(arch.backbone).apply(
        own, arrays["text_embeds"], images[..., :-foreground], images[..., -foreground:], None
    )
    np.testing.assert_allclose(tokens, arrays["embeds"], rtol=0, atol=2e-5)


# Whole passes hardly feel a wrong eps: single layers with tiny inputs do.


@pytest.fixture
def block(golden):
    arch = arch_of(golden)
    variables = to_variables(
        backbone_rules(arch), golden("weights_transformer").arrays, arch.backbone.num_layers
    )
    return arch.backbone, jax.tree.map(lambda x: x[0], variables["params"]["blocks"]), variables["params"]


@pytest.mark.parametrize("size", ["unit", "tiny"])
def test_modulated_norm(golden, block, size):
    arrays, (_, params, _) = golden("submodules").arrays, block
    text, video = arrays[f"{size}/norm1_in_text"], arrays[f"{size}/norm1_in_hidden"]
    is_text = np.arange(text.shape[1] + video.shape[1]) < text.shape[1]
    out, gate = layers.ModulatedNorm().apply(
        {"params": params["norm1"]}, jnp.concatenate([text, video], axis=1), arrays["temb"], is_text
    )
    for ours, name in ((out[:, ~is_text], "norm1_hidden"), (out[:, is_text], "norm1_text")):
        np.testing.assert_allclose(ours, arrays[f"{size}/{name}"], rtol=0, atol=2e-5)
    np.testing.assert_allclose(gate[:, ~is_text][:, :1], arrays[f"{size}/norm1_gate"], rtol=0, atol=2e-5)
    np.testing.assert_allclose(gate[:, is_text][:, :1], arrays[f"{size}/norm1_text_gate"], rtol=0, atol=2e-5)


@pytest.mark.parametrize("size", ["unit", "tiny"])
def test_layer_norms(golden, block, size):
    arrays, (_, params, all_params) = golden("submodules").arrays, block
    qk = arrays[f"{size}/qk_in"]
    for name, recorded in (("norm_query", "norm_q"), ("norm_key", "norm_k")):
        ours = layers.LayerNorm(layers.QK_EPS).apply({"params": params["attention"][name]}, qk)
        np.testing.assert_allclose(ours, arrays[f"{size}/{recorded}"], rtol=0, atol=2e-5)
    x = arrays[f"{size}/norm1_in_hidden"]
    final = layers.LayerNorm(layers.BLOCK_EPS).apply({"params": all_params["norm_final"]}, x)
    np.testing.assert_allclose(final, arrays[f"{size}/norm_final"], rtol=0, atol=2e-5)
    modulation = all_params["modulation_out"]
    shift, scale = jnp.split(jax.nn.silu(arrays["temb"]) @ modulation["kernel"] + modulation["bias"], 2, axis=-1)
    normed = layers.LayerNorm(layers.BLOCK_EPS).apply({"params": all_params["norm_out"]}, x)
    out = layers.modulate(normed, shift[:, None], scale[:, None])
    np.testing.assert_allclose(out, arrays[f"{size}/norm_out"], rtol=0, atol=2e-5)


def test_feed_forward(golden, block):
    arrays, (arch, params, _) = golden("submodules").arrays, block
    out = layers.FeedForward(arch).apply({"params": params["feed_forward"]}, arrays["gelu_in"])
    np.testing.assert_allclose(out, arrays["ff_out"], rtol=0, atol=2e-5)


def test_time_embedding(golden, block):
    arrays, (arch, _, all_params) = golden("submodules").arrays, block
    timestep = jnp.asarray(arrays["t"], jnp.int32)
    # Frequencies differ in the last bit between libraries, and t multiplies that by up to 999.
    np.testing.assert_allclose(
        layers.timestep_embedding(timestep, arch.width), arrays["time_proj"], rtol=0, atol=1e-4
    )
    out = layers.TimeEmbedding(arch).apply({"params": all_params["time_embed"]}, timestep)
    np.testing.assert_allclose(out, arrays["time_emb"], rtol=0, atol=TOLERANCE)
