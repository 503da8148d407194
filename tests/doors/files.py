"""Calls with one broken file: checkpoints, PyTorch folders, project files, trajectories, data sets."""

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from tests.doors import sound
from tests.doors.arrays import arrays_of_numbers, latents
from tests.doors.call import FEW, TRAIN, Call, checkpoint, component, compose, convert, json_door, with_file
from tests.doors.values import NUMBERS, Content, documents, texts


def checkpoints(base: Path) -> Iterator[Call]:
    """model.json, manifest.json and the files of the arrays."""
    model = json.loads((base / "checkpoint" / "model.json").read_text())

    def inspected(name: str) -> Callable[[Path, Path], tuple[Path, list[str]]]:
        def write(folder: Path, base: Path) -> tuple[Path, list[str]]:
            out = checkpoint(folder, base)
            return out / name, ["inspect", str(out)]

        return write

    def previewed(folder: Path, base: Path) -> tuple[Path, list[str]]:
        out = checkpoint(folder, base)
        return out / "model.json", compose(folder, base, checkpoint=str(out))

    yield from json_door("model.json", model, inspected("model.json"))
    yield from json_door("model.json, preview", model, previewed)
    manifest = json.loads((base / "checkpoint" / "manifest.json").read_text())
    yield from json_door("manifest.json", manifest, inspected("manifest.json"))
    arrays = base / "checkpoint"
    for path in sorted(p.relative_to(arrays) for p in (arrays / "arrays").rglob("*") if p.is_file()):
        for name, content in texts((arrays / path).read_bytes().decode("latin1")):
            yield Call("arrays of a checkpoint", f"{path}: {name}", with_file(inspected(str(path)), content))
    metadata = json.loads((arrays / "arrays" / "_METADATA").read_text())
    yield from json_door("arrays of a checkpoint", metadata, inspected("arrays/_METADATA"))


def pytorch(base: Path) -> Iterator[Call]:
    """Configurations, index, safetensors, --null-text and the text encoder of `convert`."""

    def converted(name: str, file: str, *more: str) -> Callable[[Path, Path], tuple[Path, list[str]]]:
        def write(folder: Path, base: Path) -> tuple[Path, list[str]]:
            path = component(folder, base, name) / file
            words = ["convert", ".", str(base / "release"), "--out=out"] if more else convert(base, ".")
            return path, words

        return write

    for name in ("transformer", "branch", "vae", "scheduler"):
        file = "scheduler_config.json" if name == "scheduler" else "config.json"
        document = json.loads((base / "release" / name / file).read_text())
        yield from json_door("config.json", document, converted(name, file))
    index = "diffusion_pytorch_model.safetensors.index.json"
    document = json.loads((base / "release" / "transformer" / index).read_text())
    yield from json_door("index of a PyTorch folder", document, converted("transformer", index))
    yield from json_door("config.json of T5", sound.T5, converted("text_encoder", "config.json", "computed"))
    file = "diffusion_pytorch_model.safetensors"
    data = (base / "release" / "branch" / file).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    few = dict(list(header.items())[:3])
    rest = {name: header[name] for name in header if name not in few}

    def with_header(text: Content) -> bytes:
        text = text() if callable(text) else text
        whole = text[:-1] + b", " + json.dumps(rest)[1:].encode() if text[-1:] == b"}" else text
        return len(whole).to_bytes(8, "little") + whole + data[8 + length :]

    for name, text in documents(few):
        content: Content = partial(with_header, text)
        yield Call("safetensors header", name, with_file(converted("branch", file), content))
    for name, size in {"header of 2^62": 2**62, "header of 99 MB": 99 * 2**20, "no header": 0}.items():
        content = size.to_bytes(8, "little") + data[8:]
        yield Call("safetensors header", name, with_file(converted("branch", file), content))
    for name, content in arrays_of_numbers():

        def null(folder: Path, base: Path) -> tuple[Path, list[str]]:
            return folder / "null.npy", convert(base, "--null-text=null.npy")

        yield Call("--null-text", name, with_file(null, content))


def controls(base: Path) -> Iterator[Call]:
    """Project files, trajectories, latents."""

    def project(folder: Path, base: Path) -> tuple[Path, list[str]]:
        for name in ("background", "element.png"):
            (folder / name).symlink_to(base / name)
        return folder / "scene.json", [
            *("preview", "--project=scene.json", f"--checkpoint={base / 'checkpoint'}", "--out=out")
        ]

    yield from json_door("project file", sound.SCENE, project)
    layer: Any = sound.SCENE["layers"]

    def trajectory(name: str) -> Callable[[Path, Path], tuple[Path, list[str]]]:
        return lambda folder, base: (folder / name, compose(folder, base, trajectory=name))

    yield from json_door("trajectory, JSON", layer[0]["trajectory"], trajectory("path.json"))
    rows = "10,12\n20,14\n30,16\n"
    for name, content in texts(rows):
        yield Call("trajectory, text", name, with_file(trajectory("path.txt"), content))
        yield Call("trajectory, text", f"{name}, CSV", with_file(trajectory("path.csv"), content))
    for number in NUMBERS:
        for line in (f"10,{number}", f"{number} {number}", f"{number}"):
            yield Call(
                "trajectory, text",
                f"{line[:20]!r}",
                with_file(trajectory("path.txt"), f"{rows}{line}\n".encode()),
            )
    yield Call("trajectory, text", "a million points", with_file(trajectory("path.txt"), b"1,2\n" * 10**6))
    yield from key_frames(base)
    for name, content in latents():

        def composed(folder: Path, base: Path) -> tuple[Path, list[str]]:
            return folder / "out.latents.npz", compose(folder, base, "compose")

        yield Call("latents", name, with_file(composed, content))


