"""The studio's application: the page, the routes it calls, and the service that runs its jobs."""

import asyncio
import contextlib
import mimetypes
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import anyio
import anyio.to_thread
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException as StarletteError
from starlette.middleware.gzip import GZipMiddleware
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from gencompositor_jax import __version__
from gencompositor_jax.app import clip_routes, look_routes, project_routes
from gencompositor_jax.app.access import SameOrigin, SecurityHeaders, TokenCookie
from gencompositor_jax.app.clips import Clips, InUse, NoClip
from gencompositor_jax.app.context import Forgotten, Studio
from gencompositor_jax.app.videos import Videos
from gencompositor_jax.jobs.limits import Limits
from gencompositor_jax.jobs.service import Runner, Service
from gencompositor_jax.serve.app import lifespan_of, offer

STATIC = Path(__file__).parent / "static"
LOOKS = 4  # frames that are made at once
WORKS = 2  # elements, previews and videos
SWEEP_S = 60.0  # between two removals of old clips
STATUS: dict[type[Exception], int] = {NoClip: 404, Forgotten: 404, InUse: 409}


def make_studio(
    folder: Path, limits: Limits, runner: Runner, checkpoint: str | None = None, kept: bool = False
) -> Studio:
    """The studio of a folder, and the service in it."""
    clips = Clips(folder, limits.megapixels)
    studio = Studio(
        Service(folder, clips.root, limits, runner), clips, Videos(folder / "videos"), checkpoint, kept
    )
    studio.service.listeners.append(studio.note_use)
    return studio


def create_app(studio: Studio, token: str | None) -> FastAPI:
    """The application, which starts the studio's service and stops it.

    token: that browsers must send; None serves those of this machine only.
    """
    app = FastAPI(
        title="gencompositor studio",
        version=__version__,
        openapi_url=None,
        redirect_slashes=False,
        lifespan=_lifespan(studio),
    )
    app.state.studio = studio
    offer(app, studio.service, token)
    for each in (project_routes.public, project_routes.router, clip_routes.router, look_routes.router):
        app.include_router(each)
    for kind, status in STATUS.items():
        app.add_exception_handler(kind, _answer(status))
    app.add_exception_handler(StarletteError, _plain)
    app.mount("/static", GZipMiddleware(Files(directory=STATIC)))
    app.add_api_route("/", page, methods=["GET", "HEAD"], include_in_schema=False)
    for middleware in (SameOrigin, TokenCookie, SecurityHeaders):  # the last one is the outermost
        app.add_middleware(middleware)
    return app


async def page(request: Request) -> Response:
    """The page."""
    return await Files(directory=STATIC).get_response("index.html", request.scope)


class Files(StaticFiles):
    """The page's files: a browser asks each time whether they have changed."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        """A file, or 304. Raises 404."""
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response


def _lifespan(studio: Studio) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    service = lifespan_of(studio.service)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.looks, app.state.works = anyio.CapacityLimiter(LOOKS), anyio.CapacityLimiter(WORKS)
        async with service(app):
            sweeping = asyncio.create_task(_sweep(studio))
            yield
            sweeping.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sweeping

    return lifespan


async def _sweep(studio: Studio) -> None:
    while True:
        await asyncio.sleep(SWEEP_S)
        await anyio.to_thread.run_sync(studio.sweep)


def _answer(status: int) -> Callable[[Request, Exception], Response]:
    return lambda _, error: JSONResponse({"detail": str(error)}, status)


def _plain(_: Request, error: Exception) -> Response:
    assert isinstance(error, StarletteError)
    return JSONResponse({"detail": str(error.detail)}, error.status_code, error.headers)


mimetypes.add_type("text/javascript", ".js")  # whatever the system says
