"""Architectures: every width, depth, layout and constant that a set of weights depends on.

A `ModelArch` is stored with each checkpoint, so nothing about a model is guessed. Configs select a preset and
may replace fields; no other file has defaults for these numbers.
"""

from gencompositor_jax.arch.changes import Changes, changed, with_tiles
from gencompositor_jax.arch.model import ModelArch
from gencompositor_jax.arch.parts import (
    DiffusionArch,
    Fusion,
    Inflation,
    Injection,
    LatentMaskRule,
    Layout,
    LinearCodecArch,
    PatchCodecArch,
    Prediction,
    Side,
    Solver,
    Tiles,
    TransformerArch,
    VAEArch,
    Weights,
    Width,
)
from gencompositor_jax.arch.presets import PRESETS, linear, preset, released, small, tiny
from gencompositor_jax.arch.stored import from_json, to_json

__all__ = [
    "PRESETS",
    "Changes",
    "DiffusionArch",
    "Fusion",
    "Inflation",
    "Injection",
    "LatentMaskRule",
    "Layout",
    "LinearCodecArch",
    "ModelArch",
    "PatchCodecArch",
    "Prediction",
    "Side",
    "Solver",
    "Tiles",
    "TransformerArch",
    "VAEArch",
    "Weights",
    "Width",
    "changed",
    "from_json",
    "linear",
    "preset",
    "released",
    "small",
    "tiny",
    "to_json",
    "with_tiles",
]
