"""Memory, seams and drift of clips that are longer than the network's, with the embedded model.

    python benchmarks/long_clips.py                   # all; half an hour on two idle cores
    python benchmarks/long_clips.py --only memory

Memory: the peak resident memory of `gencompositor compose` for 49, 145 and 577 frames of 640 x 360, in 4
steps, each in a process of its own. On a CPU it includes what would be on a device. Target: within 10 % of
that of 49 frames.

Seams: the mean difference of a frame to the next inside the mask, where a window begins or ends, against all
others of the clip; and against clips of one window of the same scene, at the frames where a latent frame
begins: there a network's frames change most. A scene that moves and one that is static, of 145 frames, 20
steps; of the network's own frames and of the result.

Drift: a static scene of 577 frames. The mean colour of the network's frames inside the mask: last 49 frames
against first 49, and the standard deviation over time, in 8-bit levels.

Writes benchmarks/results/long_clips.json.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import cv2  # noqa: E402
import numpy as np  # noqa: E402

from gencompositor_jax.compositor import Compositor  # noqa: E402
from gencompositor_jax.controls.media.frames import Computed  # noqa: E402
from gencompositor_jax.controls.media.video_out import write_video  # noqa: E402
from gencompositor_jax.files import atomic_write_text  # noqa: E402
from gencompositor_jax.inference.windows import window_starts  # noqa: E402

RESULTS = Path(__file__).parent / "results" / "long_clips.json"
LENGTHS = 49, 145, 577
STEPS, SEED = 20, 42
SIZE = 192, 288  # rows and columns of the clips of seams and drift


def main() -> None:
    """Measures and writes."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("memory", "seams", "drift"))
    parser.add_argument("--compose", help=argparse.SUPPRESS)  # a run of the memory's, in its own process
    args = parser.parse_args()
    if args.compose:
        peak_of(args.compose)
        return
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name, measure in (("memory", memory), ("seams", seams), ("drift", drift)):
        if args.only in (None, name):
            known[name] = measure()
            print(name, json.dumps(known[name], indent=1))
            known["machine"] = {"platform": platform.platform(), "device": "cpu"}
            atomic_write_text(RESULTS, json.dumps(known, indent=1) + "\n")


