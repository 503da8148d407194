"""Routes that show what will be composited: elements, paths, tracked points, previews."""

from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request, Response

from gencompositor_jax import fields
from gencompositor_jax.app.answering import Kind, TheStudio, Width, in_own_thread, in_thread, picture, video
from gencompositor_jax.app.context import Studio
from gencompositor_jax.app.elements import coverage, cutting_of, key_name, whole_frame
from gencompositor_jax.app.motion import layer_path, path_json, tracked
from gencompositor_jax.app.pictures import check_frame, encoded
from gencompositor_jax.app.store import read_footage
from gencompositor_jax.controls import scene as scenes
from gencompositor_jax.controls.geometry.trajectory import Coordinate
from gencompositor_jax.controls.media.ranges import FrameRange, seconds_of
from gencompositor_jax.errors import InputError
from gencompositor_jax.fields import Text, Whole, within
from gencompositor_jax.serve.access import authorised
from gencompositor_jax.serve.receiving import read_object

router = APIRouter(prefix="/app", dependencies=[Depends(authorised)])

_Frame = Annotated[Whole, within(0, 10**6)]
_TRACK = fields.schema(
    "Track",
    background=Text,
    start=(scenes.Start, 0.0),
    end=(scenes.End | None, None),
    fps=(scenes.Rate | None, None),
    range=(FrameRange | None, None),
    frames=(_Frame | None, None),
    x=Coordinate,
    y=Coordinate,
    frame=(_Frame, 0),
)
_PREVIEW = fields.schema("Preview", project=dict[str, Any])
_Show = Annotated[str, Query(max_length=60, description="paste,mask,path; or input, matte, model.")]


@router.post("/elements")
async def cut_out(request: Request, studio: TheStudio) -> dict[str, Any]:
    """Cuts an element out; its frames are under the id."""
    value = await read_object(request, "element")
    return await in_own_thread(request, _element, studio, value)


@router.get("/elements/{id}/frames/{t}")
async def element_frame(
    request: Request,
    studio: TheStudio,
    id: str,
    t: int,
    width: Width = 640,
    format: Kind = "png",
    whole: bool = False,
) -> Response:
    """One frame of an element, on its canvas or in the whole frame of its clip."""

    def made() -> bytes:
        cutting = studio.recall("element", id)
        cutout = studio.element(cutting)
        check_frame(t, len(cutout.frames))
        if not whole:
            return encoded(cutout.frames[t], width, format)
        media = studio.resolved(cutting.layer.foreground)
        return encoded(whole_frame(cutout, t, (media.width, media.height)), width, format)

    key = ("element", id, t, width, format, whole)
    return picture(await in_thread(request, lambda: studio.pictures.get(key, made)), format)


@router.post("/path")
async def path(request: Request) -> dict[str, Any]:
    """Position, scale and rotation of a layer in every frame."""
    value = await read_object(request, "path")
    return path_json(await in_thread(request, layer_path, value))


@router.post("/track")
async def track(request: Request, studio: TheStudio) -> dict[str, Any]:
    """Follows a point of the background from any frame to both ends."""
    value = fields.read(_TRACK, await read_object(request, "track"), "track")

    def found() -> dict[str, Any]:
        media = studio.resolved(value.background)
        with studio.inputs.short_messages():
            trim = value.start, value.end
            if value.range is not None:
                trim = seconds_of(media, value.range, value.fps)
            footage = read_footage(studio.frames, media, value.fps, *trim, alpha=media.has_alpha)
            frames = footage.frames if value.frames is None else footage.frames[: value.frames]
            check_frame(value.frame, len(frames))
            return tracked(frames, (value.x, value.y), value.frame)

    return await in_own_thread(request, found)


@router.post("/previews")
async def place(request: Request, studio: TheStudio) -> dict[str, Any]:
    """Places a project's layers; what they look like is under the id."""
    value = fields.read(_PREVIEW, await read_object(request, "preview"), "preview")
    return await in_own_thread(request, _place, studio, value.project)


@router.get("/previews/{id}/frames/{t}")
async def preview_frame(
    request: Request,
    studio: TheStudio,
    id: str,
    t: int,
    width: Width = 640,
    format: Kind = "jpeg",
    show: _Show = "paste",
) -> Response:
    """One frame of a preview."""

    def made() -> bytes:
        from gencompositor_jax.app.previews import frames_of, parts_of
        from gencompositor_jax.app.staging import preview

        parts = parts_of(show)
        stage = preview(studio, id, studio.recall("preview", id)).stage
        check_frame(t, len(stage.background.frames))
        return encoded(frames_of(stage, parts)[t], width, format)

    key = ("preview", id, t, width, format, show)
    return picture(await in_thread(request, lambda: studio.pictures.get(key, made)), format)


@router.get("/previews/{id}/video.mp4")
async def preview_video(
    request: Request, studio: TheStudio, id: str, width: Width = 640, show: _Show = "paste"
) -> Response:
    """A whole preview as a small video."""
    return video(await in_own_thread(request, preview_file, studio, id, width, show))


def preview_file(studio: Studio, id: str, width: int, show: str) -> Path:
    """The file of a preview's video. Raises Forgotten, InputError."""
    from gencompositor_jax.app.previews import frames_of, parts_of
    from gencompositor_jax.app.staging import preview

    parts = parts_of(show)
    stage = preview(studio, id, studio.recall("preview", id)).stage
    frames = frames_of(stage, parts)
    return studio.videos(f"preview {id} {parts}", frames, stage.background.fps, width)


def _element(studio: Studio, value: dict[str, Any]) -> dict[str, Any]:
    cutting = cutting_of(value)
    cutout = studio.element(cutting)
    media = studio.resolved(cutting.layer.foreground)
    count, height, width = cutout.frames.shape[:3]
    return {
        "id": studio.remember("element", value, cutting),
        "frames": count,
        "fps": cutting.fps or media.fps,
        "width": width,
        "height": height,
        "left": cutout.corner[0],
        "top": cutout.corner[1],
        "clip": {"width": media.width, "height": media.height},
        "key": cutout.key,
        "key_name": key_name(cutout),
        "coverage": round(coverage(cutout), 4),
    }


def _place(studio: Studio, project: dict[str, Any]) -> dict[str, Any]:
    from gencompositor_jax.app.previews import facts
    from gencompositor_jax.app.staging import preview

    id = studio.remember("preview", project, project)
    try:
        return facts(preview(studio, id, project))
    except InputError as error:
        raise in_project(error, project) from error


def in_project(error: InputError, project: dict[str, Any]) -> InputError:
    """The error with the field of the project before it, where it begins with the name of a clip."""
    text = str(error).removeprefix("job: ")
    background, layers = project.get("background"), project.get("layers")
    places = [("remove", project.get("remove"))]
    for i, layer in enumerate(layers if isinstance(layers, list) else []):
        if isinstance(layer, dict):
            places += [(f"layers[{i}].{name}", layer.get(name)) for name in ("foreground", "mask")]
    if isinstance(background, dict):
        places.append(("background.path", background.get("path")))
    for place, name in places:
        if isinstance(name, str) and text.startswith((f"{name}:", f"{name!r}:")):
            return type(error)(f"{place}: {text}")
    return type(error)(text)
