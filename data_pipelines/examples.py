"""From a procedural clip to what training and evaluation read: compact uint8 and bool arrays.

Training sees the foreground cut from the lit target, so without the gamma augmentation a copy would be the
right answer; the evaluation's foregrounds are the element's own look under another light. A clip's plain
arrays (`clip_arrays`) can be cached, and `augment` draws what changes from epoch to epoch.
"""

import cv2
import numpy as np

from data_pipelines.procedural import HELD_OUT_SEED, ProceduralClip, make_clip, to_uint8, warp
from gencompositor_jax.arch import Inflation
from gencompositor_jax.masks import inflate

GAMMA_RANGE = (0.4, 1.9)  # foreground augmentation, once per clip (paper)
REMOVAL_SHARE = 0.2  # samples that teach removal: white foreground, empty background as the target
TEST_GAMMAS = (0.4, 0.7, 1.6, 2.2)
RING = 8  # pixels around the target region that are judged as well


# Arrays by name. Of one clip [T, H, W, 3] uint8 and [T, H, W] bool; of a batch, with one more axis in front.
ClipArrays = dict[str, np.ndarray]  # what stays: target, background, foreground, mask, silhouette
Example = dict[
    str, np.ndarray
]  # what one step reads: target, masked_background, foreground, mask, silhouette
TestExample = dict[str, np.ndarray]  # an Example, and what it is judged by: background, ring, paste


def clip_arrays(clip: ProceduralClip, inflation: Inflation) -> ClipArrays:
    """What a cache stores of a clip.

    `target` (the right answer), `background` (without element and shadow), `foreground` (lit as in the
    target, centred on white), `mask` (the target region: the silhouette, inflated) and `silhouette`.
    """
    silhouette = clip.silhouette
    return ClipArrays(
        target=clip.target,
        background=clip.background,
        foreground=clip.foreground,
        mask=inflate(silhouette, inflation),
        silhouette=silhouette,
    )


def training_example(clip: ProceduralClip, rng: np.random.Generator, inflation: Inflation) -> Example:
    """One training example: gamma drawn from GAMMA_RANGE, removal with REMOVAL_SHARE, no flips."""
    arrays = clip_arrays(clip, inflation)
    batch = augment({name: value[None] for name, value in arrays.items()}, rng, flip=False)
    return {name: value[0] for name, value in batch.items()}


def augment(
    batch: ClipArrays,
    rng: np.random.Generator,
    *,
    gamma_range: tuple[float, float] = GAMMA_RANGE,
    removal: float = REMOVAL_SHARE,
    flip: bool = True,
    cast: float = 0.0,
) -> Example:
    """Draws an epoch's variant of each clip of a batch; the arrays given stay as they are.

    A removal sample has the empty background as its target and a white foreground; the mask stays.

    Args:
        batch: arrays with a leading batch axis.
        rng: where all draws come from.
        gamma_range: the foreground's gamma, uniform, one per clip.
        removal: share of removal samples.
        flip: also flips left-right and reverses time, each with probability one half.
        cast: spread of the logarithm of an extra gamma per colour channel; 0 keeps to the paper. Gammas,
            unlike gains, leave the white around the element alone.
    """
    size = len(batch["target"])
    gammas = rng.uniform(*gamma_range, (size, 1)) * np.exp(cast * rng.standard_normal((size, 3)))
    tables = gamma_tables(gammas)
    remove = rng.random(size) < removal
    mirror, reverse = (rng.random((2, size)) < 0.5) & flip

    target, foreground = np.empty_like(batch["target"]), np.empty_like(batch["foreground"])
    background, mask, silhouette = (np.empty_like(batch[k]) for k in ("background", "mask", "silhouette"))
    for i in range(size):
        one = {name: _turned(values[i], mirror[i], reverse[i]) for name, values in batch.items()}
        target[i] = one["background"] if remove[i] else one["target"]
        foreground[i] = 255 if remove[i] else look_up(one["foreground"], tables[i])
        mask[i], silhouette[i] = one["mask"], one["silhouette"]
        # Black inside the target region, and the empty scene outside: inference has no shadow to look at.
        np.multiply(one["background"], ~mask[i][..., None], out=background[i])
    return {
        "target": target,
        "masked_background": background,
        "foreground": foreground,
        "mask": mask,
        "silhouette": silhouette,
    }


def gamma_tables(gammas: np.ndarray) -> np.ndarray:
    """uint8 [..., 256]: v -> 255 (v / 255)^gamma for gammas [...]."""
    ramp = np.arange(256) / 255.0
    return np.round(255.0 * ramp ** np.asarray(gammas)[..., None]).astype(np.uint8)


def look_up(frames: np.ndarray, tables: np.ndarray) -> np.ndarray:
    """uint8 [T, H, W, 3] frames through a table per channel, [3, 256]."""
    flat = np.ascontiguousarray(frames).reshape(-1, frames.shape[-2], 3)
    return cv2.LUT(flat, np.ascontiguousarray(tables.T[None])).reshape(frames.shape)


def _turned(array: np.ndarray, mirror: bool, reverse: bool) -> np.ndarray:
    array = array[:, :, ::-1] if mirror else array
    return array[::-1] if reverse else array


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
        masked_background=np.where(mask[..., None], np.uint8(0), clip.background),
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
