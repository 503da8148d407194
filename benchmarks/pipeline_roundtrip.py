"""Round trips at every depth: the plate outside the mask, and over(layer, plate) against the composite.

    python benchmarks/pipeline_roundtrip.py

composites an element with a soft edge into procedural plates by the embedded model, reads the files back, and
writes results/pipeline_roundtrip.json here and the tables between the markers of docs/pipeline.md.
"""

import argparse
import functools
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import av
import cv2
import numpy as np

from gencompositor_jax.compositor import Compositor
from gencompositor_jax.controls.element.element import Element
from gencompositor_jax.controls.footage import load_background
from gencompositor_jax.controls.geometry.trajectory import from_points
from gencompositor_jax.controls.media import deep_images, exr
from gencompositor_jax.controls.media.codecs import CODINGS
from gencompositor_jax.controls.media.colour import Tags
from gencompositor_jax.controls.media.encoding import encoder
from gencompositor_jax.controls.media.planes import layout_of, planes_of, to_rgb
from gencompositor_jax.controls.media.video import probe
from gencompositor_jax.controls.plate.delivery import plan
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.controls.shot import ElementLayer
from gencompositor_jax.controls.stage import make_stage
from gencompositor_jax.evaluation.report import insert
from gencompositor_jax.files import atomic_write_text
from gencompositor_jax.inference.delivering import deliver

ROOT = Path(__file__).parent.parent
T, H, W = 9, 128, 256
OPTIONS = SamplingOptions(detail="element")


class Case(NamedTuple):
    """A plate and how it is written."""

    plate: str  # png8, png16, tif16, half, float, or FFmpeg's name of a layout
    out: str
    layer: str | None = None
    codec: str | None = None
    tags: Tags = Tags(1, 1, 1)

    @property
    def title(self) -> str:
        """For the table."""
        named = {
            "png8": "PNG, 8 bits",
            "png16": "PNG, 16 bits",
            "tif16": "TIFF, 16 bits",
            "half": "EXR, half",
            "float": "EXR, float",
        }
        hdr = {18: ", HLG", 16: ", PQ"}.get(self.tags.transfer, "")
        return named.get(self.plate, f"FFV1, {self.plate.removesuffix('le')}{hdr}")


HLG, PQ = Tags(9, 18, 9), Tags(9, 16, 9)
LAYERS = (
    Case("png8", "comp_####.png", "edit_####.png"),
    Case("png16", "comp_####.png", "edit_####.png"),
    Case("tif16", "comp_####.tif", "edit_####.tif"),
    Case("png16", "comp.mkv", "edit.mkv", "ffv1"),
    Case("png16", "comp_####.png", "edit.mov"),
    Case("half", "comp_####.exr", "edit_####.exr"),
    Case("float", "comp_####.exr", "edit_####.exr"),
    Case("yuv420p", "comp.mkv", "edit.mkv", "ffv1"),
    Case("yuv422p10le", "comp.mkv", "edit.mkv", "ffv1"),
    Case("yuv444p10le", "comp.mkv", "edit.mkv", "ffv1"),
    Case("yuv444p12le", "comp.mkv", "edit.mkv", "ffv1"),
    Case("gbrp10le", "comp.mkv", "edit.mkv", "ffv1"),
    Case("gbrp16le", "comp.mkv", "edit.mkv", "ffv1"),
    Case("yuv420p10le", "comp.mkv", "edit.mkv", "ffv1", HLG),
    Case("yuv444p10le", "comp.mkv", "edit.mkv", "ffv1", HLG),
    Case("yuv444p12le", "comp.mkv", "edit.mkv", "ffv1", PQ),
    Case("yuv444p10le", "comp.mkv", "edit.mov", "ffv1"),
)
CODECS = ("prores-4444", "prores-422", "dnxhr-444", "dnxhr-hqx", "hevc-10", "h264-10")


def pictures() -> np.ndarray:
    """R'G'B' 0..1 with grain below 8 bits, saturated colours and a highlight: float32 [T, H, W, 3]."""
    y, x, t = np.mgrid[:H, :W, :T]
    bands = 0.08 * np.sin(x / 9 + t / 3)
    values = np.stack([0.15 + x / 260 + bands, 0.25 + y / 260, 0.65 - x / 420 + t / 100], -1)
    values = values.transpose(2, 0, 1, 3)
    values[:, 30:44, 60:90] = (0.98, 0.95, 0.9)
    values[:, 60:80, 20:60] = (0.9, 0.15, 0.1)
    return np.clip(values + np.random.default_rng(0).uniform(0, 0.01, values.shape), 0, 1).astype(np.float32)


