"""Splits parameters into a trained and a frozen tree by a regular expression.

Only the trained tree is differentiated and passed to the optimiser, so frozen parameters have neither
gradients nor moments. The trees are nested dicts; leaves may be arrays, `jax.ShapeDtypeStruct`s, shardings,
or anything else that is not a dict.
"""

import re
from collections.abc import Iterable
from typing import Any

from flax import traverse_util

from gencompositor_jax.errors import InputError

SHOWN = 5  # names in an error message


def split(params: Any, trainable: str) -> tuple[Any, Any]:
    """Split a nested dict into (trained, frozen), neither with empty branches.

    trainable: a regular expression, searched for in paths such as "backbone/blocks/attention/query/kernel";
    ".*" trains everything, "^branch/" one stack. Raises InputError if it matches nothing or is invalid.
    """
    leaves = flatten(params)
    chosen = matching(leaves, trainable, "trainable")
    return (
        unflatten({name: leaf for name, leaf in leaves.items() if name in chosen}),
        unflatten({name: leaf for name, leaf in leaves.items() if name not in chosen}),
    )


def merge(a: Any, b: Any, above: str = "") -> Any:
    """A nested dict with the leaves of both, the inverse of `split`. Raises ValueError for a common path."""
    merged = dict(a)
    for name, value in b.items():
        if name not in merged:
            merged[name] = value
        elif isinstance(merged[name], dict) and isinstance(value, dict):
            merged[name] = merge(merged[name], value, f"{above}{name}/")
        else:
            raise ValueError(f"{above}{name}: in both trees")
    return merged


def flatten(tree: Any) -> dict[str, Any]:
    """The leaves of a nested dict by their paths, a/b/c; empty branches are omitted."""
    flat: dict[str, Any] = traverse_util.flatten_dict(tree, sep="/")
    return flat


def unflatten(leaves: dict[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`."""
    tree: dict[str, Any] = traverse_util.unflatten_dict(leaves, sep="/")
    return tree


def matching(names: Iterable[str], regex: str, field: str) -> set[str]:
    """The names that a regular expression is found in.

    field: the key of the config, for messages. Raises InputError if it is found in none, with some of them,
    or if it is invalid.
    """
    try:
        pattern = re.compile(regex)
    except re.error as error:
        raise InputError(f"{field}={regex!r}: not a regular expression ({error})") from error
    known = list(names)
    found = {name for name in known if pattern.search(name)}
    if not found:
        step = max(1, len(known) // SHOWN)
        some = ", ".join(known[::step][:SHOWN])
        raise InputError(f"{field}={regex!r}: matches none of {len(known)} names, such as {some}")
    return found
