"""Which tensor of the released PyTorch checkpoints becomes which array of ours, and in which axis order.

A `Rule` names one tensor and one array. `{i}` in a tensor's name is the number of a block; the array stacks
all blocks on its first axis. Rules are used in both directions. `check` compares a whole map with the headers
of the files, before a tensor is read or anything is written.
"""

import dataclasses
import functools
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from gencompositor_jax import checkpoints
from gencompositor_jax.arch import ModelArch, TransformerArch, VAEArch
from gencompositor_jax.codec import vae
from gencompositor_jax.conversion.safetensors_io import Tensor
from gencompositor_jax.errors import DifferencesError

# Tensors that some files have and no model reads: the VAE's convolutions that its config switches off.
KNOWN_UNUSED = {"vae": r"(post_)?quant_conv\.(weight|bias)"}


@dataclasses.dataclass(frozen=True)
class Rule:
    """One PyTorch tensor, one path in our variables, and the change of axes between them."""

    key: str
    path: str
    to_jax: Callable[[np.ndarray], np.ndarray]
    to_torch: Callable[[np.ndarray], np.ndarray]

    @property
    def stacked(self) -> bool:
        """Whether the array stacks this tensor of all blocks."""
        return "{i}" in self.key


class Target(NamedTuple):
    """What a tensor becomes: a whole array, or one layer of a stacked one."""

    array: str  # path in the checkpoint, a/b/c
    layer: int | None
    to_jax: Callable[[np.ndarray], np.ndarray]


TensorMap = dict[str, dict[str, list[Target]]]  # component -> tensor -> targets


class ComponentRules(NamedTuple):
    """The rules of one component."""

    root: str  # path of its arrays in a checkpoint
    rules: list[Rule]
    layers: int  # of its stacked arrays

    def tensors(self) -> list[tuple[str, int | None, Rule]]:
        """(name, layer, rule) of every tensor, in the order of the rules."""
        return [
            (rule.key.format(i=i), i, rule)
            for rule in self.rules
            for i in (range(self.layers) if rule.stacked else [None])
        ]

    def targets(self) -> dict[str, list[Target]]:
        """What every tensor becomes."""
        return {
            name: [Target(f"{self.root}/{rule.path}", layer, rule.to_jax)]
            for name, layer, rule in self.tensors()
        }


def component_rules(arch: ModelArch) -> dict[str, ComponentRules]:
    """The rules of the released components: transformer, branch, and vae unless the codec is another."""
    found = {
        "transformer": ComponentRules("backbone", backbone_rules(arch), arch.backbone.num_layers),
        "branch": ComponentRules("branch", branch_rules(arch), arch.branch.num_layers),
    }
    if isinstance(arch.codec, VAEArch):
        found["vae"] = ComponentRules("codec", vae_rules(arch.codec), 0)
    return found


def released_map(arch: ModelArch) -> TensorMap:
    """The map of the released components."""
    return {name: component.targets() for name, component in component_rules(arch).items()}


def shapes_by_path(arch: ModelArch) -> dict[str, tuple[int, ...]]:
    """Shapes of all arrays of a checkpoint by their paths."""
    leaves = checkpoints.named_leaves(checkpoints.array_shapes(arch))
    return {name: tuple(leaf.shape) for name, leaf in leaves.items()}


def check(
    wanted: TensorMap,
    tensors: Mapping[str, Mapping[str, Tensor]],
    shapes: Mapping[str, tuple[int, ...]],
    filled: set[str],
    where: Mapping[str, Any],
) -> dict[str, list[str]]:
    """Check that every tensor has a target or is known to be unused, and that every array is filled exactly.

    tensors: those of each component. shapes: of all arrays. filled: arrays that come from elsewhere. where:
    the folder of each component, for the message. Returns the unused tensors by component. Raises InputError
    with the list of all differences.
    """
    problems: list[str] = []
    unused: dict[str, list[str]] = {}
    for component, targets in wanted.items():
        found, folder = tensors[component], where[component]
        known = re.compile(KNOWN_UNUSED.get(component, r"(?!)"))
        extra = sorted(found.keys() - targets.keys())
        unused[component] = [name for name in extra if known.fullmatch(name)]
        problems += [f"{folder}: unexpected tensor {name}" for name in extra if not known.fullmatch(name)]
        problems += [f"{folder}: missing tensor {name}" for name in sorted(targets.keys() - found.keys())]
        for name in sorted(targets.keys() & found.keys()):
            for target in targets[name]:
                shape = shapes[target.array][target.layer is not None :]
                if _converted_shape(target, found[name]) != shape:
                    problems.append(
                        f"{folder}: {name} {list(found[name].shape)} doesn't fit {target.array} {list(shape)}"
                    )
    mapped = {target.array for targets in wanted.values() for each in targets.values() for target in each}
    problems += [f"no tensor for {name}" for name in sorted(shapes.keys() - mapped - filled)]
    if problems:
        raise DifferencesError(f"the weights don't fit ({len(problems)} differences)", problems)
    return unused


