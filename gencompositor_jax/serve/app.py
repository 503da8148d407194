"""The application: routes, errors, health, metrics and the OpenAPI page around a `jobs.service.Service`."""

import dataclasses
import math
import re
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import anyio
import anyio.to_thread
from fastapi import Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi_offline import FastAPIOffline
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import ClientDisconnect

from gencompositor_jax import __version__
from gencompositor_jax.controls.scene import Layer, Scene
from gencompositor_jax.errors import InputError
from gencompositor_jax.jobs.queue import OtherJob, QueueFull
from gencompositor_jax.jobs.service import Service
from gencompositor_jax.jobs.spec import FIELDS
from gencompositor_jax.jobs.uploads import DiskFull, TooLarge
from gencompositor_jax.serve.access import LocalOnly, authorised
from gencompositor_jax.serve.metrics import CountRequests, Metrics
from gencompositor_jax.serve.receiving import Malformed
from gencompositor_jax.serve.routes import router
from gencompositor_jax.serve.schema import Health

CHECKS = 4  # submissions whose clips are looked at at once: other requests have threads of their own
_FIELD = re.compile(
    r"(?:(?:job|project|preview|element|path|track): )*"
    r"(([a-z_]+)(?:\[\d+\])?(?:\.[a-z_]+(?:\[\d+\])?)*): "
)
_KNOWN = {*FIELDS, *(field.name for kind in (Scene, Layer) for field in dataclasses.fields(kind))}
STATUS: dict[type[Exception], int] = {
    Malformed: 400,
    ClientDisconnect: 400,  # nobody is there to read it
    OtherJob: 409,
    TooLarge: 413,
    InputError: 422,
    DiskFull: 507,
}


def create_app(service: Service, token: str | None) -> FastAPI:
    """The application, which starts the service and stops it.

    token: that clients must send; None serves the programs of this machine only.
    """
    app = FastAPIOffline(
        title="gencompositor",
        version=__version__,
        description="An element, a background and a trajectory become one video.",
        redoc_url=None,
        static_url="/docs/static",
        lifespan=lifespan_of(service),
    )
    offer(app, service, token)
    return app


def lifespan_of(service: Service) -> Callable[[FastAPI], AbstractAsyncContextManager[None]]:
    """Starts the service with an application, and stops it."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.checks = anyio.CapacityLimiter(CHECKS)
        await anyio.to_thread.run_sync(service.start)
        yield
        await anyio.to_thread.run_sync(service.stop)

    return lifespan


def offer(app: FastAPI, service: Service, token: str | None) -> None:
    """Adds a service's routes, and the answers to all that can go wrong, to an application."""
    metrics = Metrics(service.queue)
    service.listeners.append(metrics.job_changed)
    app.state.service, app.state.token, app.state.metrics = service, token, metrics
    app.include_router(router)
    app.add_api_route("/health", _health(service), methods=["GET"], response_model=Health, summary="Health")
    app.add_api_route(
        "/metrics",
        lambda: Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST),
        methods=["GET"],
        dependencies=[Depends(authorised)],
        response_class=Response,
        summary="Metrics in Prometheus's format",
    )
    for kind, status in STATUS.items():
        app.add_exception_handler(kind, _answer(status))
    app.add_exception_handler(QueueFull, _full)
    app.add_exception_handler(RequestValidationError, _invalid)
    if token is None:
        app.add_middleware(LocalOnly)
    app.add_middleware(CountRequests, metrics=metrics)


def _health(service: Service) -> Callable[[Response], Health]:
    def health(response: Response) -> Health:
        """Whether the service takes and runs jobs; 503 if it can't run any."""
        counts = service.queue.counts()
        if service.broken:
            response.status_code = 503
        return Health(
            status="broken" if service.broken else "ok",
            version=__version__,
            queued=counts["queued"],
            running=counts["running"],
        )

    return health


def field_of(detail: str) -> str | None:
    """The field that a message begins with, as `layers[0].scales`; None if it begins with something else."""
    found = _FIELD.match(detail)
    return found[1] if found is not None and found[2] in _KNOWN else None


def _answer(status: int) -> Callable[[Request, Exception], Response]:
    def answer(_: Request, error: Exception) -> Response:
        detail = " ".join(str(error).split())
        return JSONResponse({"detail": detail, "field": field_of(detail)}, status)

    return answer


def _full(_: Request, error: Exception) -> Response:
    assert isinstance(error, QueueFull)
    return JSONResponse({"detail": str(error)}, 429, {"Retry-After": str(math.ceil(error.retry_after))})


def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = error.errors()[0]
    return JSONResponse({"detail": f"{'.'.join(map(str, found['loc']))}: {found['msg']}"}, 422)
