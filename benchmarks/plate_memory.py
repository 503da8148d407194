"""Peak memory of `gencompositor compose` over a large plate at its own depth, above that over a tiny one.

    python benchmarks/plate_memory.py --json benchmarks/results/plate_memory.json

The plates are procedural: FFV1, YCbCr 4:2:2 of 10 bits. The result is FFV1 with the plate's own samples, and
the edit as a layer in ProRes 4444. Each run is a process of its own; its peak is the resident memory that the
system counts.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from gencompositor_jax.controls.media.codecs import CODINGS
from gencompositor_jax.controls.media.encoding import encoder
from gencompositor_jax.files import atomic_write_text

LOOP = 8  # frames
TINY = (96, 64)  # (width, height) of the plate whose peak is the model's and the program's own
# A process that runs the command in this one's place and prints its exit code and its peak in KiB.
_RUN = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=subprocess.DEVNULL)
usage = resource.getrusage(resource.RUSAGE_CHILDREN)
print(code, usage.ru_maxrss)
"""


def make_plate(path: Path, size: tuple[int, int], frames: int) -> None:
    """A moving gradient with some grain, which begins again after `LOOP` frames."""
    width, height = size
    y, x = np.mgrid[:height, :width].astype(np.float32)
    grain = np.random.default_rng(0).integers(-400, 400, (height, width, 1))
    loop = path.with_name(f"loop_{path.name}")
    with encoder(loop, CODINGS["ffv1"], size, 24.0, overwrite=True) as put:
        for t in range(LOOP):
            ramp = np.stack([x / width, y / height, 0.5 + 0.3 * np.sin(x / 200 + t / 10)], axis=-1)
            shifted = np.roll(grain, 7 * t, axis=1)
            picture = np.clip(ramp * 50000 + 8000 + shifted, 0, 65535).astype(np.uint16)
            frame = av.VideoFrame.from_ndarray(picture, "rgb48le")
            put(frame.reformat(format="yuv422p10le", dst_colorspace=1))
    with av.open(str(loop)) as source, av.open(str(path), "w") as target:
        copy = target.add_stream_from_template(source.streams.video[0])
        packets = [packet for packet in source.demux(video=0) if packet.size]
        step = round(1 / (24 * float(packets[0].time_base or 1)))
        data = [bytes(packet) for packet in packets]
        for t in range(frames):
            packet = av.Packet(data[t % LOOP])
            packet.pts = packet.dts = t * step
            packet.time_base, packet.stream, packet.is_keyframe = packets[0].time_base, copy, True
            target.mux(packet)


def make_element(path: Path, side: int) -> None:
    """A disc."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    rgba = np.zeros((side, side, 4), np.uint8)
    rgba[..., :3] = (60, 120, 230)
    rgba[..., 3] = 255 * np.clip(side / 2 - 1 - np.hypot(x, y), 0, 1)
    cv2.imwrite(str(path), rgba)


def peak_of(folder: Path, size: tuple[int, int], frames: int, layer: str) -> dict[str, Any]:
    """One run."""
    plate, element = folder / f"plate_{size[0]}.mkv", folder / f"element_{size[0]}.png"
    if not plate.exists():
        make_plate(plate, size, frames)
    make_element(element, size[1] // 4)
    width, height = size
    path = f"{width // 4},{height // 2} {3 * width // 4},{height // 2}"
    given = ["--background", str(plate), "--foreground", str(element), "--trajectory", path]
    asked = ["--codec", "ffv1", "--out", str(folder / "out.mkv"), "--layer", str(folder / layer)]
    command = [sys.executable, "-m", "gencompositor_jax", "compose", *given, *asked, "--overwrite"]
    run = [sys.executable, "-c", _RUN, *command, "--steps", "2"]
    found = subprocess.run(run, check=True, capture_output=True, text=True).stdout.split()
    if found[0] != "0":
        raise SystemExit(f"{' '.join(command)} failed")
    report = json.loads((folder / "out.json").read_text())
    with av.open(str(folder / "out.mkv")) as container:
        written = sum(1 for packet in container.demux(video=0) if packet.size)
    return {
        "size": list(size),
        "frames": written,
        "peak_mib": round(int(found[1]) / 1024),
        "plate_mib": round(os.path.getsize(plate) / 2**20),
        "layer_error": report["layer"]["error"],
    }


def main() -> None:
    """Measures both plates."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=300)
    parser.add_argument("--size", default="3840x2160", help="WIDTHxHEIGHT")
    parser.add_argument("--layer", default="edit.mov", help="edit.mov is ProRes 4444, edit.mkv FFV1")
    parser.add_argument("--folder", help="for the plates and results (default: a temporary one)")
    parser.add_argument("--json", help="write the figures there")
    args = parser.parse_args()
    width, height = (int(side) for side in args.size.split("x"))
    with tempfile.TemporaryDirectory(dir=args.folder) as made:
        folder = Path(args.folder or made)
        tiny, large = (peak_of(folder, size, args.frames, args.layer) for size in (TINY, (width, height)))
    found = {
        "layer": args.layer,
        "tiny": tiny,
        "large": large,
        "above_mib": large["peak_mib"] - tiny["peak_mib"],
    }
    print(json.dumps(found, indent=2))
    if args.json:
        atomic_write_text(args.json, json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()
