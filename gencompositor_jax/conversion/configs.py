"""config.json of the PyTorch components <-> an architecture.

Options of the release's code that our networks don't have (activation, order of the sinusoid, ...) must have
the one value that we implement; another value is an error that names the file and the field.
"""

from pathlib import Path
from typing import Annotated, Any

from gencompositor_jax.arch import (
    DiffusionArch,
    Layout,
    ModelArch,
    Prediction,
    TransformerArch,
    VAEArch,
    Width,
)
from gencompositor_jax.errors import InputError, within
from gencompositor_jax.fields import Flag, Number, Text, Whole, length, read, shown
from gencompositor_jax.fields import within as bounds
from gencompositor_jax.files import read_json

TRANSFORMER_CLASSES = ("CogVideoXTransformer3D3BModel_sep",)
PLAIN_CLASSES = ("CogVideoXTransformer3DModel",)
BRANCH_CLASSES = ("CogvideoXBranchModel", "CogVideoXBranchModel")
VAE_CLASSES = ("AutoencoderKLCogVideoX",)
PREDICTIONS: dict[str, Prediction] = {"v_prediction": "velocity", "epsilon": "noise", "sample": "x0"}

# The only supported values of fields.
_TRANSFORMER_CONSTANTS: dict[str, Any] = {
    "flip_sin_to_cos": True,
    "freq_shift": 0,
    "attention_bias": True,
    "activation_fn": "gelu-approximate",
    "timestep_activation_fn": "silu",
    "norm_elementwise_affine": True,
    "norm_eps": 1e-5,
    "temporal_interpolation_scale": 1.0,
    "use_rotary_positional_embeddings": True,
    "use_learned_positional_embeddings": True,
    "patch_size_t": None,
    "patch_bias": True,
    "ofs_embed_dim": None,
}
_VAE_CONSTANTS: dict[str, Any] = {
    "in_channels": 3,
    "out_channels": 3,
    "act_fn": "silu",
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "shift_factor": None,
    "latents_mean": None,
    "latents_std": None,
}
_SCHEDULER_CONSTANTS: dict[str, Any] = {
    "beta_schedule": "scaled_linear",
    "trained_betas": None,
    "clip_sample": False,
    "set_alpha_to_one": True,
    "steps_offset": 0,
    "timestep_spacing": "trailing",
}
_DOWN, _UP = "CogVideoXDownBlock3D", "CogVideoXUpBlock3D"


class Config:
    """The fields of one file; errors name the file and the field."""

    def __init__(self, file: Path, fields: dict[str, Any]) -> None:
        self.file, self.fields = file, fields

    def wrong(self, field: str, remedy: str) -> InputError:
        """An InputError about a field."""
        return InputError(f"{self.file}: {field}={shown(self.fields.get(field))}: {remedy}")

    def integer(self, field: str, default: int | None = None, low: int = 1, high: int = 2**20) -> int:
        """A whole number of low to high. Raises InputError; a field without a default must be given."""
        return int(self.value(field, Annotated[Whole, bounds(low, high)], default))

    def number(self, field: str, default: float) -> float:
        """A number above 0."""
        return float(self.value(field, Annotated[Number, bounds(above=0, high=1e6)], default))

    def value(self, field: str, kind: Any, default: Any) -> Any:
        """A field of a type with bounds, see `fields`. Raises InputError; None is a missing field."""
        value = self.fields.get(field, default)
        if value is None:
            raise InputError(f"{self.file}: field {field!r} is missing")
        return read(kind, value, f"{self.file}: {field}")

    def is_class(self, known: tuple[str, ...], remedy: str = "") -> None:
        """Raise InputError unless `_class_name` is one of `known` or absent."""
        name = self.fields.get("_class_name")
        if name is not None and name not in known:
            raise self.wrong("_class_name", remedy or f"not {known[0]}")

    def constants(self, values: dict[str, Any]) -> None:
        """Raise InputError where a field has another value."""
        for field, value in values.items():
            if field in self.fields and self.fields[field] != value:
                raise self.wrong(field, f"only {value!r} is supported")


def read_config(file: Path) -> Config:
    """Read a JSON object. Raises InputError."""
    return Config(file, read(dict[str, Any], read_json(file), str(file)))


