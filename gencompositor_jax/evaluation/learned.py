"""The metrics that need weights: loaded where they are, else one line that says what is missing."""

from collections.abc import Callable, Collection
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np

from gencompositor_jax.conversion.safetensors_io import SafetensorsFile
from gencompositor_jax.errors import InputError, within
from gencompositor_jax.evaluation.measures import Better, Measure, Needs, over_frames
from gencompositor_jax.evaluation.metrics import i3d, interpolation, vision
from gencompositor_jax.evaluation.metrics import lpips as perceptual
from gencompositor_jax.evaluation.pickles import read_arrays
from gencompositor_jax.evaluation.weights import Absent, given, packaged

Paths = dict[str, Path]
Features = Callable[[list[np.ndarray]], np.ndarray]  # clips uint8 [T, H, W, 3] -> [N, D]

SETS: dict[str, tuple[str, Better, int]] = {
    "fvd": ("FVD", "lower", 2),
    "fvd_infinity": ("FVD∞", "lower", 2),
    "kvd": ("KVD", "lower", 3),
}


class Learned(NamedTuple):
    """What could be loaded: metrics of clips, features of sets of clips, and why others are absent."""

    measures: dict[str, Measure]
    features: Features | None
    absent: dict[str, str]


def load(names: Collection[str], paths: Paths) -> Learned:
    """The metrics of `names` whose weights are there.

    paths: of weights, see `weights.GIVEN`. Raises InputError for weights that are there and can't be used.
    """
    measures: dict[str, Measure] = {}
    absent: dict[str, str] = {}
    features: Features | None = None
    for name in (name for name in LOADERS if name in names):
        try:
            measures[name] = LOADERS[name](paths)
        except Absent as error:
            absent[name] = str(error)
    if set(SETS) & set(names):
        try:
            weights = read_arrays(packaged("i3d"))
            i3d.check_weights(weights)
            features = partial(i3d.logits, weights=weights)
        except Absent as error:
            absent |= {name: str(error) for name in SETS if name in names}
    return Learned(measures, features, absent)


def _perceptual(net: str, label: str, tolerant: bool) -> Callable[[Paths], Measure]:
    def build(paths: Paths) -> Measure:
        heads = read_arrays(packaged(f"{'st' if tolerant else ''}lpips-{net}"))
        trunk = heads if tolerant else _state(given(paths, net))
        with within("packaged" if tolerant else f"--weights {net}={paths[net]}"):
            weights = perceptual.make_weights(trunk, heads, net)
        network = perceptual.NETWORKS[net][tolerant]
        distance = partial(perceptual.lpips, weights=weights, network=network)
        lacks = f"needs frames of {perceptual.LEAST} pixels or more on each side"
        compute = over_frames(distance, "target")
        return Measure(label, "lower", 4, compute, ("target",), lacks, perceptual.LEAST)

    return build


def _vision(
    label: str, function: Callable[..., np.ndarray], encoder: str, *needs: Needs
) -> Callable[[Paths], Measure]:
    def build(paths: Paths) -> Measure:
        encode = vision.load_encoder(given(paths, encoder), "dino" if encoder == "dino" else "clip")
        return Measure(label, "higher", 4, over_frames(partial(function, encode=encode), *needs), needs)

    return build


def _aesthetic(paths: Paths) -> Measure:
    head = vision.load_aesthetic(_state(given(paths, "aesthetic")))
    encode = vision.load_encoder(given(paths, "clip-large"), "clip")
    quality = partial(vision.aesthetic_quality, encode=encode, head=head)
    return Measure("aesthetic quality", "higher", 4, over_frames(quality))


def _smoothness(paths: Paths) -> Measure:
    if not interpolation.installed():
        raise Absent(
            "its network is in the package vbench: pip install --no-deps vbench, and pass --weights amt=PATH"
        )
    between = interpolation.load_between(_state(given(paths, "amt")))
    smoothness = partial(interpolation.motion_smoothness, between=between)
    return Measure(
        "motion smoothness",
        "higher",
        4,
        over_frames(smoothness),
        lacks="needs 3 frames or more, of 113 pixels or more",
    )


def _state(path: Path) -> dict[str, np.ndarray]:
    """Tensors of a .safetensors file, or of one of `torch.save`."""
    if path.suffix == ".safetensors":
        return dict(SafetensorsFile(path).stream(lambda _: None))
    content = read_arrays(path)
    state = content.get("state_dict", content)
    if not isinstance(state, dict):
        raise InputError(f"{path}: its state_dict is a {type(state).__name__}; a dictionary is expected")
    return dict(state)


LOADERS: dict[str, Callable[[Paths], Measure]] = {
    "lpips": _perceptual("alexnet", "LPIPS", False),
    "lpips_vgg16": _perceptual("vgg16", "LPIPS on VGG", False),
    "st_lpips": _perceptual("alexnet", "ST-LPIPS", True),
    "st_lpips_vgg16": _perceptual("vgg16", "ST-LPIPS on VGG", True),
    "clip_similarity": _vision("CLIP similarity", vision.similarity, "clip", "target"),
    "subject_consistency": _vision("subject consistency", vision.consistency, "dino"),
    "background_consistency": _vision("background consistency", vision.consistency, "clip"),
    "aesthetic_quality": _aesthetic,
    "motion_smoothness": _smoothness,
}
NAMES = (*LOADERS, *SETS)
COMPARED = ("lpips", "lpips_vgg16", "st_lpips", "st_lpips_vgg16", "clip_similarity")  # need a ground truth
