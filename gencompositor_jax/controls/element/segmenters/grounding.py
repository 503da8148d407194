"""Grounding DINO: the box of what some words describe.

Liu et al., Grounding DINO: Marrying DINO with grounded pre-training for open-set object detection, 2023,
arXiv 2303.05499; run by transformers.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gencompositor_jax.controls.element.segmenters.request import Box
from gencompositor_jax.controls.media.frames import Frames

THRESHOLD = 0.3  # of a box's score, 0 to 1
_LOOKS = 8  # frames, spread over the clip, in which the element is looked for


class Detector(NamedTuple):
    """The model, and what makes its inputs."""

    model: Any
    pictures: Any
    tokens: Any


class Found(NamedTuple):
    """What the words describe."""

    frame: int
    box: Box
    score: float
    others: int  # boxes besides in the same frame


def load(folder: Path) -> Detector:
    """The detector of a folder, on a GPU if PyTorch has one."""
    import torch
    from transformers import AutoTokenizer, GroundingDinoForObjectDetection, GroundingDinoImageProcessorPil

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Detector(
        GroundingDinoForObjectDetection.from_pretrained(folder, local_files_only=True).to(device).eval(),
        GroundingDinoImageProcessorPil.from_pretrained(folder, local_files_only=True),
        AutoTokenizer.from_pretrained(folder, local_files_only=True),
    )


def find(detector: Detector, frames: Frames, words: str) -> Found | None:
    """The best box in the first of some frames, uint8 RGB [T, H, W, 3], that has one; None if none has."""
    height, width = frames.shape[1:3]
    for t in np.unique(np.linspace(0, len(frames) - 1, _LOOKS).astype(int)):
        scores, boxes = _boxes(detector, frames[int(t)], words)
        good = scores > THRESHOLD
        if good.any():
            best = int(scores.argmax())
            centre, extent = boxes[best, :2], boxes[best, 2:]
            corners = np.concatenate([centre - extent / 2, centre + extent / 2])
            left, top, right, bottom = corners.clip(0, 1) * (width, height, width, height)
            box = Box(float(left), float(top), float(right), float(bottom))
            return Found(int(t), box, float(scores[best]), _separate(boxes[good], boxes[best]))
    return None


def _boxes(detector: Detector, frame: np.ndarray, words: str) -> tuple[np.ndarray, np.ndarray]:
    """Scores [n], and boxes [n, 4]: centre and extent in relative coordinates."""
    import torch

    pictures = detector.pictures(images=frame, return_tensors="pt")
    text = detector.tokens(words.lower().rstrip(". ") + ".", return_tensors="pt")  # as in its training
    inputs = {name: value.to(detector.model.device) for name, value in {**pictures, **text}.items()}
    with torch.inference_mode():
        answer = detector.model(**inputs)
    scores = answer.logits.sigmoid().amax(-1)[0]
    return scores.float().cpu().numpy(), answer.pred_boxes[0].float().cpu().numpy()


def _separate(boxes: np.ndarray, best: np.ndarray) -> int:
    """How many boxes [n, 4] are beside the best one: their centres are outside it."""
    away = np.abs(boxes[:, :2] - best[:2]) > best[2:] / 2
    return int(away.any(axis=1).sum())
