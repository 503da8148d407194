"""Routes of clips: upload, list, look at, remove."""

import threading
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Depends, Request, Response

from gencompositor_jax.app.answering import (
    End,
    Kind,
    Range,
    Rate,
    Start,
    TheStudio,
    Width,
    bytes_below,
    in_own_thread,
    in_thread,
    picture,
    video,
)
from gencompositor_jax.app.clips import LONGEST, Clip, facts
from gencompositor_jax.app.context import Studio
from gencompositor_jax.app.names import safe_name
from gencompositor_jax.app.pictures import check_frame, encoded
from gencompositor_jax.app.store import read_footage
from gencompositor_jax.controls.media.ranges import parse_range, seconds_of
from gencompositor_jax.controls.media.video import Footage, Media, choose
from gencompositor_jax.jobs.uploads import Uploads
from gencompositor_jax.serve.access import authorised
from gencompositor_jax.serve.receiving import read_files

EXAMPLE = {"background": "example-background.mp4", "foreground": "example-element"}

router = APIRouter(prefix="/app", dependencies=[Depends(authorised)])


@router.post("/clips", status_code=201)
async def upload(request: Request, studio: TheStudio) -> dict[str, Any]:
    """One video or picture, or the images of a sequence, in a multipart body."""
    service = studio.service
    with Uploads(service.incoming, service.limits.upload_mib * 2**20, LONGEST) as uploads:
        await read_files(request, uploads, safe_name)
        clip = await in_own_thread(request, studio.clips.add, uploads)
    _warm_up()
    return await in_thread(request, _facts, studio, clip)


@router.get("/clips")
async def clips(request: Request, studio: TheStudio) -> list[dict[str, Any]]:
    """All clips, the newest first."""
    return await in_thread(request, lambda: [_facts(studio, clip) for clip in studio.clips.all()])


@router.get("/clips/{id}")
async def look(
    request: Request,
    studio: TheStudio,
    id: str,
    start: Start = 0.0,
    end: End = None,
    fps: Rate = None,
    range: Range = None,
) -> dict[str, Any]:
    """A clip; with a trim or a rate, what of it is left."""

    def found() -> dict[str, Any]:
        clip = studio.clips.get(id)
        made = _facts(studio, clip)
        if (start, end, fps, range) != (0.0, None, None, None):
            media = studio.clips.media(clip)
            chosen = choose(media, fps, *trimmed(media, start, end, fps, range), None, False)
            count = len(chosen.indices)
            made |= {"frames": count, "fps": chosen.rate, "seconds": round(count / chosen.rate, 4)}
        return made

    return await in_thread(request, _short, studio, found)


@router.delete("/clips/{id}", status_code=204)
async def remove(request: Request, studio: TheStudio, id: str) -> None:
    """Removes a clip that no job needs."""
    await in_thread(request, lambda: studio.clips.remove(id, studio.in_use()))


@router.get("/clips/{id}/frames/{t}")
async def frame(
    request: Request,
    studio: TheStudio,
    id: str,
    t: int,
    width: Width = 640,
    format: Kind = "jpeg",
    start: Start = 0.0,
    end: End = None,
    fps: Rate = None,
    range: Range = None,
) -> Response:
    """One frame, of the trim."""

    def made() -> bytes:
        footage = _footage(studio, studio.clips.get(id), fps, start, end, range)
        check_frame(t, len(footage.frames))
        return encoded(footage.frames[t], width, format)

    key = ("frame", id, t, width, format, start, end, fps, range)
    data = await in_thread(request, _short, studio, lambda: studio.pictures.get(key, made))
    return picture(data, format)


@router.get("/clips/{id}/proxy.mp4")
async def proxy(
    request: Request,
    studio: TheStudio,
    id: str,
    width: Width = 640,
    start: Start = 0.0,
    end: End = None,
    fps: Rate = None,
    range: Range = None,
) -> Response:
    """The trim as a small video of constant rate, frame for frame."""

    def made() -> Path:
        footage = _footage(studio, studio.clips.get(id), fps, start, end, range)
        return studio.videos(f"clip {id} {fps} {start} {end} {range}", footage.frames, footage.fps, width)

    return video(await in_own_thread(request, _short, studio, made))


@router.post("/example")
async def example(request: Request, studio: TheStudio) -> dict[str, Any]:
    """The clips of `gencompositor demo` and a project with them."""
    made = await in_own_thread(request, _example, studio)
    _warm_up()
    return made


def _warm_up() -> None:
    """Imports JAX and what previews need in a thread of its own, so that the first one needn't wait."""

    def load() -> None:
        import scipy.interpolate  # noqa: F401

        from gencompositor_jax.app import staging  # noqa: F401

    threading.Thread(target=load, name="warm up", daemon=True).start()


def _facts(studio: Studio, clip: Clip) -> dict[str, Any]:
    return facts(clip, studio.clips.media(clip), bytes_below(studio.clips.file(clip)))


def _footage(
    studio: Studio, clip: Clip, fps: float | None, start: float, end: float | None, range: str | None
) -> Footage:
    media = studio.clips.media(clip)
    trim = trimmed(media, start, end, fps, range)
    return read_footage(studio.frames, media, fps, *trim, alpha=media.has_alpha)


def trimmed(
    media: Media, start: float, end: float | None, fps: float | None, range: str | None
) -> tuple[float, float | None]:
    """Begin and end of a clip in seconds: those that are given, or of a range such as "1001-1049"."""
    return (start, end) if range is None else seconds_of(media, parse_range(range, "range"), fps)


def _short(studio: Studio, work: Any) -> Any:
    """The result of `work`, with messages in which clips have their names."""
    with studio.inputs.short_messages():
        return work()


def _example(studio: Studio) -> dict[str, Any]:
    from gencompositor_jax.controls.geometry.trajectory_text import parse_numbers, parse_trajectory
    from gencompositor_jax.controls.scene import Layer, Scene, scene_to_json
    from gencompositor_jax.data_pipelines.demo import DemoInputs, write_inputs

    background, foreground = (studio.clips.named(path) for path in EXAMPLE.values())
    if background is None or foreground is None:
        with Uploads(studio.service.incoming, 0) as made:  # for its folder, which is removed
            made.folder.mkdir(parents=True)
            inputs = write_inputs(made.folder, studio.metadata.arch.frames)
            background, foreground = (
                studio.clips.take(path, Path(getattr(inputs, name))) for name, path in EXAMPLE.items()
            )
    layer = Layer(
        foreground.path,
        parse_trajectory(DemoInputs.trajectory),
        scales=parse_numbers(DemoInputs.scale, "scale"),
    )
    return {
        "background": _facts(studio, background),
        "foreground": _facts(studio, foreground),
        "project": scene_to_json(Scene(background.path, (layer,))),
    }
