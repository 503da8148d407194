"""Plates at their own depth: EXR and PNG files that are broken, names of colours, codecs and outputs."""

import functools
import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from gencompositor_jax.controls.media import exr
from gencompositor_jax.errors import InputError
from tests.doors.call import Call, compose, with_file
from tests.doors.values import NAMES

ARRAY = np.full((32, 48, 3), 30000, np.uint16)


def plates(base: Path) -> Iterator[Call]:
    """One broken input each."""
    for suffix, sound in ((".exr", _exr()), (".png", cv2.imencode(".png", ARRAY)[1].tobytes())):
        if sound:
            for name, content in _broken(sound):
                given = functools.partial(_plate, suffix=suffix)
                yield Call("plate", f"{suffix}: {name}", with_file(given, content))
    for name in (*NAMES.values(), "ACES", "raw", "ACEScg" * 1000):

        def coloured(folder: Path, base: Path, name: str = name) -> list[str]:
            return compose(folder, base, "compose", plate_colour=name, out="out.mp4")

        yield Call("plate", f"--plate-colour {name[:20]!r}", coloured)

        def recoloured(folder: Path, base: Path, name: str = name) -> list[str]:
            return compose(folder, base, "compose", output_colour=name, codec="ffv1", out="a.mkv")

        yield Call("plate", f"--output-colour {name[:20]!r}", recoloured)
    for codec, out in (("ffv1", "a"), ("ffv1", "a.mp4"), ("x", "a.mkv"), ("h264", "a_##.png"), ("", "a.mov")):

        def coded(folder: Path, base: Path, codec: str = codec, out: str = out) -> list[str]:
            return compose(folder, base, "compose", codec=codec, out=out)

        yield Call("plate", f"--codec {codec!r} --out {out}", coded)
    for out in ("a_####.exr", "a_####.jpg", "a_%d.x", "nowhere/a_##.png", "####.png/", "a_##_##.png"):

        def written(folder: Path, base: Path, out: str = out) -> list[str]:
            return compose(folder, base, "compose", out=out)

        yield Call("plate", f"--out {out}", written)


def _plate(folder: Path, base: Path, suffix: str) -> tuple[Path, list[str]]:
    out = f"comp_####{suffix}"
    return folder / f"plate_0001{suffix}", compose(
        folder, base, "compose", background=f"plate_####{suffix}", out=out, frames="1"
    )


def _broken(sound: bytes) -> Iterator[tuple[str, bytes]]:
    for share in (0.1, 0.5, 0.9):
        yield f"cut to {share:.0%}", sound[: int(share * len(sound))]
    middle = len(sound) // 2
    yield "zeros in the middle", sound[:middle] + bytes(64) + sound[middle + 64 :]
    yield "noise", sound[:8] + np.random.default_rng(0).bytes(4096)
    yield "another format", b"P6 2 2 255 " + bytes(12)
    # A size of 2^30 pixels on a side.
    for at in range(8, min(400, len(sound) - 8)):
        if sound[at : at + 8] in (struct.pack("<2i", 47, 31), struct.pack(">2I", 48, 32)):
            order = "<2i" if sound.startswith(b"\x76\x2f\x31\x01") else ">2I"
            yield f"huge at {at}", sound[:at] + struct.pack(order, 2**30, 2**30) + sound[at + 8 :]


def _exr() -> bytes:
    """A sound EXR file; nothing without the package."""
    try:
        exr.check_package()
    except InputError:
        return b""
    channels = {name: ARRAY[..., i].astype(np.float16) for i, name in enumerate("RGB")}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.exr"
        exr.write(path, channels, {})
        return path.read_bytes()
