"""Strict reading of values that users write, in JSON, text or Python: every error names the field.

A reader is a function (value, where) that returns the checked value, or raises an InputError whose message
begins with `where`.
"""

import contextlib
import json
import math
import pathlib
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from gencompositor_jax.errors import InputError

# A person or a tracker writes no larger text; a video passed by mistake is larger.
MAX_BYTES = 16 * 1024 * 1024

Reader = Callable[[Any, str], Any]


def read_text(path: str | pathlib.Path) -> str:
    """The UTF-8 text of a regular file. Raises InputError where there is none that can be read."""
    file = pathlib.Path(path)
    try:
        if not file.is_file():
            raise InputError(f"{path}: no such file" if not file.exists() else f"{path}: not a regular file")
        size = file.stat().st_size
        if size > MAX_BYTES:
            raise InputError(f"{path}: {size:,} bytes, where a text of at most {MAX_BYTES:,} is expected")
        return file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error


def read_json(path: str | pathlib.Path) -> Any:
    """The JSON value in a file; see `parse_json`."""
    return parse_json(read_text(path), str(path))


def parse_json(text: str, where: str, line: int = 1) -> Any:
    """A JSON value, of a text that begins at a line of `where`. Raises InputError with the line; NaN and
    repeated fields are errors too.
    """

    def no_constant(name: str) -> None:
        raise InputError(f"{where}: {name} is not a number; write a finite one")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        out = dict(pairs)
        if len(out) != len(pairs):
            twice = next(key for key, _ in pairs if sum(key == k for k, _ in pairs) > 1)
            raise InputError(f"{where}: field {twice!r} stands twice in one object; keep one")
        return out

    try:
        return json.loads(text, parse_constant=no_constant, object_pairs_hook=unique)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{where}: line {line + error.lineno - 1}, column {error.colno}: {error.msg}"
        ) from error
    except RecursionError as error:
        raise InputError(f"{where}: nested too deeply") from error
    except InputError:
        raise
    except ValueError as error:  # an integer of thousands of digits
        raise InputError(f"{where}: {error}") from error


@contextlib.contextmanager
def within(where: str) -> Iterator[None]:
    """Puts `where` before the message of an InputError: the file and the object that a field is in."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{where}{error}") from error


def check(instance: Any, readers: Mapping[str, Reader]) -> None:
    """Checks the fields of a new frozen dataclass, and keeps them as their readers return them."""
    given = {name: getattr(instance, name) for name in readers}
    for name, value in read(given, readers).items():
        object.__setattr__(instance, name, value)


def read(entry: Mapping[str, Any], readers: Mapping[str, Reader], where: str = "") -> dict[str, Any]:
    """The fields of an object as their readers return them; `where` is put before their names."""
    return {name: readers[name](value, where + name) for name, value in entry.items()}


def optional(reader: Reader) -> Reader:
    """A reader that takes None as well."""
    return lambda value, where: None if value is None else reader(value, where)


def each(reader: Reader) -> Reader:
    """A reader of sequences, each item read by `reader`: -> tuple."""
    return lambda value, where: tuple(
        reader(item, f"{where}[{i}]") for i, item in enumerate(sequence(value, where))
    )


def record(
    value: Any, where: str, known: Collection[str], required: Collection[str] = ()
) -> Mapping[str, Any]:
    """`value` where it is an object with only known fields and all required ones, else InputError."""
    if not isinstance(value, dict):
        raise InputError(
            f"{where}: {_kind(value)} where an object with fields {', '.join(known)} is expected"
        )
    unknown = [key for key in value if key not in known]
    if unknown:
        raise InputError(f"{where}: unknown field {unknown[0]!r}; known are {', '.join(known)}")
    missing = [key for key in required if key not in value]
    if missing:
        raise InputError(f"{where}: field {missing[0]!r} is missing")
    return value


def sequence(value: Any, where: str) -> list[Any] | tuple[Any, ...]:
    """`value` where it is a list (or a tuple) with something in it, else InputError."""
    if not isinstance(value, list | tuple):
        raise InputError(f"{where}: {_kind(value)} where a list is expected")
    if not value:
        raise InputError(f"{where}: the list is empty; give at least one entry")
    return value


def number(
    value: Any, where: str, low: float = -math.inf, high: float = math.inf, above: float = -math.inf
) -> float:
    """`value` as a finite float within low..high and above `above`, else InputError."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InputError(f"{where}: {_kind(value)} where a number is expected")
    try:
        out = float(value)
    except OverflowError:
        out = math.inf
    if not math.isfinite(out):
        raise InputError(
            f"{where}: {value if isinstance(value, float) else 'a huge integer'} is not a finite number"
        )
    if out <= above:
        raise InputError(f"{where}: {out:g} must be above {above:g}")
    if not low <= out <= high:
        bounds = f"at least {low:g}" if high == math.inf else f"within {low:g}..{high:g}"
        raise InputError(f"{where}: {out:g} must be {bounds}")
    return out


def integer(value: Any, where: str, low: int, high: int) -> int:
    """`value` where it is an integer within low..high, else InputError."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise InputError(f"{where}: {_kind(value)} where an integer is expected")
    if not low <= value <= high:
        raise InputError(
            f"{where}: {value if abs(value) < 10**18 else 'a huge integer'} must be within {low}..{high}"
        )
    return value


def flag(value: Any, where: str) -> bool:
    """`value` where it is true or false, else InputError."""
    if not isinstance(value, bool):
        raise InputError(f"{where}: {_kind(value)} where true or false is expected")
    return value


def text(value: Any, where: str) -> str:
    """`value` where it is a string with something in it, else InputError."""
    if not isinstance(value, str) or not value.strip():
        raise InputError(f"{where}: {_kind(value)} where a text is expected")
    return value


def choice(value: Any, where: str, options: Collection[str]) -> str:
    """`value` where it is one of the options, else InputError."""
    if value not in tuple(options):
        raise InputError(f"{where}: {value!r}; choose one of {', '.join(options)}")
    return str(value)


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        return f"the text {value[:40]!r}" if value.strip() else "an empty text"
    names = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return names.get(type(value), type(value).__name__)
