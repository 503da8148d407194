"""Sound inputs, which the calls of `tests.doors.calls` break in one place: small, written once."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

FRAMES, HEIGHT, WIDTH = 5, 32, 48
T5 = {
    "num_layers": 1,
    "num_heads": 2,
    "d_kv": 4,
    "d_model": 24,
    "d_ff": 8,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 16,
    "feed_forward_proj": "gated-gelu",
    "layer_norm_epsilon": 1e-6,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
CAPTION = "a red ball rolls over a green meadow, from left to right"
SCENE = {
    "version": 1,
    "background": {"path": "background", "start": 0, "end": 4.5, "fps": 24},
    "frames": 5,
    "layers": [
        {
            "foreground": "element.png",
            "key": "alpha",
            "mask": None,
            "extend": "hold",
            "trajectory": {
                "keyframes": [
                    {"x": 10, "y": 12, "time": 0, "scale": 1, "rotation": 0},
                    {"x": 30, "y": 16, "time": 1},
                ],
                "relative": False,
                "timing": "time",
                "track": False,
            },
            "scales": [1, 1.5],
            "rotations": [0, 90],
            "anchor": "center",
        }
    ],
    "checkpoint": None,
    "seed": 1,
    "steps": 4,
    "solver": "dpm",
    "framing": "whole",
    "feather": 2,
    "paste_back": True,
    "detail": "auto",
    "prompt": None,
    "guidance": 6,
    "fast": None,
    "weights": None,
    "tiles": None,
    "sigma": 2,
    "tau": 0.1,
    "latent_mask": None,
}
DATASET = {
    "kind": "gencompositor clips",
    "version": 1,
    "settings": {"frames": 5, "height": 32, "width": 48, "fps": 8.0, "quality": 90, "clips_per_shard": 128},
    "inputs": "0",
    "moments_of": None,
    "clips": 1,
    "shards": [{"file": "clips-00000-of-00001.arrayrecord", "clips": 1, "bytes": 0}],
    "broken": [],
}

NUKE = """Transform {
 translate {{curve x0 12 x4 20 s1.5} {curve L x0 3 x4 9}}
 rotate {{curve K x0 0 30}}
 scale {{curve 1 1.5}}
 center {4 4}
 name Transform1
}
"""
AFTER_EFFECTS = """Adobe After Effects 8.0 Keyframe Data

\tUnits Per Second\t24

Transform\tPosition
\tFrame\tX pixels\tY pixels\tZ pixels\t
\t0\t12\t1.5\t0\t
\t4\t20\t9\t0\t

End of Keyframe Data
"""


def write(folder: Path) -> None:
    """Write checkpoint/, release/, background/, element.png, mask.png and scene.json into a folder."""
    from benchmarks.convert import small_release, write_release

    write_release(folder / "release", small_release(), shard_bytes=120_000)
    stack = small_release().backbone
    np.save(folder / "null.npy", np.zeros((stack.text_tokens, stack.text_dim), np.float32))
    _write_encoder(folder / "release" / "text_encoder")
    _write_checkpoint(folder / "checkpoint")
    rng = np.random.default_rng(0)
    (folder / "background").mkdir()
    for i in range(FRAMES):
        Image.fromarray(rng.integers(0, 255, (HEIGHT, WIDTH, 3), np.uint8)).save(
            folder / "background" / f"{i}.png"
        )
    element = np.full((12, 12, 4), (200, 40, 40, 0), np.uint8)
    element[2:10, 2:10, 3] = 255
    Image.fromarray(element).save(folder / "element.png")
    mask = np.zeros((HEIGHT, WIDTH), np.uint8)
    mask[8:20, 10:30] = 255
    Image.fromarray(mask).save(folder / "mask.png")
    (folder / "scene.json").write_text(json.dumps(SCENE))


def _write_checkpoint(folder: Path) -> None:
    import jax

    from gencompositor_jax import arch, checkpoints

    tiny = arch.tiny()
    stack = dataclasses.replace(tiny.backbone, num_layers=2, num_heads=1, head_dim=16, time_embed_dim=16)
    small = dataclasses.replace(
        tiny,
        frames=FRAMES,
        height=HEIGHT,
        width=WIDTH,
        base_grid=(4, 6),
        backbone=stack,
        branch=dataclasses.replace(stack, num_layers=1),
    )
    arrays = jax.tree.map(lambda leaf: np.zeros(leaf.shape, leaf.dtype), checkpoints.array_shapes(small))
    checkpoints.save(folder, checkpoints.Model(small, arrays, {"step": 1}))


def _write_encoder(folder: Path) -> None:
    from gencompositor_jax.conversion import safetensors_io
    from gencompositor_jax.conversion.safetensors_io import Tensor

    width, inner, hidden = T5["d_model"], T5["num_heads"] * T5["d_kv"], T5["d_ff"]
    attention, feed = "encoder.block.0.layer.0.", "encoder.block.0.layer.1."
    shapes: dict[str, tuple[int, ...]] = {
        "shared.weight": (8, width),
        f"{attention}layer_norm.weight": (width,),
        f"{attention}SelfAttention.relative_attention_bias.weight": (8, 2),
        **{f"{attention}SelfAttention.{each}.weight": (inner, width) for each in "qkv"},
        f"{attention}SelfAttention.o.weight": (width, inner),
        f"{feed}layer_norm.weight": (width,),
        **{f"{feed}DenseReluDense.{each}.weight": (hidden, width) for each in ("wi_0", "wi_1")},
        f"{feed}DenseReluDense.wo.weight": (width, hidden),
        "encoder.final_layer_norm.weight": (width,),
    }
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(T5))
    tensors = {name: Tensor(shape, np.dtype(np.float32)) for name, shape in shapes.items()}
    arrays: list[Any] = [np.zeros(shape, np.float32) for shape in shapes.values()]
    safetensors_io.write(folder / "model.safetensors", tensors, arrays)
