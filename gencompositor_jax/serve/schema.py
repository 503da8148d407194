"""What the OpenAPI page says: the fields of a job, examples, and the responses."""

from typing import Any, Literal, get_args

from pydantic import BaseModel, Field

from gencompositor_jax.arch.parts import LatentMaskRule, Solver, Tiles
from gencompositor_jax.controls.element.alpha import AlphaKind
from gencompositor_jax.controls.element.loading import Extend
from gencompositor_jax.controls.geometry.detail import Detail
from gencompositor_jax.controls.geometry.easing import Easing
from gencompositor_jax.controls.geometry.placement import Anchor
from gencompositor_jax.controls.geometry.window import Framing
from gencompositor_jax.controls.media.images import Gaps
from gencompositor_jax.jobs.table import State

_PATH = "upload:NAME for a file of this request, or a path below the service's folder"
_TEXT: dict[str, Any] = {"type": "string"}
_NUMBER: dict[str, Any] = {"type": "number"}
_NUMBERS: dict[str, Any] = {"oneOf": [_NUMBER, {"type": "array", "items": _NUMBER}]}
_INTEGER: dict[str, Any] = {"type": "integer"}
_FLAG: dict[str, Any] = {"type": "boolean"}


def _one_of(kind: Any) -> dict[str, Any]:
    """The values of a Literal."""
    return {"type": "string", "enum": list(get_args(kind))}


# `jobs.spec` checks them; this only describes them.
FIELDS: dict[str, dict[str, Any]] = {
    "background": _TEXT | {"description": f"Video or folder of images: {_PATH}."},
    "foreground": _TEXT | {"description": "Clip of the element, likewise."},
    "trajectory": {
        "description": 'Points in background pixels, "120,130 360,90" or [[120, 130], [360, 90]]; '
        '"track:x,y"; a .txt or .json file; or the trajectory object of a project file.'
    },
    "project": {
        "oneOf": [_TEXT, {"type": "object"}],
        "description": "A project file, or what stands in one, instead of the three above.",
    },
    "layer": _FLAG | {"description": "Also write the edit as a layer.", "default": False},
    "relative": _FLAG | {"description": "The trajectory is in relative coordinates, 0 to 1."},
    "timing": _one_of(Literal["arc", "frames"]),
    "scale": _NUMBERS | {"description": "Background pixels per pixel of the element; several: key frames."},
    "rotation": _NUMBERS | {"description": "Degrees counter-clockwise, likewise."},
    "anchor": _one_of(Anchor),
    "key": _TEXT | {"description": "auto, alpha, white, green, blue or #RRGGBB."},
    "alpha": _one_of(AlphaKind),
    "mask": _TEXT | {"description": f"White where the element is: {_PATH}."},
    "segment": _TEXT
    | {"description": "auto, point:x,y, box:x,y,x,y, or words: what to cut out of its clip."},
    "extend": _one_of(Extend),
    "in_frame": _INTEGER | {"description": "First frame of the result with the element, from 0."},
    "out_frame": _INTEGER | {"description": "The last one. Default: the result's."},
    "easing": _one_of(Easing),
    "frames": _INTEGER | {"description": "Of the result. Default: the background's, or a shorter element's."},
    "gaps": _one_of(Gaps),
    "plate_colour": _TEXT | {"description": "Of the background: sRGB, HLG, PQ, linear, ACEScg, ..."},
    "fps": _NUMBER,
    "start": _NUMBER | {"description": "Seconds into the background."},
    "end": _NUMBER,
    "range": {
        "type": "array",
        "items": _INTEGER,
        "description": "First and last frame of the background, in its own numbers.",
    },
    "framing": _one_of(Framing),
    "weights": _TEXT | {"description": "As the service was started with."},
    "tiles": _one_of(Tiles),
    "sigma": _NUMBER | {"description": "Of the mask's inflation, in model pixels."},
    "tau": _NUMBER,
    "latent_mask": _one_of(LatentMaskRule),
    "steps": _INTEGER | {"description": "Of the solver, 1 to 1000. Default: the checkpoint's."},
    "seed": _INTEGER | {"description": "The same seed gives the same frames.", "default": 42},
    "solver": _one_of(Solver) | {"description": "Default: the checkpoint's."},
    "paste_back": _FLAG | {"default": True},
    "feather": _NUMBER,
    "detail": _one_of(Detail),
    "prompt": _TEXT | {"description": "Name of a prompt that the checkpoint stores."},
    "guidance": _NUMBER,
    "fast": _TEXT | {"description": "Approximations: drop-blank, cache:N, or both."},
}
_JOB = {"type": "object", "additionalProperties": False, "properties": FIELDS}
_TRAJECTORY = {"trajectory": "120,130 360,90 600,200", "scale": 0.6, "seed": 7}

