"""From a procedural clip to the uint8 and bool arrays of training and evaluation.

Training takes the foreground from the lit target (`clip_arrays`, which can be cached, and
`data_pipelines.augmentation`); evaluation takes the element's unlit colours under another light.
"""

import cv2
import numpy as np

from gencompositor_jax.arch import Inflation
from gencompositor_jax.controls.geometry.offsets import Cell, whole_tokens
from gencompositor_jax.data_pipelines.procedural import (
    HELD_OUT_SEED,
    ProceduralClip,
    make_clip,
    to_uint8,
    warp,
)
from gencompositor_jax.masks.inflation import blacken, inflate

TEST_GAMMAS = (0.4, 0.7, 1.6, 2.2)
RING = 8  # pixels around the target region that are evaluated, too

# Arrays of one clip by name, uint8 [T, H, W, 3] and bool [T, H, W]; of several clips with a leading axis.
PlainClip = dict[str, np.ndarray]  # target, background, foreground, mask, silhouette
# Inputs: masked_background, foreground, mask. For scores: target, silhouette, background, ring,
# paste, and placed (uint8 [T, H, W, 4]: the element where it goes, straight alpha).
# With a `cell` also `offsets`, int32 [t, 2].
TestExample = dict[str, np.ndarray]


def clip_arrays(clip: ProceduralClip, inflation: Inflation) -> PlainClip:
    """The arrays of a clip that a cache stores.

    `target` (the ground truth), `background` (without element and shadow), `foreground` (lit as in the
    target, centred on white), `mask` (the target region: the inflated silhouette), `silhouette`, and
    `offsets` if the clip has them.
    """
    silhouette = clip.silhouette
    arrays = PlainClip(
        target=clip.target,
        background=clip.background,
        foreground=clip.foreground,
        mask=inflate(silhouette, inflation),
        silhouette=silhouette,
    )
    return arrays if clip.offsets is None else {**arrays, "offsets": clip.offsets}


def test_example(
    clip: ProceduralClip, rng: np.random.Generator, inflation: Inflation, cell: Cell | None = None
) -> TestExample:
    """One example of the evaluation.

    The foreground has the element's unlit colours under one of TEST_GAMMAS and a colour cast. The model's
    mask is jittered before inflation: grown or shrunk by a pixel and moved by up to two. `silhouette` is the
    true one; scores are taken in the target region, its inflation, and in `ring` around that. cell: of a
    token, `ModelArch.offset_cell`, for a foreground with `offsets`.
    """
    element = in_other_light(clip.element, rng)
    height, width = clip.target.shape[1:3]
    place = np.broadcast_to(np.array([(width - 1) / 2, (height - 1) / 2], np.float32), clip.xy.shape)
    offsets = {}
    if cell is not None:
        offsets["offsets"], shift = whole_tokens(clip.xy - place, cell)
        place = place + shift
    centred = warp(element, place, clip.scale, clip.rotation, height, width)
    moved = warp(element, clip.xy, clip.scale, clip.rotation, height, width)
    foreground = to_uint8(1.0 + centred[..., 3:] * (centred[..., :3] - 1.0))
    background = clip.background / 255.0
    paste = to_uint8(background + moved[..., 3:] * (moved[..., :3] - background))

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
        placed=to_uint8(moved),
        **offsets,
    )


def in_other_light(element: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An unlit element, uint8 [T, h, w, 4], under one of TEST_GAMMAS and a colour cast."""
    gamma = TEST_GAMMAS[rng.integers(len(TEST_GAMMAS))]
    cast = 1.0 + rng.uniform(-0.15, 0.15, 3)
    out = element.copy()
    out[..., :3] = to_uint8((element[..., :3] / 255.0) ** gamma * (cast / cast.max()))
    return out


def held_out_example(
    index: int,
    inflation: Inflation,
    frames: int = 9,
    height: int = 64,
    width: int = 96,
    cell: Cell | None = None,
) -> TestExample:
    """The evaluation's example number `index` (0, 1, ...): fixed, and not in the training data."""
    clip = make_clip(HELD_OUT_SEED + index, frames, height, width)
    return test_example(clip, held_out_rng(index), inflation, cell)


def held_out_rng(index: int) -> np.random.Generator:
    """What the evaluation draws for its clip number `index` besides the clip."""
    return np.random.default_rng([HELD_OUT_SEED, index])


def jitter(mask: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """bool [T, H, W] grown, kept or shrunk by a pixel and moved by up to two, alike in all frames."""
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
    """bool [T, H, W]: the pixels outside a region within `width` pixels of it."""
    element = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * width + 1, 2 * width + 1))
    grown = [cv2.dilate(frame.astype(np.uint8), element) > 0 for frame in region]
    return np.stack(grown) & ~region
