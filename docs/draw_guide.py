"""Draws the pictures of the user's guide, docs/pictures/*.jpg, with the program itself.

python docs/draw_guide.py [--only light]

Everything in them is made by `gencompositor` from procedural clips that no model was trained on.
"""

import argparse
import ast
import contextlib
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gencompositor_jax.cli import main as gencompositor
from gencompositor_jax.cli.rendering import checkpoint_arch
from gencompositor_jax.controls.element.loading import load_element
from gencompositor_jax.controls.footage import scene_stage
from gencompositor_jax.controls.geometry.placement import paste_over
from gencompositor_jax.controls.media.video import read_video
from gencompositor_jax.controls.media.video_out import write_image_folder
from gencompositor_jax.controls.scene import read_scene
from gencompositor_jax.controls.shot import plain_paste
from gencompositor_jax.data_pipelines.procedural import HELD_OUT_SEED, ProceduralClip, make_clip

PICTURES = Path(__file__).with_name("pictures")
NOTEBOOK = Path(__file__).parent / "notebooks" / "first_composite.ipynb"
FRAMES, HEIGHT, WIDTH, SHOWN = 9, 288, 432, 4  # of the clips; the frame that is shown
GAP, HEAD = 6, 24
INK, PAPER = (31, 41, 55), (255, 255, 255)
GREEN = np.array([28, 170, 60])


def run(*words: object) -> None:
    """Runs a command, and shows what it printed if it fails."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        code = gencompositor([str(word) for word in words])
    if code:
        raise SystemExit(said.getvalue())


def clip_of(number: int, family: str | None = None) -> ProceduralClip:
    """A held-out clip."""
    return make_clip(HELD_OUT_SEED + number, FRAMES, HEIGHT, WIDTH, family)


def stored(folder: Path, name: str, frames: np.ndarray) -> Path:
    """Frames as a folder of images."""
    write_image_folder(folder / name, frames)
    return folder / name


def on_squares(rgba: np.ndarray) -> np.ndarray:
    """RGBA [h, w, 4] over a checkerboard: RGB."""
    y, x = np.mgrid[: rgba.shape[0], : rgba.shape[1]] // 8
    below = np.where((x + y)[..., None] % 2, 190, 230)
    alpha = rgba[..., 3:] / 255
    return np.rint(alpha * rgba[..., :3] + (1 - alpha) * below).astype(np.uint8)


def table(columns: list[tuple[str, list[np.ndarray]]], width: int = 260) -> Image.Image:
    """Titled columns of pictures of one size each, `width` pixels wide."""
    cells = [(title, [fitted(picture, width) for picture in pictures]) for title, pictures in columns]
    height = max(sum(cell.height + GAP for cell in column) for _, column in cells)
    sheet = Image.new("RGB", (len(cells) * (width + GAP) - GAP, HEAD + height - GAP), PAPER)
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(14)
    for i, (title, column) in enumerate(cells):
        left, top = i * (width + GAP), HEAD
        pen.text((left + width / 2, HEAD / 2), title, INK, font, "mm")
        for cell in column:
            sheet.paste(cell, (left, top))
            top += cell.height + GAP
    return sheet


def fitted(picture: np.ndarray, width: int) -> Image.Image:
    """A picture of that width, 2 : 3 high, centred on white if it has another shape."""
    out = Image.new("RGB", (width, width * 2 // 3), PAPER)
    image = Image.fromarray(np.ascontiguousarray(picture))
    image.thumbnail(out.size, Image.Resampling.LANCZOS)
    out.paste(image, ((out.width - image.width) // 2, (out.height - image.height) // 2))
    return out


def element(folder: Path) -> Image.Image:
    """Three clips of elements, and what is cut out of each."""
    scene, alone = clip_of(17), clip_of(19, family="wings")
    room = np.pad(alone.element, ((0, 0), (40, 40), (120, 120), (0, 0)))
    alpha = room[..., 3:] / 255
    green, white = (
        np.rint(alpha * room[..., :3] + (1 - alpha) * screen).astype(np.uint8) for screen in (GREEN, 255)
    )
    clips = {
        "--segment auto": (scene.target, ["--segment", "auto"]),
        "--key green": (green, ["--key", "green"]),
        "--key white": (white, ["--key", "white"]),
    }
    columns = []
    for i, (title, (frames, how)) in enumerate(clips.items()):
        given, saved = stored(folder, f"clip{i}", frames), folder / f"element{i}.mkv"
        path = ["--trajectory", f"{WIDTH // 2},{HEIGHT // 2}", "--out", folder / f"preview{i}.mp4"]
        run("preview", "--background", given, "--foreground", given, *how, *path, "--save-element", saved)
        columns.append((title, [frames[SHOWN], on_squares(load_element(saved).frames[SHOWN])]))
    return table(columns)


def trajectory(folder: Path) -> Image.Image:
    """What `preview` draws for three trajectories."""
    clip = clip_of(19, family="wings")
    background, wings = stored(folder, "scene", clip.background), stored(folder, "wings", clip.element)
    keys = folder / "keys.json"
    keys.write_text(
        '{"keyframes": [{"x": 70, "y": 200, "scale": 0.2, "rotation": -20}, '
        '{"x": 230, "y": 90, "scale": 0.5}, {"x": 370, "y": 190, "scale": 0.3, "rotation": 30}]}'
    )
    columns = []
    for i, (title, how) in enumerate(
        {
            "points": ["--trajectory", "70,200 230,90 370,190", "--scale", "0.35"],
            "key frames": ["--trajectory", str(keys)],
            "--anchor bottom": ["--trajectory", "70,200 230,90 370,190", "--scale", "0.35", "--anchor"],
        }.items()
    ):
        out = folder / f"preview{i}"
        run("preview", "--background", background, "--foreground", wings, *how, "--out", out)
        frames = read_video(out).frames
        columns.append((title, [frames[1], frames[-2]]))
    return table(columns)


def light(folder: Path) -> Image.Image:
    """One element in three scenes: pasted, composited, and its ground truth."""
    columns = []
    for number in (23, 32, 24):
        clip, out = clip_of(number), folder / f"out{number}"
        run("compose", *scene_of(clip, folder, str(number)), "--out", out, "--detail", "auto")
        made = read_video(out).frames[SHOWN]
        columns.append((f"clip {number}", [pasted(Path(f"{out}.scene.json")), made, clip.target[SHOWN]]))
    return table(columns)


def scene_of(clip: ProceduralClip, folder: Path, name: str) -> list[object]:
    """The options that put a clip's element where it is in the clip."""
    background = stored(folder, f"scene{name}", clip.background)
    foreground = stored(folder, f"element{name}", clip.element)
    path = folder / f"path{name}.txt"
    path.write_text("".join(f"{x:.2f},{y:.2f}\n" for x, y in clip.xy))
    scales, turns = (",".join(f"{v:.4f}" for v in values) for values in (clip.scale, clip.rotation))
    where = ["--trajectory", path, f"--scale={scales}", f"--rotation={turns}"]
    return ["--background", background, "--foreground", foreground, *where]


