"""SAM 2: the object at a point or in a box of one frame, followed through the clip by its memory.

Ravi et al., SAM 2: Segment anything in images and videos, 2024, arXiv 2408.00714; run by transformers.
"""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from gencompositor_jax.controls.element.segmenters.request import Box, Point
from gencompositor_jax.controls.media.frames import Frames

_MEAN, _STD = np.array(((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)), np.float32)  # of ImageNet
_INSIDE, _TOP_LEFT, _BOTTOM_RIGHT = 1, 2, 3  # labels of points
_OBJECT = 1


def load(folder: Path) -> Any:
    """The model of a folder, on a GPU if PyTorch has one."""
    import torch
    from transformers import Sam2VideoModel

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return Sam2VideoModel.from_pretrained(folder, local_files_only=True).to(device).eval()


def followed(
    model: Any, frames: Frames, request: Point | Box, size: tuple[int, int], first: int = 0
) -> np.ndarray:
    """Probabilities 0..255, uint8 [T, h, w] with (h, w) = size, of uint8 RGB frames [T, H, W, 3].

    request: in pixels of frame `first`, from which the object is followed to both ends.
    """
    from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

    count, height, width = frames.shape[:3]
    out = np.zeros((count, *size), np.uint8)
    for reverse, order in ((False, range(first, count)), (True, range(first, -1, -1))):
        if reverse and first == 0:
            break
        session = Sam2VideoInferenceSession(
            video_height=height, video_width=width, inference_device=model.device, dtype=model.dtype
        )
        for t in order:
            if t == first:
                _ask(session, model, request, t)
            answer = model(session, frame_idx=t, frame=_pixels(model, frames[t]), reverse=reverse)
            _forget(session, t + 1 if reverse else t - 1, t, model.config.max_object_pointers_in_encoder)
            logits = answer.pred_masks[0, 0].float().cpu().numpy().astype(np.float64)
            probability = (1 / (1 + np.exp(-logits.clip(-30, 30)))).astype(np.float32)
            out[t] = np.rint(255 * cv2.resize(probability, size[::-1], interpolation=cv2.INTER_LINEAR))
    return out


def _pixels(model: Any, frame: np.ndarray) -> Any:
    import torch

    side = model.config.prompt_encoder_config.image_size
    shown = cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA).astype(np.float32) / 255
    return torch.from_numpy(((shown - _MEAN) / _STD).transpose(2, 0, 1)[None].copy())


def _ask(session: Any, model: Any, request: Point | Box, frame: int) -> None:
    """Gives the session its object: points in pixels of the model's square input."""
    import torch

    if isinstance(request, Point):
        points, labels = [(request.x, request.y)], [_INSIDE]
    else:
        points = [(request.left, request.top), (request.right, request.bottom)]
        labels = [_TOP_LEFT, _BOTTOM_RIGHT]
    side = model.config.prompt_encoder_config.image_size
    scale = torch.tensor([side / session.video_width, side / session.video_height])
    inputs = {
        "point_coords": (torch.tensor(points, dtype=torch.float32) * scale)[None, None],
        "point_labels": torch.tensor(labels, dtype=torch.int32)[None, None],
    }
    session.add_point_inputs(session.obj_id_to_idx(_OBJECT), frame, inputs)
    session.obj_with_new_inputs = [_OBJECT]


def _forget(session: Any, last: int, now: int, kept: int) -> None:
    """Drops what the model looks at no more, so that long clips don't fill the memory."""
    session.processed_frames.pop(last, None)
    outputs = session.output_dict_per_obj[session.obj_id_to_idx(_OBJECT)]["non_cond_frame_outputs"]
    for t in [t for t in outputs if abs(t - now) > kept]:
        del outputs[t]
