"""The routes: submit, follow, cancel, fetch, remove."""

import asyncio
import dataclasses
import datetime
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Depends, Header, HTTPException, Query, Request, Response
from fastapi.responses import FileResponse, JSONResponse
from fastapi.sse import EventSourceResponse, ServerSentEvent

from gencompositor_jax.controls.scene import read_scene, scene_to_json, with_paths
from gencompositor_jax.jobs.events import Event
from gencompositor_jax.jobs.inputs import OUT
from gencompositor_jax.jobs.report import JobFiles
from gencompositor_jax.jobs.service import Service
from gencompositor_jax.jobs.table import FINISHED, Entry, State
from gencompositor_jax.serve import schema
from gencompositor_jax.serve.access import authorised
from gencompositor_jax.serve.receiving import read_submission

_FILES = JobFiles(Path(OUT))

router = APIRouter(prefix="/v1", dependencies=[Depends(authorised)])


def the_service(request: Request) -> Service:
    """The service behind a request."""
    service: Service = request.app.state.service
    return service


TheService = Annotated[Service, Depends(the_service)]


def the_job(id: str, service: TheService) -> Entry:
    """The job that a path names. Raises 404."""
    entry = service.queue.get(id)
    if entry is None:
        raise HTTPException(404, f"no job {id[:40]!r}; finished ones are removed after some time")
    return entry


TheJob = Annotated[Entry, Depends(the_job)]


@router.post(
    "/jobs",
    status_code=202,
    responses=schema.REFUSALS,
    openapi_extra=schema.SUBMISSION,
    summary="Submit a job",
)
async def submit(
    request: Request,
    response: Response,
    service: TheService,
    idempotency_key: Annotated[
        str | None,
        Header(max_length=200, description="Any text of yours: sent again with it, a job is submitted once."),
    ] = None,
) -> schema.JobAndRequest:
    """Checks the fields and the headers of all clips, and appends the job to the queue."""
    with service.uploads() as uploads:
        fields = await read_submission(request, uploads)
        given = uploads if uploads.digests else None
        entry = await anyio.to_thread.run_sync(
            service.submit, fields, given, idempotency_key, limiter=request.app.state.checks
        )
        request.app.state.metrics.upload.inc(uploads.size)
    response.headers["Location"] = f"/v1/jobs/{entry.id}"
    return _with_request(service, entry)


