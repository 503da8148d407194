"""Configs: a Python file with `get_config(arg)`, and overrides from the command line."""

import ast
import runpy
from collections.abc import Sequence
from pathlib import Path

import ml_collections

from gencompositor_jax.errors import InputError


def load_config(spec: str, overrides: Sequence[str] = ()) -> ml_collections.ConfigDict:
    """Reads `FILE.py` or `FILE.py:ARG` and applies overrides such as "optimizer.learning_rate=1e-3".

    Raises InputError for a file that is not a config, an unknown key or a value of another type.
    """
    file, _, arg = spec.partition(":")
    if not Path(file).is_file():
        raise InputError(f"--config {file}: no such file; pass a config such as configs/tiny.py")
    get_config = runpy.run_path(file).get("get_config")
    if get_config is None:
        raise InputError(f"--config {file}: has no get_config(arg)")
    try:
        config = get_config(arg)
    except ValueError as error:
        raise InputError(f"--config {spec}: {error}") from error
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise InputError(f"--config.{override}: pass --config.KEY=VALUE")
        flat = set(_flat_keys(config))
        if key not in flat:
            raise InputError(f"--config.{key}: unknown key; known are {', '.join(sorted(flat))}")
        try:
            value = ast.literal_eval(text)
        except (SyntaxError, ValueError):
            value = text
        try:
            config.update_from_flattened_dict({key: value})
        except (TypeError, ValueError) as error:
            raise InputError(f"--config.{key}={text}: {error}") from error
    return config.lock()


def _flat_keys(config: ml_collections.ConfigDict, above: str = "") -> list[str]:
    keys = []
    for name, value in config.items():
        if isinstance(value, ml_collections.ConfigDict):
            keys += _flat_keys(value, f"{above}{name}.")
        else:
            keys.append(above + name)
    return keys