def check_sizes(
    arch: ModelArch, tensors: Mapping[str, Mapping[str, Tensor]], where: Mapping[str, Any]
) -> None:
    """Raise DifferencesError where the configurations' sizes aren't those of the tensors.

    Computes no shapes, which would allocate tables of the stated size. Arguments as for `check`.
    """
    t, rows, columns = arch.token_grid
    problems = []
    for component, stack, streams in (("transformer", arch.backbone, 2), ("branch", arch.branch, 1)):
        found = tensors.get(component, {})
        channels = "patch_embed.fg_proj.weight" if component == "transformer" else None
        plain = component == "transformer" and channels not in found  # it has no foreground
        positions = stack.text_tokens + (1 if plain else streams) * t * rows * columns
        wanted: dict[str, tuple[int | None, ...]] = {
            "patch_embed.pos_embedding": (1, positions, stack.width),
            "patch_embed.proj.weight": (stack.width, None, stack.patch, stack.patch),
            "patch_embed.text_proj.weight": (stack.width, stack.text_dim),
        }
        problems += [
            f"{where[component]}: {name} is {list(found[name].shape)}, config.json says {list(shape)}"
            for name, shape in wanted.items()
            if name in found and not _fits(found[name].shape, shape)
        ]
    if problems:
        raise DifferencesError(f"the weights don't fit ({len(problems)} differences)", problems)


def _fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    return len(shape) == len(wanted) and all(w in (None, n) for n, w in zip(shape, wanted, strict=True))


def _converted_shape(target: Target, tensor: Tensor) -> tuple[int, ...] | None:
    """The shape of a tensor in our axis order; None where it has too few axes."""
    try:
        # A view of one number has any shape and takes no memory.
        return target.to_jax(np.broadcast_to(np.float32(0), tensor.shape)).shape
    except (ValueError, IndexError):
        return None


# ---- Backbone and branch.


def backbone_rules(arch: ModelArch) -> list[Rule]:
    """Rules of the backbone (`transformer_sep`), 43 names with their blocks counted once."""
    stack = arch.backbone
    return [
        *_common(stack),
        _patch("patch_embed.fg_proj.weight", "params/patch_embed/foreground/kernel", stack),
        _same("patch_embed.fg_proj.bias", "params/patch_embed/foreground/bias"),
        *_norm("norm_final", "params/norm_final"),
        *_linear("norm_out.linear", "params/modulation_out"),
        *_norm("norm_out.norm", "params/norm_out"),
        *_linear("proj_out", "params/out"),
    ]


def branch_rules(arch: ModelArch) -> list[Rule]:
    """Rules of the background branch, 45 names with their blocks counted once.

    Among them the tensors that its forward pass never reads, if the architecture keeps them.
    """
    rules = [
        *_common(arch.branch),
        *_linear("branch_blocks.{i}", "params/residual"),
    ]
    if arch.branch_heads:
        rules += [
            *_linear("branch_x_embedder", "params/unused/embed"),
            *_norm("norm_final", "params/unused/norm_final"),
            *_linear("norm_out.linear", "params/unused/modulation_out"),
            *_norm("norm_out.norm", "params/unused/norm_out"),
            *_linear("proj_out", "params/unused/out"),
        ]
    return rules


