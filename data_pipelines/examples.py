"""From a procedural clip to what training and evaluation read: compact uint8 and bool arrays.

Training sees the foreground cut from the lit target (`clip_arrays`, which can be cached, and
`data_pipelines.augmentation`); the evaluation's foregrounds are the element's own look under another light.
"""

import cv2
import numpy as np

from gencompositor_jax.arch import Inflation
from gencompositor_jax.data_pipelines.procedural import (
    HELD_OUT_SEED,
    ProceduralClip,
    make_clip,
    to_uint8,
    warp,
)
from gencompositor_jax.masks.inflation import blacken, inflate

TEST_GAMMAS = (0.4, 0.7, 1.6, 2.2)
RING = 8  # pixels around the target region that are judged as well


# Arrays by name, of one clip: uint8 [T, H, W, 3] and bool [T, H, W]. Of several, with one more axis in front.
PlainClip = dict[str, np.ndarray]  # target, background, foreground, mask, silhouette
# masked_background, foreground, mask; and what it is judged by: target, silhouette, background, ring, paste.
TestExample = dict[str, np.ndarray]


def clip_arrays(clip: ProceduralClip, inflation: Inflation) -> PlainClip:
    """What a cache stores of a clip.

    `target` (the right answer), `background` (without element and shadow), `foreground` (lit as in the
    target, centred on white), `mask` (the target region: the silhouette, inflated) and `silhouette`.
    """
    silhouette = clip.silhouette
    return PlainClip(
        target=clip.target,
        background=clip.background,
        foreground=clip.foreground,
        mask=inflate(silhouette, inflation),
        silhouette=silhouette,
    )


def test_example(clip: ProceduralClip, rng: np.random.Generator, inflation: Inflation) -> TestExample:
    """One example of the evaluation.

    The foreground is the element's own look, not lit by the scene, under one of TEST_GAMMAS and a colour
    cast. The mask the model gets is jittered: grown or shrunk by a pixel and moved by up to two, before
    inflation. The silhouette is the true one; the target region that is judged is it, inflated, and `ring`
    lies around that.
    """
    gamma = TEST_GAMMAS[rng.integers(len(TEST_GAMMAS))]
    cast = 1.0 + rng.uniform(-0.15, 0.15, 3)
    look = clip.element.copy()
    colour = (clip.element[..., :3] / 255.0) ** gamma * (cast / cast.max())
    look[..., :3] = to_uint8(colour)
    height, width = clip.target.shape[1:3]
    centre = np.broadcast_to(np.array([(width - 1) / 2, (height - 1) / 2], np.float32), clip.xy.shape)
    centred = warp(look, centre, clip.scale, clip.rotation, height, width)
    placed = warp(look, clip.xy, clip.scale, clip.rotation, height, width)
    foreground = to_uint8(1.0 + centred[..., 3:] * (centred[..., :3] - 1.0))
    background = clip.background / 255.0
    paste = to_uint8(background + placed[..., 3:] * (placed[..., :3] - background))

    silhouette = clip.silhouette
    mask = inflate(jitter(silhouette, rng), inflation)
    return TestExample(
        target=clip.target,
        masked_background=blacken(clip.background, mask),
        foreground=foreground,
        mask=mask,
        silhouette=silhouette,
        background=clip.background,
        ring=ring(inflate(silhouette, inflation)),
        paste=paste,
    )


def held_out_example(
    index: int, inflation: Inflation, frames: int = 9, height: int = 64, width: int = 96
) -> TestExample:
    """The evaluation's example number `index` (0, 1, ...): the same for everyone, never trained on."""
    clip = make_clip(HELD_OUT_SEED + index, frames, height, width)
    return test_example(clip, np.random.default_rng([HELD_OUT_SEED, index]), inflation)


def jitter(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """bool [T, H, W] grown, kept or shrunk by a pixel and moved by up to two, alike in the whole clip."""
    element = np.ones((3, 3), np.uint8)
    change = (cv2.erode, None, cv2.dilate)[rng.integers(3)]
    dx, dy = rng.integers(-2, 3, 2)
    move = np.array([[1, 0, dx], [0, 1, dy]], np.float32)
    out = np.empty_like(mask)
    for t, frame in enumerate(mask.astype(np.uint8)):
        grown = frame if change is None else change(frame, element)
        out[t] = cv2.warpAffine(grown, move, frame.shape[::-1], flags=cv2.INTER_NEAREST) > 0
    return out


def ring(region: np.ndarray, width: int = RING) -> np.ndarray:
    """bool [T, H, W]: the pixels within `width` of a region, outside it."""
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    grown = [cv2.dilate(frame.astype(np.uint8), element) > 0 for frame in region]
    return np.stack(grown) & ~region
