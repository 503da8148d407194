"""The metrics of a results folder: what each needs of a clip, its unit, and which way is better."""

import dataclasses
from collections.abc import Callable
from typing import Literal

import numpy as np

from gencompositor_jax.arch import Inflation, released
from gencompositor_jax.data_pipelines.examples import ring
from gencompositor_jax.evaluation import metrics
from gencompositor_jax.evaluation.metrics import frames as per_frame
from gencompositor_jax.evaluation.metrics import motion
from gencompositor_jax.masks.inflation import inflate

Better = Literal["higher", "lower"]
Needs = Literal["target", "mask", "background"]


@dataclasses.dataclass(frozen=True)
class Clip:
    """A result and what it is compared with, all of one size; uint8 [T, H, W, 3], the mask bool [T, H, W]."""

    frames: np.ndarray
    target: np.ndarray | None = None  # the ground truth
    mask: np.ndarray | None = None  # the element's silhouette in it
    background: np.ndarray | None = None  # the scene without the element, for protocols without ground truth


@dataclasses.dataclass(frozen=True)
class Measure:
    """A metric of one clip; NaN where the clip has nothing to measure."""

    label: str  # of its column
    better: Better
    digits: int  # after the point, in tables
    compute: Callable[[Clip], float]
    needs: tuple[Needs, ...] = ()
    lacks: str = "no clip has anything to measure"  # why no clip has a value
    least: int = 0  # pixels that a frame's sides must have

    def fits(self, clip: Clip) -> bool:
        """Whether the clip has all that the metric needs."""
        large = min(clip.frames.shape[1:3]) >= self.least
        return large and all(getattr(clip, name) is not None for name in self.needs)


def over_frames(function: Callable[..., np.ndarray], *needs: Needs) -> Callable[[Clip], float]:
    """The mean of `function` over a clip's frames or pairs of frames, NaN left out.

    function: of the clip's frames and, in this order, its fields named in `needs`.
    """

    def compute(clip: Clip) -> float:
        return _mean(function(clip.frames, *(getattr(clip, name) for name in needs)))

    return compute


def _mean(values: np.ndarray) -> float:
    return float(np.nanmean(values)) if np.isfinite(values).any() else float("nan")


def _measure(
    label: str, better: Better, digits: int, function: Callable[..., np.ndarray], *needs: Needs
) -> Measure:
    return Measure(label, better, digits, over_frames(function, *needs), needs)


HARMONISATION: dict[str, Measure] = {
    "mse": _measure("MSE", "lower", 2, per_frame.mse, "target"),
    "fmse": _measure("fMSE", "lower", 2, per_frame.fmse, "target", "mask"),
    "psnr": _measure("PSNR, dB", "higher", 2, per_frame.psnr, "target"),
    "psnr_peak_target": _measure(
        "PSNR of the target's peak, dB",
        "higher",
        2,
        lambda frames, target: per_frame.psnr(frames, target, "target"),
        "target",
    ),
    "ssim": Measure(
        "SSIM",
        "higher",
        4,
        over_frames(per_frame.ssim, "target"),
        ("target",),
        f"needs frames of {per_frame.WINDOW} pixels or more on each side",
        per_frame.WINDOW,
    ),
    "fssim": _measure("fSSIM", "higher", 4, per_frame.fssim, "target", "mask"),
    "temporal_loss": _measure("TL", "lower", 2, motion.temporal_loss, "target", "mask"),
}


def _warping_error(clip: Clip) -> float:
    return _mean(motion.warping_error(clip.frames, clip.target))


WARPING = {"warping_error": Measure("warping error", "lower", 5, _warping_error)}


def regions(inflation: Inflation) -> dict[str, Measure]:
    """PSNR in the regions of the held-out protocol: the target region, the ring around it, the rest.

    Over a region's pixels of all frames, at most `metrics.CAP`; see `evaluation.heldout`.
    """

    def within(select: Callable[[np.ndarray], np.ndarray]) -> Callable[[Clip], float]:
        def compute(clip: Clip) -> float:
            assert clip.target is not None and clip.mask is not None
            region = select(inflate(clip.mask, inflation))
            return metrics.capped_psnr(clip.frames, clip.target, region)

        return compute

    selections: dict[str, tuple[str, Callable[[np.ndarray], np.ndarray]]] = {
        "target_psnr": ("PSNR target region, dB", lambda region: region),
        "ring_psnr": ("PSNR ring, dB", ring),
        "background_psnr": ("PSNR background, dB", lambda region: ~(region | ring(region))),
    }
    return {
        name: Measure(label, "higher", 2, within(select), ("target", "mask"))
        for name, (label, select) in selections.items()
    }


def inflation_at(height: int) -> Inflation:
    """The released model's inflation, in proportion to a frame's height: outside it nothing may change."""
    arch = released()
    full, factor = arch.inflation, height / arch.height
    kernel = 2 * round(factor * (full.kernel // 2)) + 1
    kernel, sigma = min(kernel, 1001), min(factor * full.sigma, 200.0)
    return dataclasses.replace(full, opening=0, min_area=0.0, kernel=kernel, sigma=sigma)


def _background_psnr(clip: Clip) -> float:
    assert clip.background is not None and clip.mask is not None
    outside = ~inflate(clip.mask, inflation_at(clip.frames.shape[1]))
    return metrics.capped_psnr(clip.frames, clip.background, outside)


# Against the background outside the inflated mask, of protocols without ground truth.
BACKGROUND = {
    "background_psnr": Measure("PSNR background, dB", "higher", 2, _background_psnr, ("background", "mask"))
}
