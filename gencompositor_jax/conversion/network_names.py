"""Names of the backbone's and the branch's tensors in the released PyTorch checkpoints, and the layout change
of each.

A rule ties one PyTorch key to one leaf of our variables; `{i}` is a block's number, and the leaf stacks all
blocks on its first axis. The rules are used in both directions.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gencompositor_jax.arch import ModelArch, TransformerArch
from gencompositor_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Rule:
    """One PyTorch key, one path in our variables, and the change of layout between them."""

    key: str
    path: str
    to_jax: Callable[[np.ndarray], np.ndarray]
    to_torch: Callable[[np.ndarray], np.ndarray]

    @property
    def stacked(self) -> bool:
        """Whether the leaf stacks this tensor of all blocks."""
        return "{i}" in self.key


def backbone_rules(arch: ModelArch) -> list[Rule]:
    """Rules of the backbone (`transformer_sep`): all of its 43 key patterns."""
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
    """Rules of the background branch: all of its 45 key patterns, the unused ones too where the architecture
    keeps them.
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


def to_variables(rules: list[Rule], tensors: Mapping[str, np.ndarray], layers: int) -> dict[str, Any]:
    """PyTorch tensors by key -> our nested variables {"params": ..., "buffers": ...}.

    Raises InputError with the full list of keys that are missing or that no rule names.
    """
    wanted = {rule.key.format(i=i) for rule in rules for i in (range(layers) if rule.stacked else [0])}
    if wanted != set(tensors):
        missing, unknown = sorted(wanted - set(tensors)), sorted(set(tensors) - wanted)
        raise InputError(f"the weights don't fit: missing {missing}, unknown {unknown}")
    variables: dict[str, Any] = {}
    for rule in rules:
        if rule.stacked:
            leaf = np.stack([rule.to_jax(tensors[rule.key.format(i=i)]) for i in range(layers)])
        else:
            leaf = rule.to_jax(tensors[rule.key])
        *parents, name = rule.path.split("/")
        node = variables
        for parent in parents:
            node = node.setdefault(parent, {})
        node[name] = leaf
    return variables


def _common(stack: TransformerArch) -> list[Rule]:
    """Both stacks: embeddings and blocks."""
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
    """A p x p convolution of stride p [D, C, p, p] is a linear map of patches [p*p*C, D]."""
    p = stack.patch
    return Rule(
        key,
        path,
        lambda x: x.transpose(2, 3, 1, 0).reshape(-1, x.shape[0]),
        lambda x: x.reshape(p, p, -1, x.shape[-1]).transpose(3, 2, 0, 1),
    )
