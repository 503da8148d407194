"""Conversion of the release's configurations, axis orders and parameter names."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gencompositor_jax.arch import DiffusionArch, ModelArch, TransformerArch, VAEArch
from gencompositor_jax.conversion.tensor_map import Rule, backbone_rules, branch_rules, vae_rules
from tests.recordings import explain, load

PREDICTIONS = {"v_prediction": "velocity", "epsilon": "noise", "sample": "x0"}


def stack_arch(config: dict[str, Any]) -> TransformerArch:
    return TransformerArch(
        num_layers=config["num_layers"],
        num_heads=config["num_attention_heads"],
        head_dim=config["attention_head_dim"],
        time_embed_dim=config["time_embed_dim"],
        text_dim=config["text_embed_dim"],
        text_tokens=config["max_text_seq_length"],
        patch=config["patch_size"],
    )


def vae_arch(config: dict[str, Any], tile: tuple[int, int] | None = None) -> VAEArch:
    return VAEArch(
        block_widths=tuple(config["block_out_channels"]),
        layers_per_block=config["layers_per_block"],
        latent_channels=config["latent_channels"],
        norm_groups=config["norm_num_groups"],
        norm_eps=config["norm_eps"],
        time_factor=config["temporal_compression_ratio"],
        scaling_factor=config["scaling_factor"],
        tile=tile,
    )


def diffusion_arch(config: dict[str, Any], **changes: Any) -> DiffusionArch:
    facts = {
        "train_steps": config["num_train_timesteps"],
        "beta_start": config["beta_start"],
        "beta_end": config["beta_end"],
        "snr_shift": config["snr_shift_scale"],
        "zero_terminal_snr": config["rescale_betas_zero_snr"],
        "prediction": PREDICTIONS[config["prediction_type"]],
    }
    return DiffusionArch(**{**facts, **changes})


def model_arch(config: dict[str, Any] | None = None) -> ModelArch:
    """The architecture of the recorded weights; with a backbone of another `config`, if given."""
    config = config or explain("weights_transformer")["config"]
    codec = vae_arch(explain("weights_vae")["config"])
    return ModelArch(
        frames=config["sample_frames"],
        height=config["sample_height"] * codec.space_factor,
        width=config["sample_width"] * codec.space_factor,
        backbone=stack_arch(config),
        branch=stack_arch(explain("weights_branch")["config"]),
        codec=codec,
        diffusion=diffusion_arch(explain("pipeline_e2e")["scheduler_config"]),
        position_scale=explain("patch_embed")["config"]["spatial_interpolation_scale"],
    )


def to_variables(rules: list[Rule], tensors: Mapping[str, np.ndarray], layers: int) -> dict[str, Any]:
    """Nested variables from PyTorch tensors by name; fails if either side lacks a counterpart."""
    variables: dict[str, Any] = {}
    unused = set(tensors)
    for rule in rules:
        names = [rule.key.format(i=i) for i in range(layers)] if rule.stacked else [rule.key]
        unused -= set(names)
        arrays = [rule.to_jax(tensors[name]) for name in names]
        *parents, last = rule.path.split("/")
        node = variables
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = np.stack(arrays) if rule.stacked else arrays[0]
    assert not unused
    return variables


def backbone_variables(
    arch: ModelArch, replaced: Mapping[str, np.ndarray] = MappingProxyType({})
) -> dict[str, Any]:
    weights = {**load("weights_transformer").arrays, **replaced}
    return to_variables(backbone_rules(arch), weights, arch.backbone.num_layers)


def branch_variables(arch: ModelArch) -> dict[str, Any]:
    return to_variables(branch_rules(arch), load("weights_branch").arrays, arch.branch.num_layers)


def vae_params(arch: VAEArch) -> dict[str, Any]:
    return to_variables(vae_rules(arch), load("weights_vae").arrays, layers=0)


def layer_of(stacked: Any, i: int) -> Any:
    """The parameters of block `i`."""
    return jax.tree.map(lambda x: x[i], stacked)


def channels_last(x: np.ndarray, axis: int = 2) -> jax.Array:
    """[B, T, C, H, W] -> [B, T, H, W, C]; the VAE's [B, C, T, H, W] with axis=1."""
    return jnp.asarray(np.moveaxis(x, axis, -1))


def assert_near(ours: Any, recorded: np.ndarray, tolerance: float, what: str = "") -> None:
    """Asserts a largest absolute difference of at most `tolerance`, float32 and equal shapes."""
    ours = np.asarray(ours)
    assert (ours.dtype, ours.shape) == (np.float32, recorded.shape), what
    np.testing.assert_allclose(ours, recorded, rtol=0, atol=tolerance, err_msg=what)
