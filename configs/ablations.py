r"""Ablations of the paper's ideas: each is one small change of a base, at any size.

    gencompositor train --config configs/ablations.py:no_branch --workdir runs/no_branch
    gencompositor train --config configs/ablations.py:no_branch,size=released --workdir runs/no_branch-6b \
        --config.data.path=data/VideoComp

`gencompositor ablate` trains and scores all of them (docs/ablations.md). The argument is the name of an
ablation:

    full             the base itself
    cross_attention  video tokens attend to foreground tokens, instead of fusion attention (section 4.3)
    channel_concat   the foreground's latents as channels of the video's tokens, instead of tokens of its own
    no_branch        no background preservation branch (4.2)
    unmasked_branch  the branch's residuals for all video tokens, instead of masked token injection (4.2)
    no_gamma         the foreground in the target's light: no gamma augmentation (4.3)
    no_inflation     the element's silhouette as the mask: no mask inflation (4.1)
    erope_height     the foreground's positions shifted along the height, the paper's choice (4.4)
    erope_width      along the width
    erope_time       along time
    erope_shared     not at all: the video's positions
    erope_released   as the released weights need it
    noise, v, x0     what the network predicts: noise, velocity, or the clean latents

and one of the sizes, the base of the small ones being configs/tiny.py:linear:

    size=sweep       (default) that of `linear` with three blocks of width 128, for sweeps on any machine
    size=linear      that of configs/tiny.py:linear
    size=tiny        configs/tiny.py
    size=released    configs/gencompositor_6b.py

`runlocal` makes it a trial of a minute. The small sizes predict x0, with the layout
`trajectory` (`tiny`: `height`), `released` predicts velocity with the layout `released`.
"""

import difflib
from typing import Any

import ml_collections

from gencompositor_jax.configs import gencompositor_6b, tiny
from gencompositor_jax.configs.common import runlocal

# By ablation the values that differ from the base's, by their dotted keys.
VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "cross_attention": {"arch_changes.fusion": "cross_attention"},
    "channel_concat": {"arch_changes.fusion": "channels"},
    "no_branch": {"arch_changes.injection": "none"},
    "unmasked_branch": {"arch_changes.injection": "everywhere"},
    "no_gamma": {"data.gamma": (1.0, 1.0), "data.colour_cast": 0.0, "data.other_light": 0.0},
    # A window of one pixel: the mask itself.
    "no_inflation": {"arch_changes.inflation.kernel": 1, "arch_changes.inflation.tau": 0.5},
    "erope_height": {"arch_changes.layout": "height"},
    "erope_width": {"arch_changes.layout": "width"},
    "erope_time": {"arch_changes.layout": "time"},
    "erope_shared": {"arch_changes.layout": "shared"},
    "erope_released": {"arch_changes.layout": "released"},
    # The noise of an input that is all noise says nothing about the clip: the schedule ends before, where
    # a step can't lead to the clip.
    "noise": {
        "arch_changes.diffusion.prediction": "noise",
        "arch_changes.diffusion.zero_terminal_snr": False,
        "arch_changes.diffusion.steps": 20,
    },
    "v": {"arch_changes.diffusion.prediction": "velocity"},
    "x0": {"arch_changes.diffusion.prediction": "x0"},
}
SIZES = ("sweep", "linear", "tiny", "released")


def get_config(arg: str = "") -> ml_collections.ConfigDict:
    """arg: an ablation (default "full"), size=SIZE and "runlocal", separated by commas."""
    words = [word.strip() for word in arg.split(",") if word.strip()]
    known = [*VARIANTS, *(f"size={size}" for size in SIZES), "runlocal"]
    if unknown := [word for word in words if word not in known]:
        near = difflib.get_close_matches(unknown[0], known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
        raise ValueError(f"unknown config argument {unknown[0]!r}; {hint}")
    names = [word for word in words if word in VARIANTS] or ["full"]
    sizes = [word.removeprefix("size=") for word in words if word.startswith("size=")] or ["sweep"]
    for given in (names, sizes):
        if len(given) > 1:
            raise ValueError(f"{', '.join(given)}: pass one of them")
    config = of_size(sizes[0])
    if "runlocal" in words:
        runlocal(config)
    with config.unlocked():
        for key, value in VARIANTS[names[0]].items():
            _set(config, key.split("."), value)
    return config


def of_size(size: str) -> ml_collections.ConfigDict:
    """The base of a size."""
    if size == "released":
        return gencompositor_6b.get_config()
    if size == "tiny":
        return tiny.get_config()
    config = tiny.get_config("linear")
    if size == "sweep":
        stack = {"num_heads": 4, "head_dim": 32}
        with config.unlocked():
            config.arch_changes = ml_collections.ConfigDict(
                # Networks that have learnt so little are nearest to the truth in one step.
                {"backbone": {"num_layers": 3, **stack}, "branch": stack, "diffusion": {"steps": 1}}
            )
        # Rendered once for all runs of a sweep.
        config.data.source, config.data.path = "cache", "data/ablations"
        config.data.clips, config.data.followed_clips, config.data.followed = 4_096, 0, 0.0
        config.steps, config.optimizer.warmup, config.optimizer.learning_rate = 2_000, 100, 2.4e-3
        config.validation.every = 0
    return config


def _set(section: ml_collections.ConfigDict, names: list[str], value: Any) -> None:
    """Set a value by the parts of its key; sections of `arch_changes` are made where they are missing."""
    for name in names[:-1]:
        if name not in section:
            section[name] = ml_collections.ConfigDict()
        section = section[name]
    section[names[-1]] = value
