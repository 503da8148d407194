"""The held-out protocol at a plate's size: clips larger than the model's frames, through all of `compose`.

    report = run(clips=64, factor=8, out="plate.json")

Clips, regions, baselines and scores are those of `heldout`, with three differences. A clip is rendered
`factor` times as large as the model's frames. Its element goes through the input transformation as a user's
would, so no mask is jittered. Regions are found at the model's size and enlarged. Two measures are added,
both over the silhouette and relative to the ground truth's, so 1 is right:

    gradient_energy  of the luma: below 1 is blurred
    flicker          root mean square of what changes from frame to frame: above 1 is unsteady
"""

import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import tqdm

from gencompositor_jax import checkpoints
from gencompositor_jax.arch import ModelArch
from gencompositor_jax.checkpoints import Model
from gencompositor_jax.controls import shot as shots
from gencompositor_jax.controls.element.element import Element
from gencompositor_jax.controls.geometry.detail import Detail
from gencompositor_jax.controls.geometry.paste_back import native_mask
from gencompositor_jax.controls.geometry.placement import paste_over
from gencompositor_jax.controls.geometry.trajectory import from_points
from gencompositor_jax.controls.geometry.view import make_view, mask_to_model
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.controls.shot import ElementLayer, Shot
from gencompositor_jax.data_pipelines.benchmark import CLIPS
from gencompositor_jax.data_pipelines.examples import held_out_rng, in_other_light, ring
from gencompositor_jax.data_pipelines.procedural import HELD_OUT_SEED, ProceduralClip, make_clip
from gencompositor_jax.errors import InputError
from gencompositor_jax.evaluation import heldout
from gencompositor_jax.evaluation.heldout import ALONE, BATCH, MODEL, Composites
from gencompositor_jax.files import check_output_file
from gencompositor_jax.inference.pipeline import generate
from gencompositor_jax.masks.inflation import inflate

MAX_FACTOR = 16
LUMA = np.array([0.2126, 0.7152, 0.0722], np.float32)  # BT.709


