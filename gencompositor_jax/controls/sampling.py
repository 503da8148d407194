"""How a composite is sampled: one set of options, with its defaults and its checks, for every door.

The command line, project files, `Compositor`, batches and evaluation all read these fields; nothing else
holds a default for any of them.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from typing import TypedDict, get_args

from gencompositor_jax import fields
from gencompositor_jax.arch import DiffusionArch, Solver
from gencompositor_jax.controls.geometry.detail import Detail
from gencompositor_jax.diffusion import approximations

MAX_SEED = 2**32 - 1


@dataclasses.dataclass(frozen=True)
class SamplingOptions:
    """What decides the result besides the model and its inputs; checked when it is made.

    Raises InputError naming the field.
    """

    steps: int | None = None  # of the solver, 1 to 1000; None: what the checkpoint is meant for
    seed: int = 42  # 0 to 2^32 - 1; the same seed gives the same frames
    solver: Solver | None = None  # likewise
    paste_back: bool = True  # composite the result into the background at its own size
    feather: float = 2.0  # soft edge of the paste-back, in model pixels
    detail: Detail = "auto"  # of the pasted element: its own pixels ("element"), the model's, or by region
    prompt: str | None = None  # name of a prompt that the checkpoint stores; None is the empty prompt
    guidance: float = 6.0  # classifier-free guidance scale; without a prompt it has no effect
    fast: str | None = None  # approximations: drop-blank, cache:N or both; None is the exact pass

    def __post_init__(self) -> None:
        fields.check(self, READERS)
        if self.steps is not None:
            approximations.parse(self.fast).check(self.steps)

    def schedule(self, diffusion: DiffusionArch) -> tuple[int, Solver]:
        """Number of steps and solver: these options', or else those that a checkpoint is meant for.

        Raises InputError where an approximation needs more steps.
        """
        steps = diffusion.steps if self.steps is None else self.steps
        approximations.parse(self.fast).check(steps)
        return steps, self.solver or diffusion.solver

    def settled(self, diffusion: DiffusionArch) -> "SamplingOptions":
        """The same with the number of steps and the solver written out."""
        steps, solver = self.schedule(diffusion)
        return dataclasses.replace(self, steps=steps, solver=solver)

    @property
    def guided(self) -> bool:
        """Whether a step evaluates the network twice: the empty prompt needs no guidance at any scale."""
        return self.prompt is not None and self.guidance != 1


class Sampling(TypedDict, total=False):
    """The fields of `SamplingOptions` as keyword arguments."""

    steps: int | None
    seed: int
    solver: Solver | None
    paste_back: bool
    feather: float
    detail: Detail
    prompt: str | None
    guidance: float
    fast: str | None


def _fast(value: object, where: str) -> str | None:
    return str(approximations.parse(fields.text(value, where), where)) or None


READERS: Mapping[str, fields.Reader] = {
    "steps": fields.optional(partial(fields.integer, low=1, high=1000)),
    "seed": partial(fields.integer, low=0, high=MAX_SEED),
    "solver": fields.optional(partial(fields.choice, options=get_args(Solver))),
    "paste_back": fields.flag,
    "feather": partial(fields.number, low=0, high=1000),
    "detail": partial(fields.choice, options=get_args(Detail)),
    "prompt": fields.optional(fields.text),
    "guidance": partial(fields.number, low=0, high=100),
    "fast": fields.optional(_fast),
}
