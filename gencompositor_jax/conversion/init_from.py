"""Initial weights for a training, from plain CogVideoX-I2V: all of its weights that fit.

The backbone takes all tensors; its foreground projection is the first latent channels of the patch
projection. The branch takes the first blocks and all tensors around them. Its background channels have the
weights of the noisy channels; those of its mask channel and its residual maps are zero, so that at first it
changes nothing. (The released training script copies the patch projection, the time embedding and the blocks
only.)
"""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from gencompositor_jax.arch import Layout, ModelArch
from gencompositor_jax.conversion import configs, convert, tensor_map
from gencompositor_jax.conversion.configs import Config
from gencompositor_jax.conversion.convert import Components, Conversion
from gencompositor_jax.conversion.safetensors_io import Tensor
from gencompositor_jax.conversion.tensor_map import ComponentRules, Target
from gencompositor_jax.model import erope

BRANCH_LAYERS = 2
POSITIONS = "patch_embed.pos_embedding"
PROJECTION = "patch_embed.proj.weight"

Targets = dict[str, list[Target]]  # tensor -> targets


def check(
    parts: Components, layout: Layout = "released", dtype: str = "keep", released_tiles: bool = True
) -> tuple[Conversion, list[str]]:
    """The checked conversion, and lines that list what is copied and what is not.

    Raises InputError with the list of all differences.
    """
    config = parts.transformer.config
    config.is_class(configs.PLAIN_CLASSES, "--init-from starts from plain CogVideoX-I2V")
    layers = min(BRANCH_LAYERS, config.integer("num_layers"))
    branch = Config(config.file, {**config.fields, "num_layers": layers})
    arch = configs.model_arch(config, branch, parts.vae.config, parts.scheduler, True, released_tiles, layout)
    tensor_map.check_sizes(
        arch, {"transformer": parts.transformer.tensors}, {"transformer": parts.transformer.folder}
    )
    rules = tensor_map.component_rules(arch)
    tensors, channels = parts.transformer.tensors, arch.codec.latent_channels
    wanted = _merged(_backbone(rules["transformer"], channels), _branch(rules["branch"], channels, tensors))
    constants = _constants(arch, wanted, next(iter(tensors.values())).dtype)
    weights = {"transformer": parts.transformer, "vae": parts.vae}
    maps = {"transformer": wanted, "vae": rules["vae"].targets()}
    conversion = convert.check(arch, weights, maps, constants, dtype)
    return conversion, _notes(conversion, wanted)


def _backbone(rules: ComponentRules, channels: int) -> Targets:
    found = rules.targets()
    del found[POSITIONS]
    for kind in ("weight", "bias"):
        (target,) = found.pop(f"patch_embed.fg_proj.{kind}")

        def first_channels(
            x: np.ndarray, to_jax: Any = target.to_jax, weight: bool = kind == "weight"
        ) -> np.ndarray:
            return to_jax(x[:, :channels] if weight else x)

        found[f"patch_embed.proj.{kind}"].append(target._replace(to_jax=first_channels))
    return found


def _branch(rules: ComponentRules, channels: int, tensors: Mapping[str, Tensor]) -> Targets:
    found = {name: each for name, each in rules.targets().items() if name in tensors or _is_of_base(name)}
    (target,) = found[PROJECTION]

    def with_mask(x: np.ndarray) -> np.ndarray:
        noisy = x[:, :channels]
        return target.to_jax(np.concatenate([noisy, noisy, np.zeros_like(x[:, :1])], axis=1))

    found[PROJECTION] = [target._replace(to_jax=with_mask)]
    return found


def _is_of_base(name: str) -> bool:
    """Whether plain CogVideoX-I2V has a tensor of this name, so that it is an error if it is missing."""
    return not name.startswith(("branch_blocks.", "branch_x_embedder."))


def _merged(*maps: Targets) -> Targets:
    merged: Targets = {}
    for each in maps:
        for name, targets in each.items():
            merged.setdefault(name, []).extend(targets)
    return merged


def _constants(arch: ModelArch, wanted: Targets, dtype: np.dtype) -> dict[str, np.ndarray]:
    """Arrays that no tensor fills: the position table of both streams, and zeros."""
    mapped = {target.array for targets in wanted.values() for target in targets}
    shapes = tensor_map.shapes_by_path(arch)
    networks = {name: shape for name, shape in shapes.items() if name.startswith(("backbone/", "branch/"))}
    constants = {name: np.zeros(shape, dtype) for name, shape in networks.items() if name not in mapped}
    video, foreground, _ = erope.stream_indices(arch.layout, arch.token_grid)
    table = erope.added_positions(
        np.concatenate([video, foreground]), arch.backbone.width, arch.position_scale
    )
    constants["backbone/buffers/patch_embed/positions"][arch.backbone.text_tokens :] = table.astype(dtype)
    return constants


def _notes(conversion: Conversion, wanted: Targets) -> list[str]:
    counts = dict.fromkeys(("backbone", "branch"), 0)
    for targets in wanted.values():
        for target in targets:
            counts[target.array.split("/")[0]] += 1
    lines = [f"{root}: {count} arrays or layers of arrays copied" for root, count in counts.items()]
    lines.append("backbone/params/patch_embed/foreground: from the first input channels of patch_embed.proj")
    lines.append("branch/params/patch_embed/video: the same channels twice, zero for the mask")
    for name, array in sorted(conversion.constants.items()):
        size = "x".join(map(str, array.shape))
        positions = name.endswith("/positions")
        what = f"computed for layout {conversion.arch.layout!r}" if positions else "zero"
        lines.append(f"{name} [{size}]: not in the base; {what}")
    total = sum(math.prod(shape) for shape in tensor_map.shapes_by_path(conversion.arch).values())
    new = sum(array.size for array in conversion.constants.values())
    lines.append(f"{(total - new) / 1e6:.1f} million numbers copied, {new / 1e6:.1f} million not")
    return lines