def run(
    checkpoint: str | os.PathLike[str] | None = None,
    *,
    clips: int = 64,
    factor: int = 8,
    options: SamplingOptions = SamplingOptions(),  # noqa: B008 (frozen)
    out: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Load a checkpoint (None: the embedded model) and evaluate it; `gencompositor evaluate --plate FACTOR`.

    The arguments are those of `heldout.run`; factor: of the clips' sides, 1 to 16. Returns the report, whose
    keys are those of `heldout.run` and `gradient_energy` and `flicker`, {method: {"median", "mean"}}.
    """
    if not 1 <= clips <= CLIPS:
        raise InputError(f"--clips {clips}: pass 1 to {CLIPS}, the clips of the benchmark")
    if not 1 <= factor <= MAX_FACTOR:
        raise InputError(f"--plate {factor}: pass a whole number from 1 to {MAX_FACTOR}")
    if out is not None:
        check_output_file(out, overwrite, "--out")
    dtype = jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16
    model = checkpoints.load(checkpoints.packaged() if checkpoint is None else Path(checkpoint), dtype)
    report = evaluate(model, options, clips=clips, factor=factor)
    report["checkpoint"] = "embedded" if checkpoint is None else os.fspath(checkpoint)
    if out is not None:
        heldout.write_json(Path(out), report)
    return report


def evaluate(model: Model, options: SamplingOptions, *, clips: int, factor: int) -> dict[str, Any]:
    """Score a loaded model and the baselines; see `run`. The same arguments give the same report."""
    arch, scores = model.arch, []
    steps, solver = options.schedule(arch.diffusion)
    measures: dict[str, dict[str, list[float]]] = {"gradient_energy": {}, "flicker": {}}
    with tqdm.tqdm(total=clips, desc=f"held-out clips, {factor} times as large", unit="clip") as bar:
        for first in range(0, clips, BATCH):
            numbers = range(first, min(first + BATCH, clips))
            clip_of = {n: plate_clip(n, arch, factor) for n in numbers}
            shot_of = {n: shot(clip, n, arch) for n, clip in clip_of.items()}
            inputs = [
                shots.conditions(shot_of[n], shots.shown(shot_of[n], clip_of[n].background), arch)
                for n in numbers
            ]
            stacked = jax.tree.map(lambda *parts: np.stack(parts), *inputs)
            generated = generate(model, stacked, numbers, options, size=min(BATCH, clips))
            for n, condition, frames in zip(numbers, inputs, generated, strict=True):
                clip = clip_of[n]
                where = regions(clip, arch)
                inside = condition.mask[..., 0] > 0
                made = composites(clip, shot_of[n], frames, inside, where, arch, options)
                scores.append(heldout.score(made, clip.target, where))
                for method, composite in made.items():
                    for name, measure in (("gradient_energy", gradient_energy), ("flicker", flicker)):
                        truth = measure(clip.target, where["silhouette"])
                        ratio = measure(composite, where["silhouette"]) / truth
                        measures[name].setdefault(method, []).append(ratio)
                bar.update()
    return {
        **heldout.summary(scores),
        **{
            name: {m: {"median": _rounded(np.median(v)), "mean": _rounded(np.mean(v))} for m, v in by.items()}
            for name, by in measures.items()
        },
        "protocol": {
            "clips": clips,
            "first_seed": HELD_OUT_SEED,
            "frames": arch.frames,
            "height": factor * arch.height,
            "width": factor * arch.width,
            "model_height": arch.height,
            "model_width": arch.width,
            "steps": steps,
            "solver": solver,
            "seed": options.seed,
            "detail": options.detail,
        },
        "device": jax.devices()[0].device_kind,
    }


def plate_clip(number: int, arch: ModelArch, factor: int) -> ProceduralClip:
    """Clip number 0, 1, ... of the protocol, `factor` times as large as the model's frames."""
    return make_clip(HELD_OUT_SEED + number, arch.frames, factor * arch.height, factor * arch.width)


def shot(clip: ProceduralClip, number: int, arch: ModelArch) -> Shot:
    """A clip's element, in another light, placed over its background as `compose` does."""
    trajectory = from_points(clip.xy, timing="frames")
    element = Element(in_other_light(clip.element, held_out_rng(number)), f"clip {number}")
    layer = ElementLayer(element, trajectory, tuple(clip.scale.tolist()), tuple(clip.rotation.tolist()))
    return shots.element_shot(layer, clip.background, arch, "auto")


def regions(clip: ProceduralClip, arch: ModelArch) -> dict[str, np.ndarray]:
    """The regions by name, each bool [T, H, W]; found at the model's size, but for the silhouette."""
    silhouette = clip.silhouette
    view = make_view(silhouette.shape[1:], (arch.height, arch.width))
    target = inflate(mask_to_model(silhouette, view), arch.inflation)
    around = ring(target)
    enlarged = (np.stack([native_mask(frame, view) for frame in mask]) for mask in (target, target | around))
    inner, outer = enlarged
    return {"target": inner, "ring": outer & ~inner, "silhouette": silhouette}


def composites(
    clip: ProceduralClip,
    placed: Shot,
    generated: np.ndarray,
    inside: np.ndarray,
    where: dict[str, np.ndarray],
    arch: ModelArch,
    options: SamplingOptions,
) -> Composites:
    """The baselines, MODEL and ALONE, from the network's frames, uint8 [T, h, w, 3], generated `inside`."""
    pasted = shots.plain_paste(placed, clip.background.shape[1:3])
    assert pasted is not None  # it has an element
    paste = paste_over(clip.background, pasted)
    example = {"background": clip.background, "target": clip.target, "paste": paste, "placed": pasted}

    def put_back(detail: Detail) -> np.ndarray:
        feather = options.feather
        return shots.put_back(placed, clip.background, generated, inside, arch, feather, detail).frames

    baselines = heldout.baseline_composites(example, where)
    return {**baselines, ALONE: put_back("model"), MODEL: put_back(options.detail)}


def gradient_energy(frames: np.ndarray, region: np.ndarray) -> float:
    """Mean squared gradient of the luma of uint8 [T, H, W, 3] in a region, bool [T, H, W]."""
    luma: np.ndarray = frames @ LUMA
    down, right = np.gradient(luma, axis=(1, 2))
    return float((down**2 + right**2)[region].mean())


def flicker(frames: np.ndarray, region: np.ndarray) -> float:
    """Root mean square of the differences between successive frames, uint8 [T, H, W, 3], where a region, bool
    [T, H, W], covers both.
    """
    both, change = region[1:] & region[:-1], frames[1:].astype(np.float32) - frames[:-1]
    return float(np.sqrt(np.mean(change[both] ** 2)))


def _rounded(value: Any) -> float:
    return round(float(value), 3)
