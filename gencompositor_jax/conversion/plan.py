"""Which tensor of which component becomes which part of which array, and that this fits exactly.

A plan is checked from the files' headers alone: every tensor has a place or is known to be unused, every
array is filled, every shape fits; or else one error lists all that doesn't, before anything is read or
written.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np

from gencompositor_jax import checkpoints
from gencompositor_jax.arch import ModelArch, VAEArch
from gencompositor_jax.conversion.network_names import Rule, backbone_rules, branch_rules
from gencompositor_jax.conversion.safetensors_io import Tensor
from gencompositor_jax.conversion.vae_names import vae_rules
from gencompositor_jax.errors import InputError

# Tensors that some files have and nothing ever reads: the VAE's optional convolutions, switched off in
# its config.
KNOWN_UNUSED = {"vae": r"(post_)?quant_conv\.(weight|bias)"}


class Piece(NamedTuple):
    """What becomes of a tensor: a whole array, or the part of one layer."""

    leaf: str  # path in the checkpoint, a/b/c
    layer: int | None
    change: Callable[[np.ndarray], np.ndarray]


Plan = dict[str, dict[str, list[Piece]]]  # component -> tensor -> pieces


def component_rules(arch: ModelArch) -> dict[str, tuple[str, list[Rule], int]]:
    """By component: where its arrays are in a checkpoint, its rules, and its number of layers."""
    rules = {
        "transformer": ("backbone", backbone_rules(arch), arch.backbone.num_layers),
        "branch": ("branch", branch_rules(arch), arch.branch.num_layers),
    }
    if isinstance(arch.codec, VAEArch):
        rules["vae"] = ("codec", vae_rules(arch.codec), 0)
    return rules


def pieces(root: str, rules: list[Rule], layers: int) -> dict[str, list[Piece]]:
    """Every tensor that rules name, and its place."""
    found: dict[str, list[Piece]] = {}
    for rule in rules:
        for i in range(layers) if rule.stacked else [None]:
            name = rule.key if i is None else rule.key.format(i=i)
            found[name] = [Piece(f"{root}/{rule.path}", i, rule.to_jax)]
    return found


def released_plan(arch: ModelArch) -> Plan:
    """The plan of the released components."""
    return {name: pieces(*parts) for name, parts in component_rules(arch).items()}


def leaf_shapes(arch: ModelArch) -> dict[str, tuple[int, ...]]:
    """Shapes of all arrays of a checkpoint by their paths."""
    leaves = checkpoints.named_leaves(checkpoints.array_shapes(arch))
    return {name: tuple(leaf.shape) for name, leaf in leaves.items()}


def check(
    plan: Plan,
    tensors: Mapping[str, Mapping[str, Tensor]],
    shapes: Mapping[str, tuple[int, ...]],
    filled: set[str],
    where: Mapping[str, Any],
) -> dict[str, list[str]]:
    """Checks a plan against the tensors of each component and the shapes of all arrays.

    filled: arrays that come from elsewhere. where: files or folders by component, for the message.
    Returns the known-unused tensors by component. Raises InputError with the complete list of what
    doesn't fit.
    """
    problems: list[str] = []
    unused: dict[str, list[str]] = {}
    for component, wanted in plan.items():
        there, place = tensors[component], where[component]
        known = re.compile(KNOWN_UNUSED.get(component, r"(?!)"))
        extra = sorted(there.keys() - wanted.keys())
        unused[component] = [name for name in extra if known.fullmatch(name)]
        problems += [f"{place}: {name} has no place" for name in extra if not known.fullmatch(name)]
        problems += [f"{place}: {name} is missing" for name in sorted(wanted.keys() - there.keys())]
        for name in sorted(wanted.keys() & there.keys()):
            for piece in wanted[name]:
                shape = shapes[piece.leaf][piece.layer is not None :]
                got = _shape_after(piece, there[name])
                if got != shape:
                    problems.append(
                        f"{place}: {name} {list(there[name].shape)} doesn't fit {piece.leaf} {list(shape)}"
                    )
    planned = {piece.leaf for wanted in plan.values() for places in wanted.values() for piece in places}
    problems += [f"{leaf} is filled by no tensor" for leaf in sorted(shapes.keys() - planned - filled)]
    if problems:
        raise InputError(f"the weights don't fit ({len(problems)} differences): {'; '.join(problems)}")
    return unused


def _shape_after(piece: Piece, tensor: Tensor) -> tuple[int, ...] | None:
    """The shape that a tensor would have in its array; None where it has too few axes to say."""
    try:
        # A view of one number has any shape and takes no memory.
        return piece.change(np.broadcast_to(np.float32(0), tensor.shape)).shape
    except (ValueError, IndexError):
        return None
