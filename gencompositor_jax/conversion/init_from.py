"""Starting a training from plain CogVideoX-I2V: a checkpoint with all of its weights that fit.

The backbone takes everything; its foreground projection is the first latent channels of the patch
projection. The branch takes the first blocks and everything around them; its background channels see
what the noisy channels see, its mask channel and its residual maps start at zero, so that at first it
changes nothing. (The released training script copies the patch projection, the time embedding and the
blocks only.)
"""

import math
from typing import Any

import numpy as np

from gencompositor_jax.arch import Layout, ModelArch
from gencompositor_jax.conversion import configs, plan
from gencompositor_jax.conversion.configs import Config
from gencompositor_jax.conversion.convert import Components, Job, config_of, job
from gencompositor_jax.conversion.network_names import Rule
from gencompositor_jax.conversion.plan import Piece
from gencompositor_jax.model import erope

BRANCH_LAYERS = 2
POSITIONS = "patch_embed.pos_embedding"
PROJECTION = "patch_embed.proj.weight"


def check(
    parts: Components, layout: Layout = "released", dtype: str = "keep", released_tiles: bool = True
) -> tuple[Job, list[str]]:
    """The job, checked like a conversion's, and lines that say what is copied and what is not.

    Raises InputError with the complete list of what doesn't fit.
    """
    base = config_of(parts.transformer)
    base.is_class(configs.PLAIN_CLASSES, "--init-from starts from plain CogVideoX-I2V")
    layers = min(BRANCH_LAYERS, base.integer("num_layers"))
    side = Config(base.file, {**base.fields, "num_layers": layers})
    arch = configs.model_arch(base, side, config_of(parts.vae), parts.scheduler, True, released_tiles, layout)
    rules = plan.component_rules(arch)
    tensors = parts.transformer.tensors
    wanted = _merge(_backbone(arch, rules["transformer"][1]), _branch(arch, rules["branch"][1], tensors))
    constants = _constants(arch, wanted, next(iter(tensors.values())).dtype)
    work = job(
        arch,
        {"transformer": parts.transformer, "vae": parts.vae},
        {"transformer": wanted, "vae": plan.pieces(*rules["vae"])},
        constants,
        dtype,
    )
    return work, _notes(work, wanted)


def _backbone(arch: ModelArch, rules: list[Rule]) -> dict[str, list[Piece]]:
    found = plan.pieces("backbone", rules, arch.backbone.num_layers)
    del found[POSITIONS]
    channels = arch.codec.latent_channels
    for kind in ("weight", "bias"):
        (piece,) = found.pop(f"patch_embed.fg_proj.{kind}")

        def first_channels(
            x: np.ndarray, change: Any = piece.change, weight: bool = kind == "weight"
        ) -> np.ndarray:
            return change(x[:, :channels] if weight else x)

        found[f"patch_embed.proj.{kind}"].append(piece._replace(change=first_channels))
    return found


def _branch(arch: ModelArch, rules: list[Rule], tensors: Any) -> dict[str, list[Piece]]:
    channels = arch.codec.latent_channels
    found = plan.pieces("branch", rules, arch.branch.num_layers)
    found = {name: places for name, places in found.items() if name in tensors or _is_of_base(name)}
    (piece,) = found[PROJECTION]

    def with_mask(x: np.ndarray) -> np.ndarray:
        first = x[:, :channels]
        return piece.change(np.concatenate([first, first, np.zeros_like(x[:, :1])], axis=1))

    found[PROJECTION] = [piece._replace(change=with_mask)]
    return found


def _is_of_base(name: str) -> bool:
    """True of the names that plain CogVideoX-I2V has, so that a missing one is an error."""
    return not name.startswith(("branch_blocks.", "branch_x_embedder."))


def _merge(*plans: dict[str, list[Piece]]) -> dict[str, list[Piece]]:
    merged: dict[str, list[Piece]] = {}
    for each in plans:
        for name, places in each.items():
            merged.setdefault(name, []).extend(places)
    return merged


def _constants(arch: ModelArch, wanted: dict[str, list[Piece]], dtype: np.dtype) -> dict[str, np.ndarray]:
    """What no tensor fills: the position table of both streams, and zeros."""
    planned = {piece.leaf for places in wanted.values() for piece in places}
    shapes = plan.leaf_shapes(arch)
    stacks = {name: shape for name, shape in shapes.items() if name.startswith(("backbone/", "branch/"))}
    constants = {name: np.zeros(shape, dtype) for name, shape in stacks.items() if name not in planned}
    video, foreground, _ = erope.stream_indices(arch.layout, arch.token_grid)
    table = erope.added_positions(
        np.concatenate([video, foreground]), arch.backbone.width, arch.position_scale
    )
    constants["backbone/buffers/patch_embed/positions"][arch.backbone.text_tokens :] = table.astype(dtype)
    return constants


def _notes(work: Job, wanted: dict[str, list[Piece]]) -> list[str]:
    to = dict.fromkeys(("backbone", "branch"), 0)
    for places in wanted.values():
        for piece in places:
            to[piece.leaf.split("/")[0]] += 1
    lines = [f"{root}: {count} arrays or layers of arrays copied" for root, count in to.items()]
    lines.append("backbone/params/patch_embed/foreground: from the first input channels of patch_embed.proj")
    lines.append("branch/params/patch_embed/video: the same channels twice, zero for the mask")
    for name, array in sorted(work.constants.items()):
        size = "x".join(map(str, array.shape))
        what = f"computed for layout {work.arch.layout!r}" if name.endswith("/positions") else "zero"
        lines.append(f"{name} [{size}]: not in the base; {what}")
    total = sum(math.prod(shape) for shape in plan.leaf_shapes(work.arch).values())
    fresh = sum(array.size for array in work.constants.values())
    lines.append(f"{(total - fresh) / 1e6:.1f} million numbers copied, {fresh / 1e6:.1f} million not")
    return lines