SUBMISSION: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": _JOB,
                "examples": {
                    "files below the service's folder": {
                        "value": {"background": "street.mp4", "foreground": "bird.mov", **_TRAJECTORY}
                    },
                    "a project file": {"value": {"project": "street/out.scene.json", "seed": 8}},
                },
            },
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["job"],
                    "properties": {
                        "job": {"type": "string", "description": "The fields as JSON."},
                        "file": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "description": "Files; upload:NAME in a field is the one of that name.",
                        },
                    },
                },
                "example": {
                    "job": '{"background": "upload:street.mp4", "foreground": "upload:bird.mov", '
                    '"trajectory": "120,130 360,90 600,200", "scale": 0.6}'
                },
            },
        },
    }
}


class Progress(BaseModel):
    """Sampling steps of all layers."""

    done: int = Field(examples=[6])
    total: int = Field(description="0 until sampling has begun.", examples=[20])


class JobView(BaseModel):
    """A job as clients see it. Times are ISO 8601, in UTC."""

    id: str = Field(examples=["9f3c2b61d0a84e75"])
    state: State
    before: int | None = Field(description="Jobs that wait before this one, if it waits.", examples=[None])
    progress: Progress | None = Field(description="While it runs.")
    created: str = Field(examples=["2026-01-31T12:00:00.250Z"])
    started: str | None = Field(examples=["2026-01-31T12:00:01.500Z"])
    finished: str | None = Field(examples=[None])
    seconds: float | None = Field(description="That it ran.", examples=[None])
    device: str | None = Field(examples=["cpu:0"])
    error: str | None = Field(description="Of a failed job, in one line.", examples=[None])


class JobAndRequest(JobView):
    """A job and what it was submitted as."""

    request: dict[str, Any] = Field(description="The fields as they were submitted.")


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str = Field(examples=["job: steps: 0 must be within 1..1000"])
    field: str | None = Field(None, description="That the detail begins with.", examples=["steps"])


class Health(BaseModel):
    """Whether the service takes and runs jobs."""

    status: Literal["ok", "broken"]
    version: str
    queued: int
    running: int


REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"model": Problem, "description": "The body isn't what its Content-Type announces."},
    401: {"model": Problem, "description": "The token is missing or wrong."},
    408: {"model": Problem, "description": "The body arrives too slowly."},
    409: {"model": Problem, "description": "The Idempotency-Key belongs to another job."},
    413: {"model": Problem, "description": "The body or a file is too large."},
    415: {"model": Problem, "description": "Neither JSON nor multipart."},
    422: {"model": Problem, "description": "A field or file can't be used; `detail` names it."},
    429: {"model": Problem, "description": "The queue is full; Retry-After has the seconds to wait."},
    507: {"model": Problem, "description": "The service's disk is full."},
}
MISSING: dict[int | str, dict[str, Any]] = {
    401: REFUSALS[401],
    404: {"model": Problem, "description": "No such job; finished ones are removed after some time."},
}
NOT_YET: dict[int | str, dict[str, Any]] = MISSING | {
    409: {"model": Problem, "description": "The job isn't in a state for this; `detail` says in which it is."}
}
