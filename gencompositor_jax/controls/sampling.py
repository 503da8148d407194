"""How a composite is sampled: one set of options, with its defaults and its checks, for every door.

The command line, project files, `Compositor`, batches and evaluation all read these fields; nothing else
holds a default for any of them.
"""

import dataclasses
from typing import Annotated, TypedDict

from pydantic import AfterValidator

from gencompositor_jax.arch import DiffusionArch, Solver
from gencompositor_jax.controls.geometry.detail import Detail
from gencompositor_jax.diffusion import approximations
from gencompositor_jax.fields import Flag, Number, Text, Whole, checked, within

MAX_SEED = 2**32 - 1


def _fast(text: str) -> str | None:
    return str(approximations.parse(text)) or None


@checked
@dataclasses.dataclass(frozen=True)
class SamplingOptions:
    """What decides the result besides the model and its inputs; checked when it is made.

    Raises InputError naming the field.
    """

    # Of the solver; None, here and below: what the checkpoint is meant for.
    steps: Annotated[Whole, within(1, 1000)] | None = None
    seed: Annotated[Whole, within(0, MAX_SEED)] = 42  # the same seed gives the same frames
    solver: Solver | None = None
    paste_back: Flag = True  # composite the result into the background at its own size
    feather: Annotated[Number, within(0, 1000)] = 2.0  # soft edge of the paste-back, in model pixels
    detail: Detail = "auto"  # of the pasted element: its own pixels ("element"), the model's, or by region
    prompt: Text | None = None  # name of a prompt that the checkpoint stores; None is the empty prompt
    # Classifier-free guidance scale; without a prompt it has no effect.
    guidance: Annotated[Number, within(0, 100)] = 6.0
    # Approximations: drop-blank, cache:N or both; None is the exact pass.
    fast: Annotated[Text, AfterValidator(_fast)] | None = None

    def __post_init__(self) -> None:
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
