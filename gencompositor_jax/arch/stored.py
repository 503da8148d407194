"""An architecture as JSON, in a checkpoint's metadata."""

import dataclasses
from typing import Any

from gencompositor_jax import fields
from gencompositor_jax.arch.model import ModelArch
from gencompositor_jax.errors import InputError


def to_json(arch: ModelArch) -> dict[str, Any]:
    """Plain nested dict of the fields, for a checkpoint's metadata."""
    return dataclasses.asdict(arch)


# Fields that older checkpoints lack, with the values that those have: of `ModelArch`, of `DiffusionArch`.
ADDED_LATER = {"fusion": "self_attention", "injection": "masked"}
ADDED_TO_DIFFUSION = {"steps": 20, "solver": "dpm"}


def from_json(value: Any, where: str = "arch") -> ModelArch:
    """Inverse of `to_json`; `where` begins the messages.

    Raises InputError for unknown or missing fields (with guessed ones, weights would give wrong results), for
    values of another type or out of their bounds, and for fields that contradict each other.
    """
    if isinstance(value, dict):
        value = {**ADDED_LATER, **value}
        if isinstance(value.get("diffusion"), dict):
            value["diffusion"] = {**ADDED_TO_DIFFUSION, **value["diffusion"]}
    arch: ModelArch = fields.read(ModelArch, value, where)
    require_all(to_json(arch), value, where)
    try:
        arch.check()
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    return arch


def require_all(whole: Any, given: Any, where: str) -> None:
    """Raise InputError where `given` lacks a field of `whole`, or one of the objects in it does."""
    if not isinstance(whole, dict):
        return
    if missing := [name for name in whole if name not in given]:
        raise InputError(f"{where}: field {missing[0]!r} is missing; use the version that wrote it")
    for name, inner in whole.items():
        require_all(inner, given[name], f"{where}.{name}")