def _common(stack: TransformerArch) -> list[Rule]:
    """Embeddings and blocks, alike in both stacks."""
    heads = (stack.num_heads, stack.head_dim)
    block, ours = "transformer_blocks.{i}.", "params/blocks/"
    rules = [
        Rule("patch_embed.pos_embedding", "buffers/patch_embed/positions", lambda x: x[0], lambda x: x[None]),
        _patch("patch_embed.proj.weight", "params/patch_embed/video/kernel", stack),
        _same("patch_embed.proj.bias", "params/patch_embed/video/bias"),
        *_linear("patch_embed.text_proj", "params/patch_embed/text"),
        *_linear("time_embedding.linear_1", "params/time_embed/linear_1"),
        *_linear("time_embedding.linear_2", "params/time_embed/linear_2"),
    ]
    for norm in ("norm1", "norm2"):
        rules += [
            *_linear(f"{block}{norm}.linear", f"{ours}{norm}/linear"),
            *_norm(f"{block}{norm}.norm", f"{ours}{norm}/norm"),
        ]
    for key, name in (("q", "query"), ("k", "key"), ("v", "value")):
        rules += [
            Rule(
                f"{block}attn1.to_{key}.weight",
                f"{ours}attention/{name}/kernel",
                lambda x: x.T.reshape(-1, *heads),
                lambda x: x.reshape(len(x), -1).T,
            ),
            Rule(
                f"{block}attn1.to_{key}.bias",
                f"{ours}attention/{name}/bias",
                lambda x: x.reshape(heads),
                lambda x: x.reshape(-1),
            ),
        ]
    return [
        *rules,
        *_norm(f"{block}attn1.norm_q", f"{ours}attention/norm_query"),
        *_norm(f"{block}attn1.norm_k", f"{ours}attention/norm_key"),
        Rule(
            f"{block}attn1.to_out.0.weight",
            f"{ours}attention/out/kernel",
            lambda x: x.T.reshape(*heads, -1),
            lambda x: x.reshape(-1, x.shape[-1]).T,
        ),
        _same(f"{block}attn1.to_out.0.bias", f"{ours}attention/out/bias"),
        *_linear(f"{block}ff.net.0.proj", f"{ours}feed_forward/up"),
        *_linear(f"{block}ff.net.2", f"{ours}feed_forward/down"),
    ]


def _same(key: str, path: str) -> Rule:
    return Rule(key, path, lambda x: x, lambda x: x)


def _linear(key: str, path: str) -> list[Rule]:
    return [
        Rule(f"{key}.weight", f"{path}/kernel", lambda x: x.T, lambda x: x.T),
        _same(f"{key}.bias", f"{path}/bias"),
    ]


def _norm(key: str, path: str) -> list[Rule]:
    return [_same(f"{key}.weight", f"{path}/scale"), _same(f"{key}.bias", f"{path}/bias")]


def _patch(key: str, path: str, stack: TransformerArch) -> Rule:
    """A p x p convolution of stride p, [D, C, p, p], as a linear map of patches, [p*p*C, D]."""
    p = stack.patch
    return Rule(
        key,
        path,
        lambda x: x.transpose(2, 3, 1, 0).reshape(-1, x.shape[0]),
        lambda x: x.reshape(p, p, -1, x.shape[-1]).transpose(3, 2, 0, 1),
    )


# ---- VAE: names translate word by word, encoder/down_0/res_1/conv1/kernel to
# encoder.down_blocks.0.resnets.1.conv1.conv.weight.

_WORDS = {
    "encoder": "encoder",
    "decoder": "decoder",
    "mid": "mid_block",
    "conv_in": "conv_in.conv",
    "conv_out": "conv_out.conv",
    "conv1": "conv1.conv",
    "conv2": "conv2.conv",
    "shortcut": "conv_shortcut",
    "downsample": "downsamplers.0.conv",
    "upsample": "upsamplers.0.conv",
    "norm1": "norm1",
    "norm2": "norm2",
    "norm_out": "norm_out",
    "norm": "norm_layer",
    "gain": "conv_y.conv",
    "shift": "conv_b.conv",
    "kernel": "weight",
    "scale": "weight",
    "bias": "bias",
}
_NUMBERED = {"down": "down_blocks", "up": "up_blocks", "res": "resnets"}


def vae_rules(arch: VAEArch) -> list[Rule]:
    """Rules of the VAE in diffusers' layout, made from the parameters of `vae.init(key, arch)`."""
    shapes = jax.eval_shape(functools.partial(vae.init, arch=arch), jax.random.key(0))
    return [_vae_rule(path) for path in checkpoints.named_leaves(shapes)]


def _vae_rule(path: str) -> Rule:
    key = ".".join(map(_translated, path.split("/")))
    if path.endswith("/kernel"):
        return Rule(key, path, _channels_last, _channels_first)
    return _same(key, path)


def _translated(word: str) -> str:
    numbered = re.fullmatch(r"([a-z]+)_(\d+)", word)
    return f"{_NUMBERED[numbered[1]]}.{numbered[2]}" if numbered else _WORDS[word]


def _channels_last(kernel: np.ndarray) -> np.ndarray:
    """[out, in, window...] -> [window..., in, out]."""
    return np.moveaxis(kernel, (0, 1), (-1, -2))


def _channels_first(kernel: np.ndarray) -> np.ndarray:
    """[window..., in, out] -> [out, in, window...]."""
    return np.moveaxis(kernel, (-1, -2), (0, 1))