def transformer_stack(config: Config) -> TransformerArch:
    """The architecture of a transformer or branch."""
    config.constants(_TRANSFORMER_CONSTANTS)
    return TransformerArch(
        num_layers=config.integer("num_layers"),
        num_heads=config.integer("num_attention_heads"),
        head_dim=config.integer("attention_head_dim"),
        time_embed_dim=config.integer("time_embed_dim", 512),
        text_dim=config.integer("text_embed_dim", 4096),
        text_tokens=config.integer("max_text_seq_length", 226),
        patch=config.integer("patch_size", 2),
    )


def vae_arch(config: Config, released_tiles: bool) -> VAEArch:
    """The VAE, with the release's tiles (half the sample size) or none."""
    config.is_class(VAE_CLASSES)
    config.constants(_VAE_CONSTANTS)
    widths = config.value("block_out_channels", Annotated[tuple[Width, ...], length(1, 7)], None)
    for field, kind in (("down_block_types", _DOWN), ("up_block_types", _UP)):
        if any(block != kind for block in config.value(field, tuple[Text, ...], ())):
            raise config.wrong(field, f"only {kind} is supported")
    tile = (config.integer("sample_height", 480) // 2, config.integer("sample_width", 720) // 2)
    return VAEArch(
        block_widths=widths,
        layers_per_block=config.integer("layers_per_block", 3),
        latent_channels=config.integer("latent_channels", 16),
        norm_groups=config.integer("norm_num_groups", 32),
        norm_eps=config.number("norm_eps", 1e-6),
        time_factor=config.integer("temporal_compression_ratio", 4),
        scaling_factor=config.number("scaling_factor", 0.7),
        tile=tile if released_tiles else None,
    )


def diffusion_arch(config: Config) -> DiffusionArch:
    """The noise schedule."""
    config.constants(_SCHEDULER_CONSTANTS)
    kind = config.fields.get("prediction_type", "v_prediction")
    if not isinstance(kind, str) or kind not in PREDICTIONS:
        raise config.wrong("prediction_type", f"supported are {', '.join(PREDICTIONS)}")
    return DiffusionArch(
        train_steps=config.integer("num_train_timesteps", 1000),
        beta_start=config.number("beta_start", 0.00085),
        beta_end=config.number("beta_end", 0.012),
        snr_shift=config.number("snr_shift_scale", 1.0),
        zero_terminal_snr=config.value("rescale_betas_zero_snr", Flag, True),
        prediction=PREDICTIONS[kind],
    )


def model_arch(
    transformer: Config,
    branch: Config,
    vae: Config,
    scheduler: Config,
    branch_heads: bool,
    released_tiles: bool = True,
    layout: Layout = "released",
) -> ModelArch:
    """The whole architecture. Raises InputError naming the file and the field that does not fit."""
    transformer.is_class(
        TRANSFORMER_CLASSES + PLAIN_CLASSES, "not the release's transformer (CogVideoX family)"
    )
    branch.is_class(BRANCH_CLASSES + PLAIN_CLASSES, "not the release's background branch")
    with within(vae.file):
        codec = vae_arch(vae, released_tiles)
    with within(transformer.file):
        backbone = transformer_stack(transformer)
    with within(branch.file):
        side = transformer_stack(branch)
    with within(scheduler.file):
        diffusion = diffusion_arch(scheduler)
    channels = codec.latent_channels
    for config in (transformer, branch):
        if config.integer("in_channels", 2 * channels) != 2 * channels:
            raise config.wrong("in_channels", f"expected {2 * channels}, twice the VAE's latent channels")
        if config.integer("out_channels", channels) != channels:
            raise config.wrong("out_channels", f"expected {channels}, the VAE's latent channels")
        if config.integer("temporal_compression_ratio", codec.time_factor) != codec.time_factor:
            raise config.wrong("temporal_compression_ratio", f"the VAE has {codec.time_factor}")
    if (side.width, side.patch, side.text_dim, side.text_tokens) != (
        backbone.width,
        backbone.patch,
        backbone.text_dim,
        backbone.text_tokens,
    ):
        raise InputError(
            f"{branch.file}: num_attention_heads, attention_head_dim, patch_size, text_embed_dim or "
            f"max_text_seq_length differ from those of {transformer.file}"
        )
    with within(transformer.file):
        arch = _whole(transformer, backbone, side, codec, diffusion, branch_heads, layout)
        arch.check()
    return arch


def _whole(
    transformer: Config,
    backbone: TransformerArch,
    branch: TransformerArch,
    codec: VAEArch,
    diffusion: DiffusionArch,
    branch_heads: bool,
    layout: Layout,
) -> ModelArch:
    return ModelArch(
        frames=transformer.integer("sample_frames", 49),
        height=codec.space_factor * transformer.integer("sample_height", 60),
        width=codec.space_factor * transformer.integer("sample_width", 90),
        backbone=backbone,
        branch=branch,
        branch_heads=branch_heads,
        codec=codec,
        diffusion=diffusion,
        layout=layout,
        position_scale=transformer.number("spatial_interpolation_scale", 1.875),
    )


def to_configs(arch: ModelArch) -> dict[str, dict[str, Any]]:
    """The configuration files of an architecture by component, as the release reads them.

    Raises InputError with the list of settings that the release doesn't support.
    """
    codec = arch.codec
    if not isinstance(codec, VAEArch):
        raise InputError("codec: only models with the release's VAE can be exported")
    default = ModelArch()
    problems = [
        f"{name}={ours!r} (the release has {theirs!r})"
        for name, ours, theirs in (
            ("fusion", arch.fusion, default.fusion),
            ("injection", arch.injection, default.injection),
            ("layout", arch.layout, default.layout),
            ("base_grid", arch.base_grid, default.base_grid),
            ("backbone.mlp_ratio", arch.backbone.mlp_ratio, 4),
            ("branch.mlp_ratio", arch.branch.mlp_ratio, 4),
            ("codec.frames_per_chunk", codec.frames_per_chunk, 8),
            ("codec.latents_per_chunk", codec.latents_per_chunk, 2),
            ("branch_heads", arch.branch_heads, True),
        )
        if ours != theirs
    ]
    if problems:
        raise InputError(f"the release doesn't support this model: {'; '.join(problems)}")
    tile = codec.tile or (240, 360)
    kinds = {ours: theirs for theirs, ours in PREDICTIONS.items()}
    return {
        "transformer": {"_class_name": TRANSFORMER_CLASSES[0], **_stack_fields(arch, arch.backbone)},
        "branch": {"_class_name": BRANCH_CLASSES[0], **_stack_fields(arch, arch.branch)},
        "vae": {
            "_class_name": VAE_CLASSES[0],
            **{name: value for name, value in _VAE_CONSTANTS.items() if value is not None},
            "block_out_channels": list(codec.block_widths),
            "down_block_types": [_DOWN] * len(codec.block_widths),
            "up_block_types": [_UP] * len(codec.block_widths),
            "layers_per_block": codec.layers_per_block,
            "latent_channels": codec.latent_channels,
            "norm_num_groups": codec.norm_groups,
            "norm_eps": codec.norm_eps,
            "temporal_compression_ratio": codec.time_factor,
            "scaling_factor": codec.scaling_factor,
            "sample_height": 2 * tile[0],
            "sample_width": 2 * tile[1],
        },
        "scheduler": {
            "_class_name": "CogVideoXDPMScheduler",
            **_SCHEDULER_CONSTANTS,
            "num_train_timesteps": arch.diffusion.train_steps,
            "beta_start": arch.diffusion.beta_start,
            "beta_end": arch.diffusion.beta_end,
            "snr_shift_scale": arch.diffusion.snr_shift,
            "rescale_betas_zero_snr": arch.diffusion.zero_terminal_snr,
            "prediction_type": kinds[arch.diffusion.prediction],
        },
    }


def _stack_fields(arch: ModelArch, stack: TransformerArch) -> dict[str, Any]:
    newer = ("patch_size_t", "patch_bias", "ofs_embed_dim")  # fields that the release's classes don't have
    space = arch.codec.space_factor
    return {
        **{name: value for name, value in _TRANSFORMER_CONSTANTS.items() if name not in newer},
        "num_layers": stack.num_layers,
        "num_attention_heads": stack.num_heads,
        "attention_head_dim": stack.head_dim,
        "time_embed_dim": stack.time_embed_dim,
        "text_embed_dim": stack.text_dim,
        "max_text_seq_length": stack.text_tokens,
        "patch_size": stack.patch,
        "in_channels": 2 * arch.codec.latent_channels,
        "out_channels": arch.codec.latent_channels,
        "sample_frames": arch.frames,
        "sample_height": arch.height // space,
        "sample_width": arch.width // space,
        "temporal_compression_ratio": arch.codec.time_factor,
        "spatial_interpolation_scale": arch.position_scale,
        "dropout": 0.0,
    }
