"""Routes of the studio itself, of project files, and of what a run looks like while it is made."""

import hmac
import json
from typing import Any

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import FileResponse

from gencompositor_jax import __version__, fields
from gencompositor_jax.app.access import COOKIE
from gencompositor_jax.app.answering import TheStudio, in_own_thread, in_thread, video
from gencompositor_jax.app.look_routes import preview_file
from gencompositor_jax.app.projects import checked_project, opened_project
from gencompositor_jax.jobs.models import ESTIMATE
from gencompositor_jax.serve.access import authorised
from gencompositor_jax.serve.receiving import read_object
from gencompositor_jax.serve.routes import TheJob

LIMITS = ("queue", "upload_mib", "frames", "megapixels", "layers", "minutes", "keep_hours")
NATIVE = 8192  # pixels; no clip is wider

public = APIRouter(prefix="/app")
router = APIRouter(dependencies=[Depends(authorised)])

_PROJECT = fields.schema("Project", project=dict[str, Any])
_LOGIN = fields.schema("Login", token=fields.Text)


@public.get("/state")
def state(request: Request, studio: TheStudio) -> dict[str, Any]:
    """The version, the limits, and whether the page needs a token."""
    token, given = request.app.state.token, request.headers.get("authorization", "")
    limits = {name: getattr(studio.service.limits, name) for name in LIMITS}
    return {
        "version": __version__,
        "needs_token": token is not None,
        "signed_in": token is None or hmac.compare_digest(given.encode(), f"Bearer {token}".encode()),
        "limits": limits,
        "kept": studio.kept,
    }


@public.post("/login", status_code=204)
async def login(request: Request, response: Response) -> None:
    """Keeps a token in a cookie that scripts can't read."""
    given = fields.read(_LOGIN, await read_object(request, "login"), "login").token
    token = request.app.state.token
    if token is not None and not hmac.compare_digest(given.encode(), token.encode()):
        raise HTTPException(401, "token: another one; look where the studio was started")
    if token is not None:
        secure = request.url.scheme == "https"
        response.set_cookie(COOKIE, token, path="/", secure=secure, httponly=True, samesite="strict")


@public.post("/logout", status_code=204)
def logout(response: Response) -> None:
    """Forgets the token."""
    response.delete_cookie(COOKIE, path="/", httponly=True, samesite="strict")


@router.get("/app/model")
async def model(request: Request, studio: TheStudio) -> dict[str, Any]:
    """What the model makes; reads no weights."""
    found = await in_thread(request, lambda: studio.metadata)
    arch = found.arch
    return {
        "checkpoint": studio.checkpoint or "embedded",
        "frames": arch.frames,
        "height": arch.height,
        "width": arch.width,
        "steps": arch.diffusion.steps,
        "solver": arch.diffusion.solver,
        "prompts": sorted(found.prompts),
    }


@router.post("/app/project/check")
async def check(request: Request) -> dict[str, Any]:
    """A project with all of its fields."""
    return {"project": checked_project(await _project(request))}


@router.post("/app/project/open")
async def open_file(request: Request, studio: TheStudio) -> dict[str, Any]:
    """A project file of the user's with this studio's clips."""
    value = await read_object(request, "project")

    def named(name: str) -> str | None:
        clip = studio.clips.named(name)
        return None if clip is None else clip.path

    return opened_project(value, named)


@router.post("/app/project/save")
async def save_file(request: Request) -> Response:
    """A project file to keep beside the clips."""
    text = json.dumps(checked_project(await _project(request)), indent=2) + "\n"
    name = {"Content-Disposition": 'attachment; filename="studio.scene.json"'}
    return Response(text, media_type="application/json", headers=name)


@router.get("/v1/jobs/{id}/estimate")
def estimate(studio: TheStudio, entry: TheJob) -> Response:
    """One frame of the sampler's present estimate, as the model sees it."""
    path = studio.service.folder_of(entry.id) / ESTIMATE
    if not path.is_file():
        raise HTTPException(404, f"job {entry.id} is {entry.state}; there is no estimate of it now")
    return FileResponse(path, media_type="image/webp", headers={"Cache-Control": "no-store"})


@router.get("/v1/jobs/{id}/input")
async def original(request: Request, studio: TheStudio, entry: TheJob) -> Response:
    """The background's frames that a job composites over, as a video like its result."""
    project = entry.request.get("project")
    if not isinstance(project, dict):
        raise HTTPException(404, f"job {entry.id} has no project in its request")

    def made() -> Any:
        id = studio.remember("preview", project, project)
        return preview_file(studio, id, NATIVE, "input")

    return video(await in_own_thread(request, made))


async def _project(request: Request) -> dict[str, Any]:
    body = fields.read(_PROJECT, await read_object(request, "body"), "body")
    found: dict[str, Any] = body.project
    return found
