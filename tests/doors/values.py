"""Broken values, and documents with one of them in one place."""

import copy
import json
import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

MARK = "\x00broken\x00"

Content = bytes | Callable[[], bytes]  # of a file; most are made when they are needed

# JSON texts that stand where something else belongs. Some are right in some places.
JSON_VALUES = {
    "null": "null",
    "true": "true",
    "zero": "0",
    "minus": "-1",
    "fraction": "2.5",
    "billion": "1000000000",
    "2^63": "9223372036854775808",
    "5,000 digits": "9" * 5000,
    "1e308": "1e308",
    "1e999": "1e999",
    "NaN": "NaN",
    "-Infinity": "-Infinity",
    "number as text": '"6"',
    "empty text": '""',
    "long text": f'"{"x" * 5000}"',
    "surrogate": '"\\ud800"',
    "NUL": '"a\\u0000b"',
    "empty list": "[]",
    "list of text": '["a", "b"]',
    "list of lists": "[[[1]]]",
    "empty object": "{}",
    "object": '{"a": 1}',
    "nested": "[" * 3000 + "]" * 3000,
}

NUMBERS = (
    *("nan", "inf", "-inf", "1e308", "-1e308", "1e999", "-1", "0", "4294967296", "9223372036854775808"),
    *("9" * 5000, "-" + "9" * 5000, "1_000", "0x10", "", " ", "٣", "six", "1,5", "1e-320", "2.5", "--"),
)

# Names that no file has. A NUL can't be passed by a shell; Python callers and files can hold one.
NAMES = {
    "too long": "n" * 5000,
    "long part": "n" * 300 + "/x",
    "surrogate": "clip\udc80\ud800.mp4",
    "NUL": "clip\0.mp4",
    "empty": "",
    "blank": "  ",
    "dot": ".",
    "newline": "a\nb",
    "gs": "gs://bucket/folder",
    "s3": "s3://bucket/folder",
    "http": "http://127.0.0.1:9/x",
    "file": "file:///etc/passwd",
}


_LARGE = b"1" * 20_000_000
_LISTS, _OBJECTS = b"[" * 200_000, b'{"a":' * 200_000


def texts(sound: str) -> Iterator[tuple[str, bytes]]:
    """Whole files that hold no document of the kind of `sound`."""
    yield "empty", b""
    yield "cut", sound.encode()[: len(sound) // 2]
    yield "binary", bytes(range(256)) * 8
    yield "UTF-16", sound.encode("utf-16")
    yield "NULs", b"\0" * 1000
    yield "one line of 20 MB", _LARGE
    yield "nested lists", _LISTS
    yield "nested objects", _OBJECTS


def documents(sound: Any) -> Iterator[tuple[str, Content]]:
    """JSON files that differ from `sound` in one place."""
    text = json.dumps(sound)
    yield from texts(text)
    for name, raw in JSON_VALUES.items():
        yield f"only {name}", raw.encode()
    for path in places(sound):
        where = "/".join(map(str, path))
        for name, raw in JSON_VALUES.items():
            yield f"{where}: {name}", partial(_with_raw, sound, path, raw)
        if isinstance(path[-1], str):
            yield f"{where}: missing", partial(_without, sound, path)
    if isinstance(sound, dict):
        yield "unknown field", json.dumps({**sound, "colour": 1}).encode()
        first = next(iter(sound))
        yield "field twice", text.replace("{", f'{{"{first}": 1, ', 1).encode()


def _with_raw(sound: Any, path: Sequence[str | int], raw: str) -> bytes:
    return json.dumps(replaced(sound, path, MARK)).replace(json.dumps(MARK), raw).encode()


def _without(sound: Any, path: Sequence[str | int]) -> bytes:
    changed = copy.deepcopy(sound)
    at = changed
    for key in path[:-1]:
        at = at[key]
    del at[path[-1]]
    return json.dumps(changed).encode()


def places(value: Any, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The paths of all values inside a document; of lists, the first and the last."""
    inner: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        inner = list(value.items())
    elif isinstance(value, list) and value:
        inner = list(enumerate(value))[:: max(1, len(value) - 1)]
    for key, each in inner:
        yield (*above, key)
        yield from places(each, (*above, key))


def replaced(sound: Any, path: Sequence[str | int], value: Any) -> Any:
    """A copy with another value in one place."""
    changed = copy.deepcopy(sound)
    at = changed
    for key in path[:-1]:
        at = at[key]
    at[path[-1]] = value
    return changed


def some(cases: Sequence[Any], limit: int) -> list[Any]:
    """At most `limit` of the cases, the same ones every time, in their order."""
    if len(cases) <= limit:
        return list(cases)
    chosen = set(random.Random(7).sample(range(len(cases)), limit))
    return [case for i, case in enumerate(cases) if i in chosen]
