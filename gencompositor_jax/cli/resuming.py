"""`--continue`: a run that was interrupted, taken up from the files that it left."""

import dataclasses
import os
from typing import TYPE_CHECKING

from gencompositor_jax.cli.outputs import Outputs
from gencompositor_jax.errors import InputError

if TYPE_CHECKING:
    from gencompositor_jax.arch import DiffusionArch
    from gencompositor_jax.controls.plate.delivery import Delivery
    from gencompositor_jax.controls.scene import Scene


def same_scene(outputs: Outputs, scene: "Scene", diffusion: "DiffusionArch") -> "Scene":
    """The scene, with the record of the run that left its files.

    diffusion: of the checkpoint, for the steps and the solver where the scene has none. Raises InputError
    where these files are of another scene, or it isn't known of which.
    """
    from gencompositor_jax.controls.scene import read_scene, with_paths

    if not os.path.lexists(outputs.project):
        if os.path.lexists(outputs.video) and not outputs.is_sequence:
            raise InputError(
                f"{outputs.video}: there is no {outputs.project}, which would say what made it: pass "
                "--overwrite to make it anew"
            )
        return dataclasses.replace(scene, record=None)
    known = read_scene(outputs.project)
    before, now = (
        dataclasses.replace(each, record=None, sampling=each.sampling.settled(diffusion))
        for each in (known, with_paths(scene, os.path.abspath))
    )
    if before != now:
        fields = [field.name for field in dataclasses.fields(now)]
        names = [name for name in fields if getattr(before, name) != getattr(now, name)]
        raise InputError(
            f"{outputs.project}: is of another scene ({', '.join(names)}): pass --overwrite to make it anew, "
            "or write elsewhere"
        )
    return dataclasses.replace(scene, record=known.record)


def is_done(outputs: Outputs, delivery: "Delivery | None") -> bool:
    """Whether a run has written everything: the report is the last file."""
    if not os.path.lexists(outputs.facts):
        return False
    if delivery is not None and delivery.numbers:
        return False
    files = [] if outputs.is_sequence else [outputs.video]
    if outputs.layer is not None and not (delivery is not None and delivery.has_images):
        files.append(outputs.layer)
    return all(os.path.lexists(file) for file in files)
