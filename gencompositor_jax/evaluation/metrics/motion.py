"""Metrics of change over time: temporal loss (TL) and warping error, on optical flow.

Both are published on FlowNet 2 flow. Here the flow is OpenCV's DIS (Kroeger et al. 2016), which needs no
weights: values rank methods on the same clips and do not compare with published ones.

Every function returns a value per pair of neighbouring frames, float64 [T - 1]; NaN where no pixel counts.
"""

import cv2
import numpy as np

from gencompositor_jax.evaluation.metrics.frames import check


def flow(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Optical flow from uint8 [H, W, 3] to another: first(x) is at second(x + flow(x)). float32 [H, W, 2]."""
    dis = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    before, after = (cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY) for frame in (first, second))
    result = dis.calc(before, after, np.zeros((*before.shape, 2), np.float32))
    return np.asarray(result)


def warp(image: np.ndarray, displacement: np.ndarray) -> np.ndarray:
    """image(x + displacement(x)), bilinear; the border is repeated outside. float32 [H, W] or [H, W, C]."""
    height, width = displacement.shape[:2]
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    result: np.ndarray = cv2.remap(
        image.astype(np.float32),
        x + displacement[..., 0],
        y + displacement[..., 1],
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    return result


def temporal_loss(frames: np.ndarray, target: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """TL of the harmonisation field (Huang et al. 2018, as computed for HYouTube): flicker of the foreground.

    With the ground truth's flow, W moves frame t to frame t + 1, and

        w  = W(mask_t) mean_c exp(-|W(target_t) - target_t+1|)              values in [0, 1]
        TL = 255^2 sum w^2 |W(frame_t) - frame_t+1|^2 / sum w

    The published protocol takes frame t + 1 from unannotated frames; here it is the clip's own next frame.
    """
    check(frames, target, mask)
    out = np.full(len(frames) - 1, np.nan)
    for t in range(len(out)):
        back = flow(target[t + 1], target[t])
        moved = warp(target[t], back) / 255
        weight = warp(mask[t].astype(np.float32), back)
        weight = weight * np.exp(-np.abs(moved - target[t + 1] / np.float32(255))).mean(axis=-1)
        if weight.sum() > 0:
            change = weight[..., None] * (warp(frames[t], back) - frames[t + 1])
            out[t] = (change.astype(np.float64) ** 2).sum() / weight.sum(dtype=np.float64)
    return out


def warping_error(frames: np.ndarray, guide: np.ndarray | None = None) -> np.ndarray:
    """Warping error (Lai et al. 2018): sum M |frame_t - W(frame_t+1)|^2 / sum M, values in [0, 1].

    guide: uint8 [T, H, W, 3], whose flow is taken: the ground truth where there is one, else None for the
    frames' own. M leaves out occluded pixels and motion boundaries (Ruder et al. 2016).
    """
    guide = frames if guide is None else guide
    check(frames, guide)
    out = np.full(len(frames) - 1, np.nan)
    for t in range(len(out)):
        ahead, back = flow(guide[t], guide[t + 1]), flow(guide[t + 1], guide[t])
        valid = visible(ahead, back)
        if valid.any():
            change = (warp(frames[t + 1], ahead) - frames[t])[valid] / 255
            out[t] = (change.astype(np.float64) ** 2).sum(axis=-1).mean()
    return out


def visible(ahead: np.ndarray, back: np.ndarray) -> np.ndarray:
    """bool [H, W]: pixels of a frame whose flow ahead and back again agree, and that have no motion boundary.

    Thresholds are those of Ruder et al. (2016), equations 5 and 6.
    """
    returned = warp(back, ahead)
    both = (ahead**2).sum(-1) + (returned**2).sum(-1)
    occluded = ((ahead + returned) ** 2).sum(-1) > 0.01 * both + 0.5
    gradients = [np.gradient(ahead[..., axis]) for axis in (0, 1)]
    steep = sum(along**2 for pair in gradients for along in pair)
    boundary = steep > 0.01 * (ahead**2).sum(-1) + 0.002
    free: np.ndarray = ~(occluded | boundary)
    return free
