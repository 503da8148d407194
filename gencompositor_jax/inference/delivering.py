"""Writing a composite and its layer at the plate's depth: the plate is read once, frame by frame."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import numpy as np

from gencompositor_jax.controls import shot
from gencompositor_jax.controls.geometry.paste_back import feather_weight
from gencompositor_jax.controls.media.frames import Computed
from gencompositor_jax.controls.plate.carry import carry, see
from gencompositor_jax.controls.plate.delivery import Delivery
from gencompositor_jax.controls.plate.pixels import PlateFrame
from gencompositor_jax.controls.plate.writing import (
    Edited,
    composite_put,
    facts_of,
    in_output_colour,
    layer_put,
    with_layer,
)
from gencompositor_jax.controls.stage import Stage
from gencompositor_jax.inference.rendering import Composite


def deliver(
    delivery: Delivery,
    composite: Composite,
    stage: Stage,
    feather: float,
    progress: Callable[[int, int], None],
) -> dict[str, Any]:
    """Write the files of a delivery; returns what a report says of them.

    feather: of the paste-back, in model pixels. progress: called with (frames done, frames in all). What it
    returns is of the frames that are written now.

    Of `plate`: depth and colour; `unseen`, the fraction of the mask whose values the working picture doesn't
    have, such as light above white; `clipped`, the fraction whose new values didn't fit the file's. Of
    `layer`: the largest error of over(layer, plate), in 8-bit levels, or relative to the values in EXR. Of
    `output`, where the files have another colour: depth and colour, and the fraction that was clipped to it.
    """
    plate = delivery.plate
    count, height, width = plate.shape
    ramp = feather / min(min(each.view.scale) for each in stage.shots)
    blank = picture = np.zeros((0, width, 3), np.float32)
    # Frame by frame, each asked for once the plate's has been read.
    composed = composite.over(Computed((*plate.shape, 3), lambda first, stop: picture[None], np.float32, 1))
    wants_layer = delivery.layer is not None or delivery.exr_layers
    inside, unseen, clipped, worst, done = 0, 0, 0, 0.0, len(delivery.kept)
    beyond = 0
    with ExitStack() as stack:
        puts = []
        if delivery.out is not None:
            puts.append(composite_put(stack, delivery))
        if delivery.layer is not None:
            puts.append(layer_put(stack, delivery))
        for t, frame in _frames(delivery):
            mask = composite.mask[t]
            edited, seen = Edited(frame), see(frame, mask, plate.colour)
            if seen is not None:
                picture = seen.picture_of((height, width))
                weight = feather_weight(seen.inside, ramp)
                cover = weight * shot.cover(stage.shots, t, mask)[seen.box]
                carried = carry(seen, composed[t], cover, plate.colour)
                picture = blank  # frees the memory before anything is encoded
                pastes = tuple(shot.pastes(stage.shots, t, (height, width))) if delivery.exr_layers else ()
                edited = Edited(carried.frame, seen, carried, pastes=pastes)
                inside += int(mask.sum())
                unseen, clipped = unseen + seen.unseen, clipped + carried.clipped
            edited, more = in_output_colour(edited, delivery)
            beyond += more
            if wants_layer:
                edited, error = with_layer(edited, delivery.written.is_exr)
                worst = max(worst, error)
            for put in puts:
                put(edited)
            done += 1
            progress(done, count)
    facts: dict[str, Any] = {
        "plate": facts_of(plate)
        | {"unseen": round(unseen / max(1, inside), 4), "clipped": round(clipped / max(1, inside), 4)}
    }
    if delivery.convert is not None:
        pixels = max(1, len(delivery.numbers) * height * width)
        facts["output"] = facts_of(delivery.written) | {"clipped": round(beyond / pixels, 4)}
    if delivery.layer is not None:
        facts["layer"] = {"path": str(delivery.layer), "error": round(worst, 6)}
    if delivery.kept:
        facts["plate"]["kept"] = len(delivery.kept)
    return facts


def _frames(delivery: Delivery) -> Iterator[tuple[int, PlateFrame]]:
    """The plate's frames that are written, with their numbers from 0; others aren't read."""
    plate = delivery.plate
    wanted = [t for t, number in enumerate(plate.numbers) if number not in delivery.kept]
    following: Iterator[PlateFrame] = iter(())
    for before, t in zip([-2, *wanted], wanted, strict=False):
        if t != before + 1:
            following = plate.from_frame(t)
        yield t, next(following)