def pasted(project: Path) -> np.ndarray:
    """The shown frame with the element of a project pasted into it."""
    stage = scene_stage(read_scene(project), checkpoint_arch(None))
    background = np.asarray(stage.background.frames)
    paste = plain_paste(stage.shots[0], background.shape[1:3])
    assert paste is not None
    return paste_over(background, paste)[SHOWN]


def removal(folder: Path) -> Image.Image:
    """A clip, a mask, and what `remove` makes of them."""
    from scipy import ndimage

    columns = []
    for i, number in enumerate((17, 27)):
        clip = clip_of(number)
        mask = np.stack([ndimage.binary_dilation(a > 0.02, iterations=6) for a in clip.alpha + clip.shadow])
        shown = np.repeat(255 * mask[..., None].astype(np.uint8), 3, -1)
        given, masks = stored(folder, f"clip{i}", clip.target), stored(folder, f"mask{i}", shown)
        run("remove", "--background", given, "--mask", masks, "--out", folder / f"out{i}")
        made = read_video(folder / f"out{i}").frames[SHOWN]
        columns += [(f"clip {number}", [clip.target[SHOWN], made])]
    return table(columns)


def first_composite(folder: Path) -> Image.Image:
    """What the notebook shows below its result."""
    names: dict[str, Any] = {}
    shown = []
    for cell in json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] != "code" or "write_video" in source:
            continue
        tree = ast.parse(source)
        last = tree.body[-1]
        tree.body = tree.body[: len(tree.body) - isinstance(last, ast.Expr)]
        exec(compile(tree, NOTEBOOK.name, "exec"), names)
        if isinstance(last, ast.Expr):
            shown.append(eval(compile(ast.Expression(last.value), NOTEBOOK.name, "eval"), names))
    picture = [value for value in shown if isinstance(value, Image.Image)][-1]
    picture.thumbnail((1000, 1000), Image.Resampling.LANCZOS)
    return picture