def key_frames(base: Path) -> Iterator[Call]:
    """Scripts of Nuke and keyframe data of After Effects."""

    def converted(name: str) -> Callable[[Path, Path], tuple[Path, list[str]]]:
        return lambda folder, base: (
            folder / name,
            ["keyframes", f"--from={name}", "--to=path.json", f"--background={base / 'background'}"],
        )

    for name, text in (("move.nk", sound.NUKE), ("move.txt", sound.AFTER_EFFECTS)):
        for broken, content in texts(text):
            yield Call("key frames", f"{name}: {broken}", with_file(converted(name), content))
        for number in (*NUMBERS, "curve", "{", '"', "frame*2"):
            for place in ("0", "x0", "12", "1.5", "24"):
                if place in text:
                    changed = text.replace(place, number, 1).encode()
                    call = with_file(converted(name), changed)
                    yield Call("key frames", f"{name}: {place} is {number[:20]}", call)


def data_sets(base: Path) -> Iterator[Call]:
    """Lists of clips, data sets, caches, compiled programs, and what a run left in its folder."""

    def dataset(folder: Path, base: Path) -> tuple[Path, list[str]]:
        (folder / "d").mkdir()
        (folder / "d" / "clips-00000-of-00001.arrayrecord").touch()
        return folder / "d" / "dataset.json", [
            *(*TRAIN, "--config.data.source=arrayrecord", "--config.data.path=d")
        ]

    yield from json_door("dataset.json", sound.DATASET, dataset)

    def cache(folder: Path, base: Path) -> tuple[Path, list[str]]:
        (folder / "d" / "whole").mkdir(parents=True)
        return folder / "d" / "whole" / "cache.json", [
            *(*TRAIN, "--config.data.source=cache", "--config.data.path=d", *FEW)
        ]

    inflation = {"threshold": 128, "opening": 0, "min_area": 0.0, "kernel": 7, "sigma": 2.0, "tau": 0.1}
    settings = {"version": 1, "shard": 64, "clips": 1, "first_seed": 0, "frames": 9, "height": 64}
    yield from json_door(
        "cache.json",
        {**settings, "width": 96, "inflation": inflation, "followed": False, "cell": None},
        cache,
    )

    def programs(folder: Path, base: Path) -> tuple[Path, list[str]]:
        (folder / "p").mkdir()
        return folder / "p" / "programs.json", compose(folder, base, "compose", compiled="p")

    program = {"sha256": "0" * 64, "bytes": 1, "name": "x", "arguments": ["f"], "tree": "t", "static": {}}
    index = {"format": 1, "machine": {"jax": "0"}, "made_for": {"steps": "4"}, "programs": {"a": program}}
    yield from json_door("compiled programs", index, programs)

    def listed(name: str) -> Callable[[Path, Path], tuple[Path, list[str]]]:
        return lambda folder, base: (folder / name, ["data", "build", name, "--out=d", "--workers=0"])

    entry = {"target": "a.mp4", "mask": "b.mp4", "caption": "c", "start": 0}
    for name, content in documents(entry):
        yield Call("list of clips", f"JSONL {name}", with_file(listed("list.jsonl"), content))
    table = "target,mask,caption,start\na.mp4,b.mp4,a cat,0\n"
    yield from (
        Call("list of clips", f"CSV {name}", with_file(listed("list.csv"), content))
        for name, content in texts(table)
    )
    for line in ("a.mp4,b.mp4,a cat, a dog,0", "a.mp4", ",,,", 'a.mp4,"b', "a.mp4,b.mp4,x,nan", "\0,b,c,0"):
        yield Call(
            "list of clips", f"CSV {line!r}", with_file(listed("list.csv"), f"{table}{line}\n".encode())
        )

    def videocomp(folder: Path, base: Path) -> tuple[Path, list[str]]:
        (folder / "v").mkdir()
        return folder / "v" / "data.csv", ["data", "check", "v", "--frames=5", "--workers=1"]

    header = "path,start_frame,end_frame,fps,caption\n"
    row = f'a.mp4,0,100,24,"{sound.CAPTION}"\n'
    yield from (
        Call("VideoComp", f"CSV {name}", with_file(videocomp, content))
        for name, content in texts(header + row)
    )
    for number in NUMBERS:
        for line in (f"a,{number},9,8,c", f"a,0,{number},8,c", f'a,0,99,{number},"{sound.CAPTION}"'):
            yield Call("VideoComp", f"{line[:24]!r}", with_file(videocomp, f"{header}{row}{line}\n".encode()))

    def left(name: str) -> Callable[[Path, Path], tuple[Path, list[str]]]:
        def write(folder: Path, base: Path) -> tuple[Path, list[str]]:
            (folder / "w").mkdir()
            return folder / "w" / name, TRAIN

        return write

    kinds = ("productive", "data wait", "checkpoint", "validation", "start", "restart")
    goodput = {"seconds": dict.fromkeys(kinds, 1.0), "reached": 1, "starts": 1}
    yield from json_door("folder of a run", goodput, left("goodput.json"))
    for name, content in texts('{"step": 1}\n'):
        yield Call("folder of a run", f"metrics.jsonl {name}", with_file(left("metrics.jsonl"), content))
