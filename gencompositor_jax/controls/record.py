"""The record in a project file: what made a result, so that it can be made again."""

import dataclasses
from typing import Annotated

from pydantic import Field

from gencompositor_jax.controls.media.ranges import FrameRange
from gencompositor_jax.fields import Count, Positive, Text, checked
from gencompositor_jax.versions import NAMES


@checked
@dataclasses.dataclass(frozen=True)
class Pixels:
    """What the values of files mean."""

    depth: Text  # bits of a value, "half" or "float"
    colour: Text  # a name of `--plate-colour`, or what the file states


WORKING = Pixels("8", "sRGB")  # of the picture that the model sees


@checked
@dataclasses.dataclass(frozen=True)
class Record:
    """What made a result, besides the fields of its scene."""

    weights: Annotated[Text, Field(pattern=r"^[0-9a-f]{64}$")]  # SHA-256, of `checkpoints.weights_hash`
    versions: dict[str, Text]
    device: Text
    frames: FrameRange  # first and last, in the plate's own numbers
    size: tuple[Count, Count]  # (width, height)
    fps: Positive
    plate: Pixels
    result: Pixels


def differences(made: Record, now: Record) -> list[str]:
    """What made a result and differs now, in words; frames may differ then."""
    found = []
    if made.weights != now.weights:
        found.append(f"by other weights (SHA-256 {made.weights[:12]}, now {now.weights[:12]})")
    for name in NAMES:
        before, after = made.versions.get(name), now.versions.get(name)
        if before != after:
            found.append(f"by {name} {before or 'none'}, now {after or 'none'}")
    if made.device != now.device:
        found.append(f"on {made.device}, now {now.device}")
    return found
