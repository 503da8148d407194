"""The complete network: branch and backbone in one function, from noisy latents and conditions to the
prediction.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gencompositor_jax.arch import ModelArch
from gencompositor_jax.masks.latent import token_mask
from gencompositor_jax.model import int8
from gencompositor_jax.model.background_branch import BackgroundBranch
from gencompositor_jax.model.fusion_dit import FusionDiT
from gencompositor_jax.model.layers import Remat

Params = Any


class LatentConditions(NamedTuple):
    """What the network is conditioned on, at latent size."""

    background: jax.Array  # masked background latents [B, t, h, w, C]
    foreground: jax.Array  # foreground latents [B, t, h, w, C]
    mask: jax.Array  # [B, t, h, w, 1] in {0, 1}, 1 = to be generated


@dataclasses.dataclass(frozen=True)
class Denoiser:
    """The two stacks of one architecture; parameters and buffers are passed in."""

    arch: ModelArch
    dtype: Any = jnp.float32
    remat: Remat = "none"

    def _stacks(self, quantised: bool = False) -> tuple[FusionDiT, BackgroundBranch]:
        how = self.arch, self.dtype, self.remat, quantised
        return FusionDiT(*how), BackgroundBranch(*how)

    def init(self, key: jax.Array) -> Params:
        """Fresh variables {"backbone": ..., "branch": ...}, each with its `params` and `buffers`; for
        `jax.eval_shape` too.
        """
        t, h, w, c = self.arch.latent_shape
        latents = jnp.zeros((1, t, h, w, c))
        text = jnp.zeros((1, self.arch.backbone.text_tokens, self.arch.backbone.text_dim))
        timestep = jnp.zeros((1,), jnp.int32)
        backbone, branch = self._stacks()
        for_backbone, for_branch = jax.random.split(key)
        branch_text = jnp.zeros((1, self.arch.branch.text_tokens, self.arch.branch.text_dim))
        samples, branch_variables = branch.init_with_output(
            for_branch, latents, latents, latents[..., :1], branch_text, timestep
        )
        inject = jnp.ones(samples.shape[1:3], bool)
        return {
            "backbone": backbone.init(
                for_backbone, latents, latents, latents, text, timestep, samples, inject
            ),
            "branch": branch_variables,
        }

    def __call__(
        self,
        variables: Params,
        noisy: jax.Array,
        timestep: jax.Array,
        given: LatentConditions,
        text: jax.Array,
        kept: jax.Array | None = None,
    ) -> jax.Array:
        """noisy [B, t, h, w, C], timestep int [B], text [B, L, text_dim] -> float32 prediction like noisy.

        kept: int [F], the foreground tokens that are looked at, for all clips of the batch; None: all of
        them. The variables may be `int8.quantised`.
        """
        backbone, branch = self._stacks(int8.is_quantised(variables))
        with jax.named_scope("branch"):
            samples = branch.apply(variables["branch"], noisy, given.background, given.mask, text, timestep)
        inject = ~token_mask(given.mask[..., 0], self.arch.backbone.patch)
        with jax.named_scope("backbone"):
            prediction = backbone.apply(
                variables["backbone"],
                noisy,
                given.background,
                given.foreground,
                text,
                timestep,
                samples,
                inject,
                kept,
            )
        assert isinstance(prediction, jax.Array)
        return prediction
