"""Architectures by name, with fields replaced."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from gencompositor_jax.arch.model import ModelArch
from gencompositor_jax.arch.parts import (
    DiffusionArch,
    Inflation,
    LinearCodecArch,
    PatchCodecArch,
    TransformerArch,
)
from gencompositor_jax.arch.stored import from_json, to_json
from gencompositor_jax.errors import InputError


def released() -> ModelArch:
    """The released checkpoint: CogVideoX-5B-I2V's sizes at 49 frames of 480 x 720."""
    return ModelArch()


def tiny() -> ModelArch:
    """9 frames of 64 x 96 in tokens of 16 x 16 pixels, trainable on two CPU cores."""
    return _small_model(PatchCodecArch(space_factor=8), base_grid=(4, 6))


def small() -> ModelArch:
    """`tiny` with tokens of 8 x 8 pixels, four times as many: sharper results, trained on a GPU."""
    return _small_model(PatchCodecArch(space_factor=4), base_grid=(8, 12))


def linear() -> ModelArch:
    """`tiny` on the latents of a linear codec, 128 numbers per token of 8 x 8 pixels; the embedded model has
    two blocks more.
    """
    arch = _small_model(LinearCodecArch(), base_grid=(8, 12))
    backbone = dataclasses.replace(arch.backbone, num_layers=4, patch=1)
    branch = dataclasses.replace(backbone, num_layers=1)
    # The more steps, the more detail it invents: in 20 by the SDE solver its own frames are 0.8 dB further
    # from the truth than in 4 (benchmarks/results/distilled.json).
    diffusion = dataclasses.replace(arch.diffusion, steps=4, solver="ddim")
    return dataclasses.replace(
        arch, backbone=backbone, branch=branch, diffusion=diffusion, layout="trajectory"
    )


def _small_model(codec: PatchCodecArch | LinearCodecArch, base_grid: tuple[int, int]) -> ModelArch:
    stack = TransformerArch(
        num_layers=6, num_heads=4, head_dim=64, time_embed_dim=128, text_dim=16, text_tokens=1
    )
    return ModelArch(
        frames=9,
        height=64,
        width=96,
        backbone=stack,
        branch=dataclasses.replace(stack, num_layers=1),
        branch_heads=False,
        codec=codec,
        diffusion=DiffusionArch(prediction="x0"),
        layout="height",
        base_grid=base_grid,
        latent_mask="union",
        inflation=Inflation(opening=0, min_area=0.0, kernel=7, sigma=2.0, tau=0.1),
    )


PRESETS = {"tiny": tiny, "small": small, "linear": linear, "released": released}


def preset(name: str, changes: Mapping[str, Any] | None = None) -> ModelArch:
    """A preset by name, with fields replaced: {"frames": 17, "backbone": {"num_layers": 8}}.

    Raises InputError for an unknown preset or field, a value of another type, or contradicting fields.
    """
    if name not in PRESETS:
        raise InputError(f"arch={name}: pass one of {', '.join(PRESETS)}")
    return from_json(_replaced(to_json(PRESETS[name]()), changes or {}, "arch_changes"), "arch_changes")


def _replaced(fields: dict[str, Any], changes: Mapping[str, Any], where: str) -> dict[str, Any]:
    out = dict(fields)
    for name, value in changes.items():
        here = f"{where}.{name}"
        if name not in fields:
            raise InputError(f"{here}: unknown field; pass one of {', '.join(fields)}")
        old = fields[name]
        if isinstance(old, dict) and isinstance(value, Mapping):
            out[name] = _replaced(old, value, here)
        elif old is None or type(value) is type(old) or (isinstance(old, float) and isinstance(value, int)):
            out[name] = value
        else:
            raise InputError(f"{here}={value!r}: pass {type(old).__name__}, such as {old!r}")
    return out
