"""Samples some fixed clips with the weights of a run, for a contact sheet and the PSNR.

Clips and noise are the same at every call and in every run with the same data and seed, so two sheets differ
only by the weights. The clips are training data without augmentation; `gencompositor evaluate` measures a
model on held-out clips.
"""

from typing import Any

import ml_collections
import numpy as np

from gencompositor_jax.arch import ModelArch
from gencompositor_jax.checkpoints import Model
from gencompositor_jax.controls.conditions import stack_conditions
from gencompositor_jax.controls.media.sheet import contact_sheet
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.data_pipelines.source import ClipArrays, ClipSource
from gencompositor_jax.errors import InputError
from gencompositor_jax.evaluation import metrics
from gencompositor_jax.evaluation.prediction import composite
from gencompositor_jax.inference.pipeline import generate
from gencompositor_jax.inference.programs import Run, directly
from gencompositor_jax.masks.inflation import blacken

TIMES = 5  # frames of each clip on the sheet
ATTEMPTS = 8  # records to try for one clip


class Validation:
    """The validation clips, read once. Every process creates one and calls `sample`, with the same result.

    Raises InputError if ATTEMPTS records in a row can't be used.
    """

    def __init__(self, config: ml_collections.ConfigDict, arch: ModelArch, source: ClipSource) -> None:
        self._arch, self._dtype = arch, config.compute_dtype
        self._options = SamplingOptions(steps=config.validation.steps, seed=config.seed)
        self.clips = fixed_clips(source, config.validation.clips, config.seed)

    def sample(self, arrays: Any, run: Run = directly) -> tuple[np.ndarray, dict[str, float]]:
        """Sample and composite all clips; returns what `score` does.

        arrays: those of a model, with any sharding; the network runs in `compute_dtype`.
        run: calls the compiled programs.
        """
        arrays = {**arrays, "null_text": arrays["null_text"].astype(self._dtype)}
        model, conditions = Model(self._arch, arrays), stack_conditions(self.clips)
        frames = generate(model, conditions, range(len(self.clips)), self._options, run=run)
        return score(self.clips, frames)


def fixed_clips(source: ClipSource, count: int, seed: int) -> list[ClipArrays]:
    """Clips evenly spread over a data source, at most as many as it has, as inputs of the network.

    The seed decides every random choice of the source. A record that can't be used is replaced by the next
    one. A clip has the fields of `Conditions` as pixels, the ground truth `target`, and the `background` to
    composite into.
    """
    clips = []
    count = min(count, len(source))
    for i in range(count):
        index = i * len(source) // count
        candidates = [(index + offset) % len(source) for offset in range(ATTEMPTS)]
        clips.append(_first_usable(source, candidates, seed))
    return clips


def _first_usable(source: ClipSource, candidates: list[int], seed: int) -> ClipArrays:
    reason = ""
    for index in candidates:
        try:
            clip = source.read(index, np.random.default_rng([seed, index]), removal=False)
        except InputError as error:
            reason = str(error)
            continue
        if clip["mask"].any():
            return {
                **({"offsets": clip["offsets"]} if "offsets" in clip else {}),
                "target": clip["target"],
                "background": clip["scene"],
                "masked_background": blacken(clip["scene"], clip["mask"]),
                "foreground": clip["foreground"],
                "mask": clip["mask"],
            }
        reason = f"{source.name(index)}: its mask is empty"
    raise InputError(f"validation: none of {ATTEMPTS} records in a row can be used; the last: {reason}")


def score(clips: list[ClipArrays], generated: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    """The contact sheet, uint8 [h, w, 3], and the PSNR in the masked region in dB, averaged over clips.

    "psnr/composite" is that of the composites, in which the generated frames are pasted back into the
    background; "psnr/generated" is that of the generated frames themselves. The paste-back blends the
    background in at the border of the region, and in some data the ground truth there is the background.

    generated: frames from the network, uint8 [B, T, H, W, 3].
    """
    rows, scores = [], []
    for clip, frames in zip(clips, generated, strict=True):
        results = {"psnr/composite": composite(clip, frames), "psnr/generated": frames}
        scores.append(
            {
                name: metrics.capped_psnr(result, clip["target"], clip["mask"])
                for name, result in results.items()
            }
        )
        rows += [
            ("masked input", clip["masked_background"]),
            ("foreground", clip["foreground"]),
            (f"result, {scores[-1]['psnr/composite']:.1f} dB", results["psnr/composite"]),
            ("target", clip["target"]),
        ]
    means = {name: float(np.mean([clip_scores[name] for clip_scores in scores])) for name in scores[0]}
    return contact_sheet(rows, TIMES), means
