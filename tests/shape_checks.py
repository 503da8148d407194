"""Checks the shapes in the signatures of the mathematical rooms whenever a test calls one of their functions.

conftest.py installs the import hook before the package is imported. In production the annotations are
documentation only.
"""

import typing
from collections.abc import Callable
from typing import Any

from beartype import beartype
from jaxtyping import AbstractArray, install_import_hook

ROOMS = ("masks", "diffusion", "codec", "model")


def install() -> None:
    """Instruments the rooms' functions as they are imported."""
    install_import_hook([f"gencompositor_jax.{room}" for room in ROOMS], "tests.shape_checks.checked")


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function under a type checker that sees its array annotations only: mypy checks the others.

    jaxtyping passes every function twice, first with `Any` as its result, to check the parameters before the
    call. That pass is skipped: a function's own InputError comes first, then parameters and result are
    checked together.
    """
    hints = {name: hint for name, hint in function.__annotations__.items() if has_shape(hint)}
    if not hints or function.__annotations__.get("return") is Any:
        return function
    function.__annotations__ = hints
    return beartype(function)


def has_shape(hint: Any) -> bool:
    """True if an annotation is, or contains, an array type of jaxtyping."""
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(map(has_shape, typing.get_args(hint)))
