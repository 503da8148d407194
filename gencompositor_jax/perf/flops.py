"""FLOPs of the network, counted from its architecture, for model FLOPs utilisation:

    MFU = FLOPs of a training step * steps per second / (devices * peak FLOP/s of a device)

A multiplication and an addition are two FLOPs. Only matrix products count: norms, softmax, rotations and the
codec don't, and neither does rematerialisation (the definition of MFU in PaLM, arXiv 2204.02311, appendix B).
"""

import math
from typing import NamedTuple

from gencompositor_jax.arch import ModelArch, TransformerArch


class Work(NamedTuple):
    """FLOPs by kind of product: the backward pass costs differently for the two."""

    linear: float  # products with parameters
    attention: float  # products of activations: scores, and weighted sums of values

    @property
    def total(self) -> float:
        """Of both kinds."""
        return self.linear + self.attention


def backbone(arch: ModelArch, foreground: int | None = None, video: int | None = None) -> Work:
    """One evaluation of the backbone for one clip.

    foreground, video: its tokens that are kept (see `diffusion.approximations`, `training.token_choice`);
    None: all.
    """
    stack, channels, tokens = arch.backbone, arch.codec.latent_channels, math.prod(arch.token_grid)
    video = tokens if video is None else video
    foreground = tokens if foreground is None else foreground
    foreground = video if arch.fusion == "channels" else foreground
    cells = stack.patch**2 * channels
    embed = (2 * video + foreground) * cells * stack.width  # noisy with background, and foreground
    head = stack.time_embed_dim * 2 * stack.width + video * stack.width * cells
    if arch.fusion == "self_attention":
        return _stack(stack, video + foreground, 2.0 * (embed + head))
    work = _stack(stack, video, 2.0 * (embed + head))
    if arch.fusion == "channels":
        return work
    queries = stack.text_tokens + video
    projections = 2 * (queries + foreground) * stack.width**2  # query and out; key and value
    scores = 2 * queries * foreground * stack.width
    return Work(
        work.linear + 2.0 * stack.num_layers * projections, work.attention + 2.0 * stack.num_layers * scores
    )


def branch(arch: ModelArch, video: int | None = None) -> Work:
    """One evaluation of the background branch for one clip, 0 if there is none; `video` as in `backbone`."""
    if "branch" not in arch.stacks:
        return Work(0.0, 0.0)
    stack, channels = arch.branch, 2 * arch.codec.latent_channels + 1  # noisy, background, mask
    video = math.prod(arch.token_grid) if video is None else video
    embed = video * stack.patch**2 * channels * stack.width
    residuals = stack.num_layers * video * stack.width**2
    return _stack(stack, video, 2.0 * (embed + residuals))


def forward(arch: ModelArch, kept: tuple[int, int] | None = None) -> float:
    """One evaluation of the network (backbone and branch) for one clip; `kept` as in `train_step`."""
    video, foreground = kept or (None, None)
    return backbone(arch, foreground, video).total + branch(arch, video).total


def train_step(
    arch: ModelArch, batch: int, trained: float = 1.0, kept: tuple[int, int] | None = None
) -> float:
    """Forward and backward pass for a batch of clips.

    The backward pass has two products for each of the forward pass: for the gradients of the input and of the
    weight. trained: fraction of the parameters that are trained; frozen ones need no gradient. At 1 the step
    costs three forward passes. kept: numbers of the video's and of the foreground's tokens; None: all.
    """
    video, foreground = kept or (None, None)
    works = backbone(arch, foreground, video), branch(arch, video)
    return batch * sum((2.0 + trained) * work.linear + 3.0 * work.attention for work in works)


def _stack(stack: TransformerArch, tokens: int, ends: float) -> Work:
    """A stack over its text and `tokens` more tokens; `ends` are the FLOPs of its embedding and head."""
    joint, width, time = stack.text_tokens + tokens, stack.width, stack.time_embed_dim
    projections = 4 * width**2 + 2 * stack.mlp_ratio * width**2  # query, key, value, out; up, down
    modulations = 2 * 6 * time * width  # once per clip, not per token
    shared = stack.text_tokens * stack.text_dim * width + width * time + time**2
    linear = stack.num_layers * (joint * projections + modulations) + shared
    attention = stack.num_layers * 2 * joint**2 * width
    return Work(2.0 * linear + ends, 2.0 * attention)
