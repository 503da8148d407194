"""Metrics on image encoders of transformers: CLIP similarity, and three of VBench's (Huang et al. 2024).

Encoders are read from folders that the user names, by transformers and PyTorch.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from gencompositor_jax.errors import InputError, first_line

Encoder = Callable[[np.ndarray], np.ndarray]  # uint8 [T, H, W, 3] -> float32 [T, D], of length 1
Kind = Literal["clip", "dino"]

CLIP_STATISTICS = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
IMAGENET_STATISTICS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def load_encoder(folder: Path, kind: Kind) -> Encoder:
    """The image features of a CLIP model, or the class token of a ViT trained by DINO.

    Frames are resized to the model's size on their shorter side without antialiasing, as VBench does; for
    CLIP bicubic and cropped to a square, for DINO bilinear and whole.

    Raises InputError where transformers or PyTorch are missing, or the folder isn't such a model.
    """
    try:
        import torch
        import transformers
    except ImportError as error:
        raise InputError(
            f"{folder}: needs transformers and torch: pip install 'gencompositor-jax[convert,torch]'"
        ) from error
    kinds = {"clip": transformers.CLIPVisionModelWithProjection, "dino": transformers.ViTModel}
    try:
        model, report = kinds[kind].from_pretrained(folder, local_files_only=True, output_loading_info=True)
    except Exception as error:
        raise InputError(f"{folder}: isn't a {kind} model of transformers ({first_line(error)})") from error
    missing = [name for name in report["missing_keys"] if "pooler" not in name]
    if missing or report["mismatched_keys"]:
        raise InputError(f"{folder}: lacks weights of a {kind} model: {(missing or ['shapes differ'])[0]}")
    model.eval()
    side, clip = int(model.config.image_size), kind == "clip"
    options = {} if clip else {"interpolate_pos_encoding": True}

    def encode(frames: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            pixels = torch.from_numpy(prepared(frames, side, kind).transpose(0, 3, 1, 2).copy())
            out = model(pixel_values=pixels, **options)
            features = (out.image_embeds if clip else out.last_hidden_state[:, 0]).numpy()
        return features / np.linalg.norm(features, axis=1, keepdims=True)

    return encode


def prepared(frames: np.ndarray, side: int, kind: Kind) -> np.ndarray:
    """Resized, cropped for CLIP, and normalised: float32 [T, h, w, 3]."""
    height, width = frames.shape[1:3]
    scale = side / min(height, width)
    size = max(side, int(width * scale)), max(side, int(height * scale))
    rule = cv2.INTER_CUBIC if kind == "clip" else cv2.INTER_LINEAR
    out = np.stack([cv2.resize(frame, size, interpolation=rule) for frame in frames])
    if kind == "clip":
        top, left = (size[1] - side) // 2, (size[0] - side) // 2
        out = out[:, top : top + side, left : left + side]
    mean, spread = CLIP_STATISTICS if kind == "clip" else IMAGENET_STATISTICS
    result: np.ndarray = ((out / 255 - mean) / spread).astype(np.float32)
    return result


def similarity(frames: np.ndarray, target: np.ndarray, encode: Encoder) -> np.ndarray:
    """CLIP similarity: the cosine between the features of each frame and of its target, [T]."""
    return np.einsum("td,td->t", encode(frames), encode(target), dtype=np.float64)


def consistency(frames: np.ndarray, encode: Encoder) -> np.ndarray:
    """VBench's subject (DINO) and background (CLIP) consistency: [T - 1].

    The mean of the cosines with the frame before and with the first frame, each at least 0.
    """
    features = encode(frames).astype(np.float64)
    before = np.einsum("td,td->t", features[1:], features[:-1])
    first = features[1:] @ features[0]
    result: np.ndarray = (np.maximum(before, 0) + np.maximum(first, 0)) / 2
    return result


def load_aesthetic(state: Mapping[str, Any]) -> tuple[np.ndarray, float]:
    """LAION's linear aesthetic predictor: its weight [D] and bias. Raises InputError."""
    shapes = {name: np.shape(value) for name, value in state.items()}
    weight_shape = shapes.get("weight", ())
    if shapes.keys() != {"weight", "bias"} or len(weight_shape) != 2 or weight_shape[0] != 1:
        raise InputError(f"aesthetic: holds {shapes}; expected weight [1, D] and bias [1]")
    if shapes["bias"] != (1,):
        raise InputError(f"aesthetic: bias of shape {shapes['bias']}; expected [1]")
    weight, bias = (np.asarray(state[name], np.float32) for name in ("weight", "bias"))
    return weight.reshape(-1), float(bias.reshape(()))


def aesthetic_quality(frames: np.ndarray, encode: Encoder, head: tuple[np.ndarray, float]) -> np.ndarray:
    """VBench's aesthetic quality: the predictor on CLIP features, divided by 10, [T]."""
    weight, bias = head
    features = encode(frames)
    if features.shape[1] != len(weight):
        raise InputError(f"aesthetic: is for {len(weight)} features, clip-large has {features.shape[1]}")
    result: np.ndarray = (features @ weight + bias) / 10
    return result.astype(np.float64)
