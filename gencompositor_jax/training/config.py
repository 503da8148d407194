"""Loads a config, a Python file with `get_config(arg)`, and applies overrides from the command line.

An unknown key, a value of another type and a number outside its range are errors of one line, raised before
anything else is loaded.
"""

import ast
import difflib
import math
import os
import re
import runpy
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, get_args

import ml_collections

from gencompositor_jax.arch import preset
from gencompositor_jax.data_pipelines.sources import KINDS
from gencompositor_jax.errors import InputError
from gencompositor_jax.files import check_local
from gencompositor_jax.model.fusion_block import Remat
from gencompositor_jax.sharding import AXES

# The configs that are installed with the package.
PACKAGED = Path(__file__).parents[1] / "configs"

# A section that takes any key: fields of the architecture that differ from the preset; `arch.preset` checks
# them.
OPEN = "arch_changes"

# Lowest and highest value of numbers that nothing else checks before the first step.
BELOW_1 = 0.999_999_9  # of decays
RANGES: dict[str, tuple[float, float]] = {
    "seed": (0, 2**32 - 1),
    "steps": (1, 10**8),
    "batch_size": (1, 2**16),
    "lora.rank": (0, 2**14),
    "lora.alpha": (-1e6, 1e6),
    "loss.mask_weight": (0, 1e6),
    "loss.timestep_bias": (1e-3, 1e3),
    "loss.weight_cap": (0, 1e9),
    "distill.intervals": (0, 1000),
    "tokens.video": (1e-3, 1),
    "tokens.foreground": (1e-3, 1),
    "optimizer.learning_rate": (0, 1e3),
    "optimizer.warmup": (0, 10**8),
    "optimizer.b1": (0, BELOW_1),
    "optimizer.b2": (0, BELOW_1),
    "optimizer.weight_decay": (0, 1e3),
    "optimizer.clip": (0, math.inf),
    "optimizer.ema": (0, BELOW_1),
    "optimizer.accumulate": (1, 2**16),
    "checkpoint.every": (1, math.inf),
    "checkpoint.keep_last": (1, math.inf),
    "checkpoint.keep_every": (1, math.inf),
    "log_every": (1, math.inf),
    "validation.every": (0, math.inf),
    "validation.clips": (1, 1000),
    "validation.steps": (1, 1000),
    "profile.first": (0, math.inf),
    "profile.steps": (0, 1000),
    "data.workers": (0, 1024),
    "data.prefetch": (1, 1024),
    "data.max_broken": (0, 1),
    "data.fps": (1e-3, 1000),
    "data.clips": (0, 10**8),
    "data.followed_clips": (0, 10**8),
    "data.followed": (0, 1),
    "data.other_light": (0, 1),
    "data.echo": (1, 256),
    "data.removal": (0, 1),
    "data.mask_shapes": (0, 1),
    "data.colour_cast": (0, 10),
}
GAMMA = (1e-2, 1e2)  # range of data.gamma
CHOICES = {
    "compute_dtype": ("float32", "bfloat16", "float16"),
    "remat": get_args(Remat),
    "init_missing": ("error", "fresh"),
    "data.source": KINDS,
    "data.start": ("first", "random"),
}
FOLDERS = ("init", "data.path")
MAX_AXIS = 2**20  # devices


def load_config(spec: str, overrides: Sequence[str] = ()) -> ml_collections.ConfigDict:
    """Load "FILE.py" or "FILE.py:ARG", apply overrides such as "optimizer.learning_rate=1e-3", and lock.

    The file is found by `find`. Raises InputError for a file that is not a config, an unknown key, a value of
    another type and a number outside its range.
    """
    config = _get_config(spec)
    for override in overrides:
        _override(config, override)
    check(config)
    return config.lock()


def find(file: str) -> Path:
    """The file of a config: the path as given, or else the packaged config "tiny" or "configs/tiny.py"."""
    if Path(file).is_file():
        return Path(file)
    names = sorted(path.stem for path in PACKAGED.glob("*.py") if path.stem not in ("__init__", "common"))
    for name in names:
        if file in (name, f"configs/{name}.py"):
            return PACKAGED / f"{name}.py"
    raise InputError(f"--config {file}: no such file; pass one, or a packaged config: {', '.join(names)}")


