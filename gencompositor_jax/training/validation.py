"""What a run's model makes of some fixed clips, as a contact sheet and in decibels.

The clips and their noise are the same at every call and in every run with that data and seed, so that two
sheets differ by the weights alone. They are clips of the training data as they are, without augmentation:
whether a model understands what it has never seen is for `gencompositor evaluate`.
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
from gencompositor_jax.masks.inflation import blacken

TIMES = 5  # moments of a clip on the sheet
ATTEMPTS = 8  # records that are tried for one clip


class Validation:
    """The clips, read once. Every process makes one and calls `sample`; all get the same.

    Raises InputError where ATTEMPTS records in a row can't be used.
    """

    def __init__(self, config: ml_collections.ConfigDict, arch: ModelArch, source: ClipSource) -> None:
        self._arch, self._dtype = arch, config.compute_dtype
        self._options = SamplingOptions(steps=config.validation.steps, seed=config.seed)
        self.clips = fixed_clips(source, config.validation.clips, config.seed)

    def sample(self, arrays: Any) -> tuple[np.ndarray, dict[str, float]]:
        """Runs the network on all clips and pastes its answers back; see `judge` for what it returns.

        arrays: as a checkpoint has them, cut over the mesh in any way; the network runs in `compute_dtype`.
        """
        arrays = {**arrays, "null_text": arrays["null_text"].astype(self._dtype)}
        model, conditions = Model(self._arch, arrays), stack_conditions(self.clips)
        return judge(self.clips, generate(model, conditions, range(len(self.clips)), self._options))


def fixed_clips(source: ClipSource, count: int, seed: int) -> list[ClipArrays]:
    """Clips evenly spread over a source, at most as many as it has, each as the network is shown it.

    What a source draws comes from the seed. Where a record can't be used the next one takes its place. A clip
    has the fields of `Conditions` as pixels, the ground truth `target`, and the `background` to composite
    into.
    """
    clips = []
    for place in range(min(count, len(source))):
        index = place * len(source) // min(count, len(source))
        candidates = [(index + i) % len(source) for i in range(ATTEMPTS)]
        clips.append(_first_good(source, candidates, seed))
    return clips


def _first_good(source: ClipSource, candidates: list[int], seed: int) -> ClipArrays:
    reason = ""
    for index in candidates:
        try:
            clip = source.read(index, np.random.default_rng([seed, index]), removal=False)
        except InputError as error:
            reason = str(error)
            continue
        if clip["mask"].any():
            return {
                "target": clip["target"],
                "background": clip["scene"],
                "masked_background": blacken(clip["scene"], clip["mask"]),
                "foreground": clip["foreground"],
                "mask": clip["mask"],
            }
        reason = f"{source.name(index)}: its mask is empty"
    raise InputError(f"validation: none of {ATTEMPTS} records in a row can be used; the last: {reason}")


def judge(clips: list[ClipArrays], generated: np.ndarray) -> tuple[np.ndarray, dict[str, float]]:
    """The contact sheet, uint8 [h, w, 3], and the means over clips of the PSNR in the target region, in dB.

    generated: the network's frames, uint8 [B, T, H, W, 3]. psnr/composite is that of the answers pasted back,
    which are what people get and see on the sheet. psnr/generated is that of the network's own frames: at the
    region's border the paste-back blends in the scene, and in some data the scene is the right answer.
    """
    rows, scores = [], []
    for clip, frames in zip(clips, generated, strict=True):
        answers = {"psnr/composite": composite(clip, frames), "psnr/generated": frames}
        region = clip["mask"]
        score = {
            name: metrics.capped(metrics.psnr(answer, clip["target"], region))
            for name, answer in answers.items()
        }
        scores.append(score)
        rows += [
            ("masked input", clip["masked_background"]),
            ("foreground", clip["foreground"]),
            (f"result, {score['psnr/composite']:.1f} dB", answers["psnr/composite"]),
            ("target", clip["target"]),
        ]
    means = {name: float(np.mean([score[name] for score in scores])) for name in scores[0]}
    return contact_sheet(rows, TIMES), means
