"""The complete network: background branch and backbone, from noisy latents and conditions to a prediction."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Float, Int

from gencompositor_jax.arch import ModelArch
from gencompositor_jax.masks.latent import token_mask
from gencompositor_jax.model import int8
from gencompositor_jax.model.background_branch import BackgroundBranch
from gencompositor_jax.model.fusion_block import Remat
from gencompositor_jax.model.fusion_dit import FusionDiT
from gencompositor_jax.model.injection import closed
from gencompositor_jax.model.joint_sequence import Subset

Params = Any


class LatentConditions(NamedTuple):
    """The network's conditions, encoded."""

    background: Float[jax.Array, "B t h w C"]  # of the masked background
    foreground: Float[jax.Array, "B t h w C"]
    mask: Float[jax.Array, "B t h w 1"]  # in {0, 1}, 1 where the network generates
    # (rows, columns) in tokens from the foreground to its place in the target; layout `trajectory` only.
    offsets: Int[jax.Array, "B t 2"] | None = None


@dataclasses.dataclass(frozen=True)
class Denoiser:
    """The transformers of one architecture; parameters and buffers are arguments."""

    arch: ModelArch
    dtype: Any = jnp.float32
    remat: Remat = "none"

    def _transformers(self, quantised: bool = False) -> tuple[FusionDiT, BackgroundBranch]:
        options = self.arch, self.dtype, self.remat, quantised
        return FusionDiT(*options), BackgroundBranch(*options)

    def init(self, key: jax.Array) -> Params:
        """Fresh variables of `ModelArch.stacks`, {"backbone": ..., "branch": ...}, each with its `params` and
        `buffers`. Under `jax.eval_shape`, their shapes.
        """
        t, h, w, c = self.arch.latent_shape
        latents = jnp.zeros((1, t, h, w, c))
        text = jnp.zeros((1, self.arch.backbone.text_tokens, self.arch.backbone.text_dim))
        timestep = jnp.zeros((1,), jnp.int32)
        backbone, branch = self._transformers()
        for_backbone, for_branch = jax.random.split(key)
        variables: dict[str, Any] = {}
        injected: tuple[jax.Array | None, jax.Array | None] = (None, None)
        if "branch" in self.arch.stacks:
            branch_text = jnp.zeros((1, self.arch.branch.text_tokens, self.arch.branch.text_dim))
            residuals, variables["branch"] = branch.init_with_output(
                for_branch, latents, latents, latents[..., :1], branch_text, timestep
            )
            injected = residuals, jnp.zeros(residuals.shape[1:3], bool)
        of_backbone = backbone.init(for_backbone, latents, latents, latents, text, timestep, *injected)
        return {"backbone": of_backbone, **variables}

    def __call__(
        self,
        variables: Params,
        noisy: Float[jax.Array, "B t h w C"],
        timestep: Int[jax.Array, " B"],
        given: LatentConditions,
        text: Float[jax.Array, "B L text_dim"],
        kept: Int[jax.Array, " F"] | None = None,
        subset: Subset | None = None,
    ) -> Float[jax.Array, "B t h w C"]:
        """One evaluation of the network; the prediction is float32.

        variables: as from `init`, or `int8.quantised`. kept: ascending indices of the foreground tokens that
        the network receives, the same for all clips (an approximation); None for all of them. subset: those
        of each clip, in training; the prediction of video tokens outside of it is 0.
        """
        assert (given.offsets is not None) == (self.arch.offset_cell is not None), self.arch.layout
        backbone, branch = self._transformers(int8.is_quantised(variables))
        residuals = mask = None
        if "branch" in self.arch.stacks:
            with jax.named_scope("branch"):
                masked = given.background, given.mask
                of_video = None if subset is None else subset._replace(foreground=None)
                residuals = branch.apply(variables["branch"], noisy, *masked, text, timestep, of_video)
            mask = token_mask(given.mask[..., 0], self.arch.backbone.patch)
            mask = mask if subset is None else jnp.take_along_axis(mask, subset.video, axis=1)
            mask = closed(mask, self.arch.injection)
        with jax.named_scope("backbone"):
            prediction = backbone.apply(
                variables["backbone"],
                noisy,
                given.background,
                given.foreground,
                text,
                timestep,
                residuals,
                mask,
                kept,
                given.offsets,
                subset,
            )
        assert isinstance(prediction, jax.Array)
        return prediction
