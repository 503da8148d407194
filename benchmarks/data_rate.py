"""Training examples per second at 49 x 480 x 720, on two cores, from three storage formats of the same clips.

    python benchmarks/data_rate.py --work /scratch/data_rate

makes a VideoComp folder of moving, grainy textures (24 frames per second, 480 x 720), builds ArrayRecord from
it, and reads both with `data_pipelines.pipeline.batches`, as training does, with the paper's augmentation:

    ffmpeg         a simple loader: each video of a sample (target, foreground, mask, masked video) is decoded
                   whole by an ffmpeg process and read through a pipe
    videocomp      this package's reader of the same files
    arrayrecord    this package's reader of the records

in turn, each round in a process of its own, pinned to the same two cores. Writes rates, CPU seconds (which
depend less on other load), medians and ratios to benchmarks/results/data_rate.json. Takes two minutes and
200 MB. ffmpeg is the one on the PATH, or that of the package imageio-ffmpeg.
"""

import argparse
import importlib
import json
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT)]

from gencompositor_jax.arch import ModelArch  # noqa: E402
from gencompositor_jax.data_pipelines import videocomp  # noqa: E402
from gencompositor_jax.data_pipelines.augmentation import Augmentation  # noqa: E402
from gencompositor_jax.data_pipelines.build import Settings, build, inputs_of  # noqa: E402
from gencompositor_jax.data_pipelines.foreground_fit import fit_foreground  # noqa: E402
from gencompositor_jax.data_pipelines.pipeline import batches  # noqa: E402
from gencompositor_jax.data_pipelines.records import ArrayRecordSource  # noqa: E402
from gencompositor_jax.data_pipelines.source import ClipArrays, ClipSource  # noqa: E402
from gencompositor_jax.data_pipelines.videocomp import (  # noqa: E402
    BACKGROUND,
    FOREGROUND,
    MASK,
    MASKED,
    TARGET,
    VideoCompSource,
)
from gencompositor_jax.data_pipelines.workers import in_order  # noqa: E402
from gencompositor_jax.files import atomic_write_text  # noqa: E402
from tests.data_pipelines.videocomp_folder import make_folder  # noqa: E402

METHODS = ("ffmpeg", "videocomp", "arrayrecord")
CORES = 2
ARCH = ModelArch()  # 49 frames of 480 x 720


class FfmpegSource(VideoCompSource):
    """Whole videos through a pipe, then every third of their frames."""

    def __init__(self, folder: Path, ffmpeg: str) -> None:
        super().__init__(folder, ARCH)
        self.ffmpeg = ffmpeg

    def read(self, index: int, rng: np.random.Generator, removal: bool) -> ClipArrays:
        """The arrays of `VideoCompSource.read`."""
        row = self.rows[index]
        numbers = videocomp.frame_numbers(row, ARCH.frames)
        element = row.folder / videocomp.WHITE_VIDEO if removal else row.video(FOREGROUND)
        size, square = (ARCH.height, ARCH.width), (576, 576)
        target = self._decode(row.video(BACKGROUND if removal else TARGET), size)[numbers]
        foreground = self._decode(element, square)[numbers]
        mask = self._decode(row.video(MASK), size)[numbers]
        self._decode(row.video(MASKED), size)[numbers]
        return {
            "target": target,
            "scene": target,
            "foreground": fit_foreground(foreground, size),
            "mask": videocomp.region(mask),
        }

    def _decode(self, path: Path, size: tuple[int, int]) -> np.ndarray:
        command = [self.ffmpeg, "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24", "-"]
        pixels = subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout
        return np.frombuffer(pixels, np.uint8).reshape(-1, *size, 3)


def find_ffmpeg() -> str:
    """The path of ffmpeg."""
    if found := shutil.which("ffmpeg"):
        return found
    try:
        return str(importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe())
    except ImportError:
        raise SystemExit("no ffmpeg: install it, or pip install imageio-ffmpeg") from None


def open_method(method: str, work: Path, ffmpeg: str) -> ClipSource:
    """The source of one of METHODS."""
    if method == "ffmpeg":
        return FfmpegSource(work / "videocomp", ffmpeg)
    if method == "videocomp":
        return VideoCompSource(work / "videocomp", ARCH)
    return ArrayRecordSource(work / "records", ARCH)