def batch(folder: Path) -> Image.Image:
    """The results of a manifest: two elements in each of two scenes."""
    paths = {"butterfly": "80,190 220,90 360,170", "moth": "340,90 200,170 80,110"}
    for element, seed in (("butterfly", 19), ("moth", 33)):
        stored(folder, element, clip_of(seed, family="wings").element)
    jobs = []
    for scene, number in (("scene1", 23), ("scene2", 32)):
        stored(folder, scene, clip_of(number).background)
        for element, path in paths.items():
            job = {"out": f"{scene}/{element}", "background": scene, "foreground": element}
            jobs.append(job | {"trajectory": path, "scale": 0.4})
    manifest = folder / "jobs.jsonl"
    manifest.write_text("".join(json.dumps(job) + "\n" for job in jobs))
    run("batch", "--manifest", manifest, "--out", folder / "results")
    frames = {job["out"]: read_video(folder / "results" / str(job["out"])).frames for job in jobs}
    return table([(str(name), [clip[1], clip[-2]]) for name, clip in frames.items()], width=200)


def pipeline(folder: Path) -> Image.Image:
    """A plate, its edit as a layer, the layer over the plate, and what differs from the composite."""
    clip = clip_of(23)
    composite, layer = folder / "comp_####.png", folder / "edit_####.png"
    run("compose", *scene_of(clip, folder, ""), "--out", composite, "--layer", layer)
    plate = clip.background[SHOWN]
    made, edit = (
        np.asarray(Image.open(sorted(folder.glob(pattern))[SHOWN]))
        for pattern in ("comp_*.png", "edit_*.png")
    )
    alpha = edit[..., 3:] / 255
    over = np.rint(alpha * edit[..., :3] + (1 - alpha) * plate).astype(np.uint8)
    change = np.abs(made.astype(int) - plate).max(-1, keepdims=True)
    changed = np.repeat(np.where(change > 0, 255, 0), 3, -1).astype(np.uint8)
    shown = {"plate": plate, "--layer": on_squares(edit), "layer over plate": over, "changed pixels": changed}
    return table([(title, [picture]) for title, picture in shown.items()], width=220)


def troubleshooting(folder: Path) -> Image.Image:
    """One composite, and what can be wrong with it: a small mask, the model's drawing, a fringe."""
    clip = clip_of(17)
    scene = scene_of(clip, folder, "")
    rgba = clip.element.copy()
    rgba[..., 3] = np.stack([255 * (alpha > 0) for alpha in rgba[..., 3]]).astype(np.uint8)
    fringed = [stored(folder, "fringe", rgba) if word == folder / "element" else word for word in scene]
    made = {
        "as it should be": [*scene],
        "mask too small": [*scene, "--sigma", "0.5", "--tau", "0.5"],
        "--detail model": [*scene, "--detail", "model"],
        "a fringe in the element": fringed,
    }
    columns = []
    for i, (title, words) in enumerate(made.items()):
        run("compose", *words, "--out", folder / f"out{i}")
        columns.append((title, [around(clip, read_video(folder / f"out{i}").frames[SHOWN])]))
    return table(columns, width=220)


def around(clip: ProceduralClip, picture: np.ndarray) -> np.ndarray:
    """The half of a shown frame, along each side, that has the element in its middle, as far as it can."""
    x, y = (int(v) for v in clip.xy[SHOWN])
    left, top = np.clip(x - WIDTH // 4, 0, WIDTH // 2), np.clip(y - HEIGHT // 4, 0, HEIGHT // 2)
    return picture[top : top + HEIGHT // 2, left : left + WIDTH // 2]


DRAW: dict[str, Callable[[Path], Image.Image]] = {
    "element": element,
    "trajectory": trajectory,
    "light": light,
    "removal": removal,
    "first_composite": first_composite,
    "batch": batch,
    "pipeline": pipeline,
    "troubleshooting": troubleshooting,
}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=sorted(DRAW), nargs="+", default=list(DRAW))
    PICTURES.mkdir(exist_ok=True)
    for name in parser.parse_args().only:
        with tempfile.TemporaryDirectory() as folder:
            DRAW[name](Path(folder)).save(PICTURES / f"{name}.jpg", quality=88, optimize=True)


if __name__ == "__main__":
    main()