def flatten(config: ml_collections.ConfigDict, above: str = "") -> dict[str, Any]:
    """Values by dotted keys: {"steps": 100, "data.path": "clips", ...}."""
    flat: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, ml_collections.ConfigDict):
            flat |= flatten(value, f"{above}{name}.")
        else:
            flat[above + name] = value
    return flat


def check(config: ml_collections.ConfigDict) -> None:
    """Raise InputError for a value that can't be used: see `RANGES` and `CHOICES`."""
    values = flatten(config)
    for key, (low, high) in RANGES.items():
        value = values.get(key)
        if value is not None and not low <= value <= high:
            wanted = f"{low:g} or more" if high == math.inf else f"{low:g} to {high:g}"
            raise InputError(f"config.{key}={value}: pass {wanted}")
    for key, known in CHOICES.items():
        if key in values and values[key] not in known:
            raise InputError(f"config.{key}={values[key]!r}: known are {', '.join(known)}")
    low, high = values.get("data.gamma", (1.0, 1.0))
    if not GAMMA[0] <= low <= high <= GAMMA[1]:
        raise InputError(
            f"config.data.gamma={low, high}: pass two numbers in order, {GAMMA[0]:g} to {GAMMA[1]:g}"
        )
    for key in FOLDERS:
        path = values.get(key, "")
        check_local(path, f"config.{key}:")
        if path and os.path.lexists(path) and not os.path.isdir(path):
            raise InputError(f"config.{key}={path}: is no folder; pass one")
    if "arch" in config and OPEN in config:
        preset(config.arch, config[OPEN].to_dict())
    for axis in AXES:
        size = values.get(f"mesh.{axis}", 1)
        if size != -1 and not 1 <= size <= MAX_AXIS:
            raise InputError(f"config.mesh.{axis}={size}: pass a number of devices, or -1 for the rest")
    patterns = {key: values[key] for key in ("trainable", "lora.targets") if key in values}
    rules = values.get("sharding.rules", ())
    for rule in rules:
        if not (isinstance(rule, tuple) and len(rule) == 2 and isinstance(rule[1], tuple)):
            raise InputError(f"config.sharding.rules: {rule!r} is not (regular expression, (axis, ...))")
        if unknown := [axis for axis in _axes(rule[1]) if axis not in AXES]:
            axes = ", ".join(AXES)
            raise InputError(f"config.sharding.rules: unknown axis {unknown[0]!r}; pass one of {axes}")
    for key, pattern in [*patterns.items(), *(("sharding.rules", rule[0]) for rule in rules)]:
        try:
            re.compile(pattern)
        except (re.error, TypeError) as error:
            raise InputError(f"config.{key}={pattern!r}: not a regular expression ({error})") from error


def _axes(entries: Iterable[Any]) -> list[Any]:
    """The axes in a rule: None shards nothing, and a tuple has several."""
    nested = [axis for each in entries for axis in (each if isinstance(each, tuple) else (each,))]
    return [axis for axis in nested if axis is not None]


def near(word: str, known: Iterable[str]) -> list[str]:
    """Known names similar to a mistyped one, the most similar first, at most three.

    Dotted names are similar, too, if their last parts are.
    """
    known = list(known)
    last_part = {name: name.rpartition(".")[2] for name in known}
    similar = difflib.get_close_matches(word, known, cutoff=0.75)
    parts = difflib.get_close_matches(word.rpartition(".")[2], set(last_part.values()), cutoff=0.75)
    similar += [name for part in parts for name in known if last_part[name] == part]
    return list(dict.fromkeys(similar))[:3]


def _get_config(spec: str) -> ml_collections.ConfigDict:
    file, _, arg = spec.partition(":")
    path = find(file)
    try:
        get_config = runpy.run_path(str(path)).get("get_config")
    except SyntaxError as error:
        raise InputError(f"--config {file}, line {error.lineno}: {error.msg}") from error
    except Exception as error:  # whatever the file does
        frames = traceback.extract_tb(error.__traceback__)
        line = next((frame.lineno for frame in reversed(frames) if frame.filename == str(path)), 1)
        raise InputError(f"--config {file}, line {line}: {error!r}") from error
    if get_config is None:
        raise InputError(f"--config {file}: has no get_config(arg)")
    try:
        config = get_config(arg)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        # ml_collections names the key that doesn't exist or has another type, and then quotes the whole
        # config.
        reason = str(error).strip("\"'").partition(" Other fields present")[0]
        raise InputError(f"--config {spec}: {reason}") from error
    if not isinstance(config, ml_collections.ConfigDict):
        raise InputError(f"--config {file}: get_config must return a ConfigDict")
    return config