def measure(method: str, work: Path, ffmpeg: str, samples: int) -> tuple[float, float]:
    """(examples per second, CPU seconds per example) of one round, after a warm-up."""
    source = open_method(method, work, ffmpeg)
    options: dict[str, Any] = {"seed": 0, "batch_size": 1, "rows": [0], "prefetch": CORES}
    for _ in batches(source, Augmentation(), start=0, stop=CORES, **options):
        pass
    began, cpu = time.perf_counter(), cpu_seconds()
    for batch in batches(source, Augmentation(), start=CORES, stop=CORES + samples, **options):
        assert batch["target"].shape == (1, ARCH.frames, ARCH.height, ARCH.width, 3)
    return samples / (time.perf_counter() - began), (cpu_seconds() - cpu) / samples


def cpu_seconds() -> float:
    """CPU seconds of this process and its finished children."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def make_data(work: Path, clips: int) -> None:
    """Make both data sets with a process per core."""
    parts = [(work / f"part{n}", n, clips) for n in range(CORES)]
    for _ in in_order(make_part, parts, CORES):
        pass
    folder = work / "videocomp"
    (work / "part0").rename(folder)
    for n in range(1, CORES):
        for path in (work / f"part{n}").glob("*/*.mp4"):
            path.rename(folder / path.parent.name / path.name)
        shutil.rmtree(work / f"part{n}")
    rows = [[f"{n}.mp4", 0, 150, 24, "A disc crosses a moving texture, " * 2] for n in range(clips)]
    (folder / "data.csv").unlink()
    text = "\n".join(",".join(f'"{value}"' for value in row) for row in rows)
    (folder / "data.csv").write_text(",".join(videocomp.COLUMNS) + "\n" + text + "\n")
    build(inputs_of(folder, Settings()), work / "records", Settings(), workers=CORES)


def make_part(part: tuple[Path, int, int]) -> None:
    """Make every CORES-th clip. part: folder, first clip, number of clips."""
    folder, start, clips = part
    numbers = range(start, clips, CORES)
    make_folder(folder, numbers, frames=150, size=(480, 720), square=576, grain=2.5, crf=20)


def results(work: Path, clips: int, rounds: int, samples: int) -> dict[str, Any]:
    """Make the data and measure everything."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:CORES]))
    ffmpeg = find_ffmpeg()
    make_data(work, clips)
    load = round(os.getloadavg()[0], 1)
    rates: dict[str, list[float]] = {method: [] for method in METHODS}
    costs: dict[str, list[float]] = {method: [] for method in METHODS}
    for _ in range(rounds):
        for method in METHODS:
            words = ["--round", method, "--work", str(work), "--samples", str(samples), "--ffmpeg", ffmpeg]
            done = subprocess.run([sys.executable, __file__, *words], check=True, stdout=subprocess.PIPE)
            rate, cost = json.loads(done.stdout)
            rates[method].append(round(rate, 3))
            costs[method].append(round(cost, 3))
            print(f"{method:<12} {rate:.2f} examples/s, {cost:.2f} CPU seconds each", flush=True)
    medians = {method: statistics.median(values) for method, values in rates.items()}
    cpu = {method: statistics.median(values) for method, values in costs.items()}
    targets = [path.stat().st_size for path in (work / "videocomp" / TARGET).iterdir()]
    shards = sum(path.stat().st_size for path in (work / "records").glob("*.arrayrecord"))
    version = subprocess.run([ffmpeg, "-version"], stdout=subprocess.PIPE, text=True).stdout.split()[2]
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, {CORES} used",
        "load_before": load,
        "ffmpeg": version,
        "clips": clips,
        "examples_per_round": samples,
        "bytes_of_a_target_video": round(statistics.mean(targets)),
        "bytes_of_a_record": round(shards / clips),
        "examples_per_second": rates,
        "median": medians,
        "times_ffmpeg": {m: round(medians[m] / medians["ffmpeg"], 2) for m in METHODS[1:]},
        "cpu_seconds_per_example": costs,
        "cpu_median": cpu,
        "cpu_times_less_than_ffmpeg": {m: round(cpu["ffmpeg"] / cpu[m], 2) for m in METHODS[1:]},
    }


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--work", type=Path, required=True, help="a new folder, deleted at the end")
    parser.add_argument("--clips", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=4, help="examples per round")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "data_rate.json")
    parser.add_argument("--round", choices=METHODS, help=argparse.SUPPRESS)
    parser.add_argument("--ffmpeg", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.round:
        print(json.dumps(measure(args.round, args.work, args.ffmpeg, args.samples)))
        return
    args.work.mkdir(parents=True)
    try:
        found = results(args.work, args.clips, args.rounds, args.samples)
    finally:
        shutil.rmtree(args.work)
    atomic_write_text(args.out, json.dumps(found, indent=2) + "\n")
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