def make_plate(folder: Path, case: Case) -> Path:
    """The plate of a case."""
    if case.plate in ("half", "float"):
        for t, picture in enumerate(pictures()):
            light = 3 * picture**2.4
            kind = np.float16 if case.plate == "half" else np.float32
            channels = {name: light[..., i].astype(kind) for i, name in enumerate("RGB")}
            exr.write(folder / f"plate_{1001 + t}.exr", channels, {})
        return folder / "plate_####.exr"
    if case.plate in ("png8", "png16", "tif16"):
        suffix, depth = f".{case.plate[:3]}", np.uint8 if case.plate == "png8" else np.uint16
        for t, picture in enumerate(pictures()):
            pixels = np.rint(picture * np.iinfo(depth).max).astype(depth)
            (folder / f"plate_{1001 + t}{suffix}").write_bytes(deep_images.coded(suffix, pixels))
        return folder / f"plate_####{suffix}"
    with encoder(folder / "plate.mkv", CODINGS["ffv1"], (W, H), 24.0, tags=case.tags) as put:
        for picture in pictures():
            frame = av.VideoFrame.from_ndarray(np.rint(picture * 65535).astype(np.uint16), "rgb48le")
            matrix = None if case.plate.startswith("gbr") else case.tags.matrix
            put(frame.reformat(format=case.plate, dst_colorspace=matrix))
    return folder / "plate.mkv"


def read(folder: Path, name: str) -> tuple[np.ndarray, list[Any]]:
    """The values of a file, float [T, H, W, 3 or 4], and its frames as they are stored."""
    stored: list[Any]
    if name.endswith(".exr"):
        images = [exr.read(path) for path in sorted(folder.glob(name.replace("####", "*")))]
        stored = [
            np.stack([image.channels[c] for c in "RGBA" if c in image.channels], -1) for image in images
        ]
        return np.stack(stored).astype(np.float64), stored
    if "####" in name:
        stored = [deep_images.read(path) for path in sorted(folder.glob(name.replace("####", "*")))]
        pixels: np.ndarray = np.stack(stored)
        return pixels / np.iinfo(pixels.dtype).max, stored
    with av.open(str(folder / name)) as container:
        frames = list(container.decode(video=0))
    if name.startswith("edit"):
        layers: np.ndarray = np.stack([frame.to_ndarray(format="rgba64le") for frame in frames])
        return layers.astype(np.float64) / 65535, []
    matrix = int(frames[0].colorspace) if int(frames[0].colorspace) != 2 else 1
    layout = layout_of(frames[0], matrix)
    assert layout is not None
    planes = [planes_of(frame, layout) for frame in frames]
    return np.stack([to_rgb(each)[:H, :W] for each in planes]), planes