def _override(config: ml_collections.ConfigDict, override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise InputError(f"--config.{override}: pass --config.KEY=VALUE")
    values = flatten(config)
    if key.startswith(f"{OPEN}.") and OPEN in config and key not in values:
        with config.unlocked():
            _set_open(config[OPEN], key.removeprefix(f"{OPEN}."), text)
        return
    if key not in values:
        raise InputError(f"--config.{key}: {_unknown(key, values)}")
    section, name = config, key
    while "." in name:
        first, _, name = name.partition(".")
        section = section[first]
    try:
        section[name] = parse(text, section.get_type(name), values[key])
    except ValueError as error:
        raise InputError(f"--config.{key}={text}: {error}") from error


def _unknown(key: str, values: Iterable[str]) -> str:
    """The message about a key that has no value."""
    known = sorted(values)
    if keys := [name for name in known if name.startswith(f"{key}.")]:
        return f"is a section with the keys {', '.join(keys)}"
    if key == OPEN:
        return f"pass a field of the architecture: --config.{OPEN}.frames=17"
    if similar := near(key, known):
        return f"unknown key; did you mean {' or '.join(similar)}?"
    section = key.rpartition(".")[0] + "."
    in_section = [name for name in known if name.startswith(section)] or known
    return f"unknown key; known are {', '.join(in_section)}"


def _set_open(section: ml_collections.ConfigDict, key: str, text: str) -> None:
    *above, name = key.split(".")
    for part in above:
        if part not in section:
            section[part] = ml_collections.ConfigDict()
        section = section[part]
        if not isinstance(section, ml_collections.ConfigDict):
            raise InputError(f"--config.{OPEN}.{key}: {part} is a value and has no keys")
    try:
        section[name] = _literal(text)
    except TypeError as error:
        raise InputError(f"--config.{OPEN}.{key}: is a section; pass one of its fields") from error


def parse(text: str, kind: type, now: Any = None) -> Any:
    """Parse the text of an override as a value of type `kind`; `now` is the value to replace.

    Text stays as it is. "none" is None for an optional value, one that is None now. A tuple of numbers keeps
    its length, and lists become tuples. Raises ValueError.
    """
    if now is None and text.lower() == "none":
        return None
    readers: dict[type, tuple[Callable[[str], Any], str]] = {
        str: (str, "text"),
        bool: (lambda t: {"true": True, "false": False}[t.lower()], "true or false"),
        int: (_whole, "a whole number"),
        float: (_number, "a number"),
        tuple: (lambda t: _tuple(t, now), "a tuple such as (0.4, 1.9)"),
    }
    if kind not in readers:
        return _literal(text)
    read, wanted = readers[kind]
    if kind is tuple and now and all(isinstance(part, int | float) for part in now):
        wanted = f"{len(now)} numbers such as {','.join(map(str, now))}"
    try:
        return read(text)
    except (KeyError, ValueError, SyntaxError) as error:
        raise ValueError(f"pass {wanted}") from error


def _whole(text: str) -> int:
    if "_" in text:  # int() takes 1_000
        raise ValueError
    try:
        return int(text)
    except ValueError:
        number = float(text)  # 3e4 is a whole number, too
        if not number.is_integer():
            raise
        return int(number)


def _number(text: str) -> float:
    number = float(text)
    if math.isnan(number):
        raise ValueError
    return number


def _tuple(text: str, now: Any) -> tuple[Any, ...]:
    value = _tuples(ast.literal_eval(text))
    if not isinstance(value, tuple):
        raise ValueError
    if now and all(isinstance(part, int | float) for part in now):
        if len(value) != len(now) or not all(isinstance(part, int | float) for part in value):
            raise ValueError
        return tuple(type(old)(new) for old, new in zip(now, value, strict=True))
    return value


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, list | tuple) else value


def _literal(text: str) -> Any:
    try:
        return _tuples(ast.literal_eval(text))
    except (SyntaxError, ValueError):
        return text