def memory() -> dict[str, Any]:
    """Peak memory in MiB by length."""
    peaks = {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_video(folder / "background.mp4", scenery(LENGTHS[-1], (360, 640), speed=2), 24.0)
        write_video(folder / "element.mp4", on_green(LENGTHS[-1]), 24.0)
        for frames in (LENGTHS[0], *LENGTHS):  # the first one fills the cache of compiled programs
            words = ["compose", "--background", "background.mp4", "--foreground", "element.mp4"]
            words += ["--key", "green", "--trajectory", "150,150 450,210", "--frames", str(frames)]
            words += ["--steps", "4", "--out", f"{frames}.mp4", "--overwrite"]
            command = [sys.executable, str(Path(__file__).absolute()), "--compose", json.dumps(words)]
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
            peaks[frames] = round(int(done.stdout.split()[-1]) / 1024)
            print(f"{frames} frames: {peaks[frames]} MiB", file=sys.stderr)
    return {
        "size": "640x360",
        "peak_mib": peaks,
        "ratio_to_49": {frames: round(peak / peaks[LENGTHS[0]], 3) for frames, peak in peaks.items()},
    }


def peak_of(words: str) -> None:
    """Runs the command; prints this process's peak in KiB."""
    from gencompositor_jax.cli import main as command

    code = command(json.loads(words))
    if code:
        raise SystemExit(code)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


def seams() -> dict[str, Any]:
    """Frame differences at seams and elsewhere."""
    compositor, frames = Compositor.load(), LENGTHS[1]
    arch = compositor.arch
    size, factor, own = arch.latent_shape[0], arch.codec.time_factor, arch.frames
    latents = (frames - 1) // factor + 1
    starts = window_starts(latents, size)
    changes = {s for s in starts if s} | {s + size for s in starts if s + size < latents}
    found: dict[str, Any] = {"frames": frames, "windows": len(starts), "seams": len(changes)}
    for name, speed, path in (("moving", 2, [(60.0, 80.0), (220.0, 120.0)]), ("static", 0, [(140.0, 96.0)])):
        background, element = np.asarray(scenery(frames, SIZE, speed)), disc(frames)
        whole = differences(compositor, background, element, path, SEED)
        firsts = range(0, frames - own + 1, own)
        clips = [
            differences(
                compositor,
                background[first : first + own],
                element[first : first + own],
                along(path, first, first + own, frames),
                SEED + first,
            )
            for first in firsts
        ]
        found[name] = {}
        for kind in whole:
            at = np.zeros(frames - 1, bool)  # from a frame to the next one, the first of a latent frame
            at[[factor * (latent - 1) for latent in changes]] = True
            there, elsewhere = whole[kind][at], whole[kind][~at]
            single = np.concatenate([clip[kind][::factor] for clip in clips])
            found[name][kind] = {
                "at_seams": spread(there),
                "elsewhere": spread(elsewhere),
                "latent_frames_of_one_window": spread(single),
            }
    return found


def spread(values: np.ndarray) -> dict[str, float]:
    """Median and 95th percentile, in levels."""
    return {
        "median": round(float(np.median(values)), 3),
        "95th_percentile": round(float(np.percentile(values, 95)), 3),
    }


def differences(
    compositor: Compositor, background: np.ndarray, element: np.ndarray, path: Any, seed: int
) -> dict[str, np.ndarray]:
    """Mean differences of successive frames inside the mask [T - 1], of the network and of the result."""
    composite = compositor.compose(
        background, element, path, frames=len(background), seed=seed, steps=STEPS, framing="whole"
    )
    found: dict[str, list[float]] = {"network": [], "result": []}
    mask = np.asarray(composite.mask)
    for name, video in (("network", composite.raw), ("result", composite.frames)):
        before: np.ndarray | None = None
        for t, frame in enumerate(video):
            frame = frame.astype(np.float32)
            if before is not None:
                inside = mask[t] & mask[t - 1]
                if inside.shape != frame.shape[:2]:
                    inside = cv2.resize(inside.astype(np.uint8), frame.shape[1::-1]) > 0
                found[name].append(float(np.abs(frame - before)[inside].mean()))
            before = frame
    return {name: np.array(values) for name, values in found.items()}


def drift() -> dict[str, Any]:
    """Mean colour over time in a static scene, in levels: of the network's frames and of the result's."""
    compositor, frames = Compositor.load(), LENGTHS[2]
    composite = compositor.compose(
        np.asarray(scenery(frames, SIZE, 0)),
        disc(frames),
        [(140.0, 96.0)],
        frames=frames,
        seed=SEED,
        framing="whole",
    )
    found: dict[str, Any] = {"frames": frames}
    mask = np.asarray(composite.mask)[0]
    small = cv2.resize(mask.astype(np.uint8), composite.raw.shape[2:0:-1]) > 0
    for name, video, inside in (("network", composite.raw, small), ("result", composite.frames, mask)):
        colours = np.array([frame[inside].mean(axis=0) for frame in video])
        step = LENGTHS[0]
        found[name] = {
            "last_to_first": round(float(np.abs(colours[-step:].mean(0) - colours[:step].mean(0)).max()), 3),
            "deviation_over_time": round(float(colours.std(axis=0).max()), 3),
        }
    return found


def along(path: list[tuple[float, float]], first: int, stop: int, frames: int) -> Any:
    """A straight path's part in some of its frames."""
    ends = np.array(path if len(path) > 1 else path * 2)
    return [tuple(ends[0] + (ends[1] - ends[0]) * t / (frames - 1)) for t in (first, stop - 1)]


def scenery(frames: int, size: tuple[int, int], speed: float) -> Computed:
    """A textured scene that a camera pans over, `speed` pixels per frame."""
    rows, columns = size
    rng = np.random.default_rng(3)
    coarse = rng.uniform(40, 220, (rows // 32 + 2, (columns + int(speed * frames)) // 32 + 2, 3))
    width = columns + int(speed * frames)
    wide = cv2.resize(coarse.astype(np.float32), (width, rows), interpolation=cv2.INTER_CUBIC)
    wide = np.clip(wide + 6 * rng.standard_normal(wide.shape), 0, 255).astype(np.uint8)

    def make(first: int, stop: int) -> np.ndarray:
        return np.stack([wide[:, round(speed * t) : round(speed * t) + columns] for t in range(first, stop)])

    return Computed((frames, rows, columns, 3), make)


def disc(frames: int, side: int = 64) -> np.ndarray:
    """A striped disc, uint8 RGBA [T, side, side, 4]."""
    y, x = np.mgrid[:side, :side]
    rgba = np.empty((frames, side, side, 4), np.uint8)
    rgba[..., 0] = np.where(x // 8 % 2, 200, 90)
    rgba[..., 1], rgba[..., 2] = 80, 60 + 2 * y
    rgba[..., 3] = 255 * (np.hypot(x - side / 2 + 0.5, y - side / 2 + 0.5) < side / 2 - 2)
    return rgba


def on_green(frames: int) -> Computed:
    """A large disc on a green screen, 320 x 180."""
    rgba = disc(1, 120)[0]
    picture = np.full((180, 320, 3), (20, 200, 40), np.uint8)
    inside = rgba[..., 3] > 0
    picture[30:150, 100:220][inside] = rgba[..., :3][inside]
    return Computed((frames, 180, 320, 3), lambda first, stop: np.repeat(picture[None], stop - first, axis=0))


if __name__ == "__main__":
    main()