def unchanged(before: Any, after: Any, mask: np.ndarray) -> bool:
    """Whether a frame's stored values are the same, bit for bit, at all pixels outside the mask [H, W]."""
    if isinstance(before, np.ndarray):
        if not isinstance(after, np.ndarray):  # RGB in a video, whose planes are G, B, R
            after = np.stack([after.samples[i] for i in (2, 0, 1)], axis=-1)
        return bool((before[~mask] == after[~mask]).all())
    found = True
    for old, new in zip(before.samples, after.samples, strict=True):
        rows, columns = old.shape
        outside = (~mask).reshape(rows, H // rows, columns, W // columns).any(axis=(1, 3))
        found = found and bool((old[outside] == new[outside]).all())
    return found


def composited(compositor: Compositor, plate: Path) -> Any:
    """The stage and the composite."""
    side = 48
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    rgba = np.zeros((T, side, side, 4), np.uint8)
    rgba[..., :3] = (230, 140, 40)
    rgba[..., 3] = 255 * np.clip((side / 2 - 2 - np.hypot(x, y)) / 4, 0, 1)
    clip = load_background(probe(plate), T, window=T)
    path = from_points([(50, 60), (120, 70)])
    stage = make_stage(clip, [ElementLayer(Element(rgba, "element"), path)], compositor.arch)
    return stage, compositor.render(stage, OPTIONS)


def measured(compositor: Compositor, case: Case) -> dict[str, Any]:
    """One case, from files to files."""
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        plate = make_plate(folder, case)
        layer = None if case.layer is None else str(folder / case.layer)
        codec: Any = case.codec
        delivery = plan(probe(plate), str(folder / case.out), layer, codec=codec)
        assert delivery is not None
        stage, composite = composited(compositor, plate)
        facts = deliver(delivery.of_frames(T), composite, stage, OPTIONS.feather, lambda done, count: None)
        mask = np.asarray(composite.mask)
        before, stored = read(folder, plate.name)
        after, new = read(folder, case.out)
        found: dict[str, Any] = {"plate": case.title, "out": case.out, "codec": case.codec} | facts["plate"]
        if case.layer is None:  # a codec with losses, against the composite that FFV1 keeps
            return found | {"values": after}
        same = len(stored) == len(new) and all(map(unchanged, stored, new, mask))
        edit, _ = read(folder, case.layer)
        alpha = edit[..., 3:]
        is_exr = case.layer.endswith(".exr")
        made_of = (edit[..., :3] if is_exr else alpha * edit[..., :3]) + (1 - alpha) * before
        error = np.abs(made_of - after)
        error = error / np.maximum(np.maximum(before, after), 2**-10) if is_exr else 255 * error
        return found | {
            "layer": case.layer,
            "unchanged_outside": same,
            "alpha_outside": float(alpha[~mask].max()),
            "largest_error": float(error[mask].max()),
            "mean_error": float(error[mask].mean()),
        }


def codecs(compositor: Compositor) -> list[dict[str, Any]]:
    """Codecs with losses: their files against the composite, which FFV1 keeps."""
    plate = "yuv444p10le"
    exact = _values(compositor, Case(plate, "comp.mkv", codec="ffv1"))
    rows = []
    for codec in CODECS:
        name = f"comp{CODINGS[codec].containers[0]}"
        error = 255 * np.abs(_values(compositor, Case(plate, name, codec=codec)) - exact)
        rows.append({"codec": codec, "largest_error": float(error.max()), "mean_error": float(error.mean())})
    return rows


def _values(compositor: Compositor, case: Case) -> np.ndarray:
    found: np.ndarray = measured(compositor, case)["values"]
    return found


def layer_table(rows: list[dict[str, Any]]) -> str:
    """As Markdown."""
    lines = [
        "| plate | composite | outside | layer | largest error | mean |",
        "|---|---|---|---|---:|---:|",
    ]
    for row in rows:
        out = row["out"].replace("_####", "") if row["codec"] is None else f"{row['out']}, {row['codec']}"
        outside = "bit-equal" if row["unchanged_outside"] else "differs"
        form: Callable[[float], str] = (
            (lambda v: f"{100 * v:.3f} %") if "EXR" in row["plate"] else (lambda v: f"{v:.3f}")
        )
        figures = f"{form(row['largest_error'])} | {form(row['mean_error'])}"
        layer = row["layer"].replace("_####", "")
        lines.append(f"| {row['plate']} | {out} | {outside} | {layer} | {figures} |")
    return "\n".join(lines)


def codec_table(rows: list[dict[str, Any]]) -> str:
    """As Markdown."""
    lines = ["| `--codec` | largest | mean |", "|---|---:|---:|"]
    for row in rows:
        lines.append(f"| `{row['codec']}` | {row['largest_error']:.1f} | {row['mean_error']:.2f} |")
    return "\n".join(lines)


def main() -> None:
    """Measures all, and updates the document."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", help="a part of a plate's title; the document isn't changed then")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    compositor = Compositor.load()
    cases = [case for case in LAYERS if args.only is None or args.only in case.title]
    rows = [measured(compositor, case) for case in cases]
    print(layer_table(rows))
    if args.only is not None:
        return
    found = {"layers": rows, "codecs": codecs(compositor)}
    print(codec_table(found["codecs"]))
    results = ROOT / "benchmarks" / "results" / "pipeline_roundtrip.json"
    atomic_write_text(results, json.dumps(found, indent=2) + "\n")
    document = ROOT / "docs" / "pipeline.md"
    text = functools.reduce(
        lambda text, part: insert(text, part[1], part[0]),
        (("roundtrip", layer_table(rows)), ("codecs", codec_table(found["codecs"]))),
        document.read_text(encoding="utf-8"),
    )
    atomic_write_text(document, text)


if __name__ == "__main__":
    main()
