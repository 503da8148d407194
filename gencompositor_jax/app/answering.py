"""What the studio's routes have in common: work in threads, pictures that don't change, and who may ask."""

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import anyio.to_thread
from fastapi import Depends, Query, Request
from fastapi.responses import FileResponse, Response
from starlette.requests import ClientDisconnect

from gencompositor_jax.app.context import Studio
from gencompositor_jax.app.pictures import Format

T = TypeVar("T")

UNCHANGING = {"Cache-Control": "private, max-age=86400, immutable"}

Width = Annotated[int, Query(ge=16, le=4096, description="The most pixels; nothing is enlarged.")]
Kind = Annotated[Format, Query(alias="format")]
Start = Annotated[float, Query(ge=0, le=1e9, allow_inf_nan=False, description="Seconds.")]
End = Annotated[float | None, Query(gt=0, le=1e9, allow_inf_nan=False, description="Seconds.")]
Rate = Annotated[float | None, Query(ge=1e-3, le=1000, allow_inf_nan=False)]

Range = Annotated[str | None, Query(max_length=21, description="Instead of these: first and last frame.")]


def the_studio(request: Request) -> Studio:
    """The studio behind a request."""
    studio: Studio = request.app.state.studio
    return studio


TheStudio = Annotated[Studio, Depends(the_studio)]


async def in_thread(request: Request, work: Callable[..., T], *args: Any) -> T:
    """The result of work that reads or draws a frame or two; a few at a time."""
    return await anyio.to_thread.run_sync(functools.partial(work, *args), limiter=request.app.state.looks)


async def in_own_thread(request: Request, work: Callable[..., T], *args: Any) -> T:
    """The result of work on whole clips, which may take a minute: frames are shown meanwhile.

    Raises ClientDisconnect where the page has given up by the time it is the request's turn.
    """
    async with request.app.state.works:
        if await request.is_disconnected():
            raise ClientDisconnect
        return await anyio.to_thread.run_sync(functools.partial(work, *args))


def picture(data: bytes, kind: Format) -> Response:
    """An encoded frame."""
    return Response(data, media_type=f"image/{kind}", headers=UNCHANGING)


def video(path: Path) -> Response:
    """A small video, or ranges of it. Its file may be removed as soon as it is open."""
    return FileResponse(path, media_type="video/mp4", headers=UNCHANGING)


def bytes_below(path: Path) -> int:
    """Bytes of a file, or of the files in a folder."""
    if path.is_dir():
        return sum(entry.stat().st_size for entry in os.scandir(path))
    return path.stat().st_size
