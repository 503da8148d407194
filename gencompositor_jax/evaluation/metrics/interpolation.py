"""VBench's motion smoothness (Huang et al. 2024): how well frame interpolation predicts every second frame.

With I(a, b) the frame between two frames, by the network AMT-S (Li et al. 2023), and frames t odd,

    smoothness = 1 - mean |frame_t - I(frame_t-1, frame_t+1)| / 255

The network is that of the package `vbench`, which the user installs: its licence allows no commercial use, so
there is no copy here.
"""

import importlib
import importlib.machinery
import importlib.util
import sys
import types
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gencompositor_jax.errors import InputError, first_line

Between = Callable[[np.ndarray, np.ndarray], np.ndarray]  # two uint8 [H, W, 3] -> uint8 [H, W, 3]

PACKAGE, NETWORK = "vbench", "vbench.third_party.amt.networks.AMT-S"
MULTIPLE = 16  # pixels: sides are padded to it
MIN_SIDE = 113  # padded to 128; on smaller frames its coarsest correlations divide by zero


def installed() -> bool:
    """Whether the package is there; runs none of it."""
    return importlib.util.find_spec(PACKAGE) is not None


def load_between(state: Mapping[str, np.ndarray]) -> Between:
    """The frame between two frames, by AMT-S with its weights, on the CPU.

    Raises InputError where PyTorch is missing, or the weights aren't the network's.
    """
    try:
        import torch
    except ImportError as error:
        raise InputError("amt: needs torch: pip install 'gencompositor-jax[torch]'") from error
    model = _network()
    try:
        model.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in state.items()})
    except (RuntimeError, TypeError) as error:
        raise InputError(f"amt: isn't the weights of AMT-S ({first_line(error)})") from error
    model.eval()
    middle = torch.full((1, 1, 1, 1), 0.5)

    def between(first: np.ndarray, second: np.ndarray) -> np.ndarray:
        height, width = first.shape[:2]
        top, left = _before(height), _before(width)
        padded = (_padded(frame).transpose(2, 0, 1)[None] for frame in (first, second))
        pair = [torch.from_numpy(frame / np.float32(255)) for frame in padded]
        with torch.inference_mode():
            found = model(*pair, middle, scale_factor=1.0, eval=True)["imgt_pred"]
        pixels = (255 * found[0]).clamp(0, 255).byte().numpy().transpose(1, 2, 0)  # truncated, as by VBench
        return np.asarray(pixels[top : top + height, left : left + width])

    return between


def motion_smoothness(frames: np.ndarray, between: Between) -> np.ndarray:
    """Of uint8 [T, H, W, 3], a value for each odd frame that has a frame on both sides; 1 is smooth.

    NaN for fewer than 3 frames, or frames of fewer than 113 pixels on a side.
    """
    if len(frames) < 3 or min(frames.shape[1:3]) < MIN_SIDE:
        return np.array([np.nan])
    middles = range(1, len(frames) - 1, 2)
    errors = [
        np.abs(frames[t].astype(np.int16) - between(frames[t - 1], frames[t + 1])).mean() for t in middles
    ]
    result: np.ndarray = 1 - np.array(errors) / 255
    return result


def _network() -> Any:
    """The package's module, without running the package's own __init__, which needs all of its dependencies
    (among them NumPy 1 and an old transformers).
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or spec.submodule_search_locations is None:
        raise InputError(f"amt: needs the package {PACKAGE}: pip install --no-deps {PACKAGE}")
    before = {name: module for name, module in sys.modules.items() if name.partition(".")[0] == PACKAGE}
    bare = types.ModuleType(PACKAGE)
    bare.__path__ = list(spec.submodule_search_locations)
    try:
        for name in before:
            del sys.modules[name]
        sys.modules[PACKAGE] = bare
        return importlib.import_module(NETWORK).Model()
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"{PACKAGE}: its AMT-S can't be imported ({first_line(error)}): install it again"
        ) from error
    finally:
        for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
            del sys.modules[name]
        sys.modules.update(before)


def _before(side: int) -> int:
    return -side % MULTIPLE // 2


def _padded(frame: np.ndarray) -> np.ndarray:
    """Sides that the network takes, the border repeated."""
    sides = [(_before(side), -side % MULTIPLE - _before(side)) for side in frame.shape[:2]]
    return np.pad(frame, (*sides, (0, 0)), mode="edge")