@router.get("/jobs", responses={401: schema.REFUSALS[401]}, summary="List jobs")
def newest(
    service: TheService,
    state: Annotated[State | None, Query(description="Only these.")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
) -> list[schema.JobView]:
    """The newest jobs first."""
    return [view(service, entry) for entry in service.queue.newest(limit, state)]


@router.get("/jobs/{id}", responses=schema.MISSING, summary="Look at a job")
def look(service: TheService, entry: TheJob) -> schema.JobAndRequest:
    """Its state and progress, and the fields as they were submitted."""
    return _with_request(service, entry)


@router.get(
    "/jobs/{id}/events",
    response_class=EventSourceResponse,
    responses=schema.MISSING,
    summary="Follow a job",
)
async def follow(service: TheService, entry: TheJob) -> AsyncIterator[ServerSentEvent]:
    """Server-sent events, each with the whole job as data: one now, one per change and sampling step.

    They are called after its state; the stream ends after `done`, `failed` or `cancelled`.
    """
    loop, arrived = asyncio.get_running_loop(), asyncio.Queue[Event | None]()

    def listen(event: Event | None) -> None:
        loop.call_soon_threadsafe(arrived.put_nowait, event)

    with service.events.listening(entry.id, listen):
        event = service.events.latest(entry.id)
        while True:
            now = await anyio.to_thread.run_sync(service.queue.get, entry.id)
            if now is None:
                return
            if event is not None and not event.last:  # by now it may be over, but each step has its event
                now = dataclasses.replace(now, state="running", finished=None, error=None)
            yield ServerSentEvent(event=now.state, data=view(service, now, event))
            if now.state in FINISHED:
                return
            event = await arrived.get()
            if event is None:
                return


@router.post("/jobs/{id}/cancel", status_code=202, responses=schema.MISSING, summary="Cancel a job")
def cancel(service: TheService, entry: TheJob) -> schema.JobView:
    """A waiting job is cancelled at once, a running one after its current step; a finished one stays."""
    return view(service, service.queue.cancel(entry.id) or entry)


@router.get(
    "/jobs/{id}/result",
    response_class=FileResponse,
    responses=schema.NOT_YET | {200: {"content": {"video/mp4": {}}}},
    summary="Fetch the video",
)
def result(service: TheService, entry: TheJob) -> FileResponse:
    """The composite; ranges of it as well."""
    return _file(service, entry, _FILES.video.name, "video/mp4")


@router.get(
    "/jobs/{id}/report",
    response_class=FileResponse,
    responses=schema.NOT_YET | {200: {"content": {"application/json": {}}}},
    summary="Fetch the report",
)
def report(service: TheService, entry: TheJob) -> FileResponse:
    """Settings, versions and timings."""
    return _file(service, entry, _FILES.report.name, "application/json")


@router.get(
    "/jobs/{id}/project",
    responses=schema.NOT_YET,
    summary="Fetch the project file",
)
def project(service: TheService, entry: TheJob) -> JSONResponse:
    """What reproduces the job, with its clips as the client named them."""
    scene = read_scene(_path(service, entry, _FILES.project.name))
    inputs = service.inputs_of(entry.id)
    named = scene_to_json(with_paths(scene, inputs.shortened))
    name = f'attachment; filename="{entry.id}.scene.json"'
    return JSONResponse(named, headers={"Content-Disposition": name})


@router.get(
    "/jobs/{id}/sheet",
    response_class=FileResponse,
    responses=schema.NOT_YET | {200: {"content": {"image/png": {}}}},
    summary="Fetch the contact sheet",
)
def sheet(service: TheService, entry: TheJob) -> FileResponse:
    """Input, mask, foreground and result at five times."""
    return _file(service, entry, _FILES.sheet.name, "image/png")


@router.get(
    "/jobs/{id}/layer",
    response_class=FileResponse,
    responses=schema.NOT_YET | {200: {"content": {"video/quicktime": {}}}},
    summary="Fetch the edit as a layer",
)
def layer(service: TheService, entry: TheJob) -> FileResponse:
    """ProRes 4444 with straight alpha, of a job with `layer`."""
    if not entry.request.get("layer"):
        raise HTTPException(404, f"job {entry.id} has no layer; submit it again with layer: true")
    return _file(service, entry, _FILES.layer.name, "video/quicktime")


@router.delete("/jobs/{id}", status_code=204, responses=schema.NOT_YET, summary="Remove a finished job")
def remove(service: TheService, entry: TheJob) -> None:
    """Its files as well. Cancel a job first if it isn't finished."""
    if not service.remove(entry.id):
        raise HTTPException(409, f"job {entry.id} is {entry.state}; cancel it first")


def view(service: Service, entry: Entry, event: Event | None = None) -> schema.JobView:
    """A job as clients see it, at the step of an event, or at the last one."""
    progress = None
    if entry.state == "running":
        event = event or service.events.latest(entry.id)
        progress = schema.Progress(done=event.done, total=event.total) if event else None
    return schema.JobView(
        id=entry.id,
        state=entry.state,
        before=service.queue.before(entry) if entry.state == "queued" else None,
        progress=progress,
        created=_time(entry.created) or "",
        started=_time(entry.started),
        finished=_time(entry.finished),
        seconds=None if entry.seconds is None else round(entry.seconds, 3),
        device=entry.device,
        error=entry.error,
    )


def _with_request(service: Service, entry: Entry) -> schema.JobAndRequest:
    return schema.JobAndRequest(**view(service, entry).model_dump(), request=dict(entry.request))


def _file(service: Service, entry: Entry, name: str, kind: str) -> FileResponse:
    path = _path(service, entry, name)
    return FileResponse(path, media_type=kind, filename=f"{entry.id}{path.suffix}")


def _path(service: Service, entry: Entry, name: str) -> Path:
    """A file of a done job. Raises 409 or 404."""
    if entry.state != "done":
        raise HTTPException(409, f"job {entry.id} is {entry.state}; only done jobs have results")
    path = service.folder_of(entry.id) / name
    if not path.is_file():
        raise HTTPException(404, f"the files of job {entry.id} are gone")
    return path


def _time(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    moment = datetime.datetime.fromtimestamp(seconds, datetime.UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
