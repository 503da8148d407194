"""Typed and bounded fields of what users write in JSON and Python, by pydantic, with messages in our manner.

A schema is a class: its annotations are types and bounds. `checked` makes a frozen dataclass check itself
wherever it is made; `read` makes one from a JSON value. Every InputError names the field.
"""

import dataclasses
import functools
import typing
from collections.abc import Sequence
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar

import pydantic
from pydantic import ConfigDict, Field, Strict, ValidationError

from gencompositor_jax.errors import InputError

T = TypeVar("T")

CONFIG = ConfigDict(extra="forbid", allow_inf_nan=False)

# Types that convert nothing: no text or true is a number, no 2.0 is an integer. A list may be a tuple.
Whole = Annotated[int, Strict()]
Number = Annotated[float, Strict()]
Flag = Annotated[bool, Strict()]
Text = Annotated[str, Strict(), Field(pattern=r"\S", max_length=100_000)]
Count = Annotated[Whole, Field(ge=1)]
Positive = Annotated[Number, Field(gt=0)]
Fraction = Annotated[Number, Field(ge=0, le=1)]


def name_of(pattern: str) -> Any:
    """A text that is the name of a file in a folder that is known: of at most 255 of these characters."""
    return Annotated[str, Strict(), Field(pattern=f"^[{pattern}]+$", max_length=255)]


def within(low: float | None = None, high: float | None = None, above: float | None = None) -> Any:
    """Bounds of a number, inclusive but for `above`."""
    return Field(ge=low, le=high, gt=above)


def length(low: int = 1, high: int | None = None) -> Any:
    """Bounds of the number of a list's entries."""
    return Field(min_length=low, max_length=high)


def checked(cls: type[T]) -> type[T]:
    """Make a frozen dataclass check its fields by their annotations, however an instance is made.

    A `__post_init__` may check what several fields say together; its InputErrors keep their text.
    """
    made: Any = pydantic.dataclasses.dataclass(cls, config=CONFIG, frozen=True)
    init, names = made.__init__, [field.name for field in dataclasses.fields(made)]

    @functools.wraps(init)
    def checked_init(self: Any, *args: Any, **values: Any) -> None:
        values |= dict(zip(names, args, strict=False))
        try:
            init(self, *args[len(names) :], **values)
        except ValidationError as error:
            raise explained(error, made, values) from error

    made.__init__ = checked_init
    return typing.cast(type[T], made)


def schema(title: str, /, extra: Literal["forbid", "ignore"] = "forbid", **fields: Any) -> Any:
    """An object of a JSON file that is no class of ours: (type, default) by field, or the type alone.

    extra: whether fields that it doesn't name are an error.
    """
    described = {key: each if isinstance(each, tuple) else (each, ...) for key, each in fields.items()}
    create: Any = pydantic.create_model  # its signature wants each field's type
    return create(title, __config__=CONFIG | ConfigDict(extra=extra), **described)


def list_of(kind: Any) -> Any:
    """The annotation of a list, read as a tuple."""
    return tuple.__class_getitem__((kind, ...))


def map_of(key: Any, kind: Any) -> Any:
    """The annotation of an object with any keys of one type, and values of another."""
    return dict.__class_getitem__((key, kind))


def read(kind: Any, value: Any, where: str = "") -> Any:
    """`value`, from JSON, as a checked class, a schema or any other annotation.

    where: begins the message, such as a file. Raises InputError naming the field.
    """
    try:
        return _adapter(kind).validate_python(value)
    except ValidationError as error:
        raise explained(error, kind, value, where) from error
    except RecursionError as error:
        raise InputError(f"{where}: nested too deeply") from error


def given(made: pydantic.BaseModel) -> dict[str, Any]:
    """The fields that an object of a schema had, checked."""
    return {name: getattr(made, name) for name in type(made).model_fields if name in made.model_fields_set}


def explained(error: ValidationError, kind: Any = None, value: Any = None, where: str = "") -> InputError:
    """The first problem of pydantic's as an InputError of one line.

    kind, value: what was read, and from what. where: begins the message.
    """
    first = error.errors(include_url=False)[0]
    path, problem, got = list(first["loc"]), first["type"], first["input"]
    found = first.get("ctx", {})
    path = [key for i, key in enumerate(path) if i == len(path) - 1 or _has(value, path[:i], key)]
    name = str(path[-1]) if path else ""
    here, above = _place(where, path), _place(where, path[:-1])
    if problem == "union_tag_not_found":
        return _error(here, f"field {_unquoted(found['discriminator'])!r} is missing")
    if problem in ("missing", "missing_argument"):
        return _error(above, "has too few entries" if name.isdigit() else f"field {name!r} is missing")
    if problem in ("extra_forbidden", "unexpected_keyword_argument"):
        known = ", ".join(_known(kind, path[:-1]))
        return _error(above, f"unknown field {shorten(name)!r}; known are {known}")
    if problem == "value_error":
        return _error(here, str(found["error"]))
    if problem == "union_tag_invalid":
        tag, options = _unquoted(found["discriminator"]), _unquoted(found["expected_tags"])
        return _error(f"{here}.{tag}", f"{shorten(found['tag'])!r}; choose one of {options}")
    if problem == "literal_error":
        options = _unquoted(found["expected"]).replace(" or ", ", ")
        return _error(here, f"{shown(got)}; choose one of {options}")
    if problem in _WANTED and type(got) is int and _WANTED[problem] == "a number":
        return _error(here, "a huge integer is not a finite number")
    if problem in _WANTED:
        return _error(here, f"{_kind(got)} where {_WANTED[problem]} is expected")
    if problem == "is_instance_of":
        return _error(here, f"{_kind(got)} where {found['class']} is expected")
    if problem == "finite_number":
        return _error(here, f"{shown(got)} is not a finite number")
    if problem in _BOUNDS:
        bound = next(found[key] for key in ("ge", "le", "gt", "lt", "multiple_of") if key in found)
        return _error(here, f"{shown(got)} must be {_BOUNDS[problem]} {bound:.10g}")
    if problem == "too_short":
        few = f"give at least {found['min_length']} entries"
        return _error(here, few if got else "the list is empty; give at least one entry")
    if problem == "too_long":
        return _error(here, f"more than {found['max_length']} entries")
    if problem == "string_pattern_mismatch":
        return _error(here, f"{_kind(got)} where a text is expected")
    return _error(here, f"{shown(got)}: {first['msg'][:1].lower()}{first['msg'][1:]}")


_WANTED = {
    **dict.fromkeys(("int_type", "int_parsing", "int_from_float"), "an integer"),
    **dict.fromkeys(("float_type", "float_parsing"), "a number"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "true or false"),
    **dict.fromkeys(("string_type", "string_unicode"), "a text"),
    **dict.fromkeys(("tuple_type", "list_type"), "a list"),
    **dict.fromkeys(("dataclass_type", "model_type", "model_attributes_type", "dict_type"), "an object"),
}
_BOUNDS = {
    "greater_than": "above",
    "greater_than_equal": "at least",
    "less_than": "below",
    "less_than_equal": "at most",
    "multiple_of": "a multiple of",
}


def shown(value: Any) -> str:
    """A value in a message, short."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < 10**18 else "a huge integer"
    return repr(shorten(value)) if isinstance(value, str) else _kind(value)


def shorten(text: Any) -> str:
    """At most 40 characters of a text."""
    return str(text) if len(str(text)) <= 40 else f"{str(text)[:37]}..."


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    if isinstance(value, str):
        return f"the text {shorten(value)!r}" if value.strip() else "an empty text"
    kinds = {bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}
    return kinds.get(type(value), type(value).__name__)


def _error(where: str, text: str) -> InputError:
    return InputError(f"{where}: {text}" if where else text)


def _place(where: str, path: Sequence[str | int]) -> str:
    """As in `file.json: layers[0].scales`."""
    field = "".join(f"[{key}]" if isinstance(key, int) else f".{shorten(key)}" for key in path)
    return ": ".join(each for each in (where, field.removeprefix(".")) if each)


def _unquoted(text: str) -> str:
    return text.replace("'", "")


def _has(value: Any, path: Sequence[str | int], key: str | int) -> bool:
    """Whether a document has a key: pydantic puts the names of a union's members between the keys."""
    for each in path:
        try:
            value = value[each]
        except (KeyError, IndexError, TypeError):
            continue
    try:
        value[key]
    except (KeyError, IndexError, TypeError):
        return not isinstance(value, dict)
    return True


def _known(kind: Any, path: Sequence[str | int]) -> list[str]:
    """The fields of the object at a path."""
    for key in path:
        fields = _fields_of(kind)
        if fields is not None:
            kind = fields.get(str(key))
        else:
            kind = next(iter(typing.get_args(_bare(kind))), None)
    return list(_fields_of(kind) or ())


def _fields_of(kind: Any) -> dict[str, Any] | None:
    """The annotations of a class by its fields; None for other types, and for a union of several classes."""
    kind = _bare(kind)
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = typing.get_type_hints(kind, include_extras=True)
        return {field.name: hints[field.name] for field in dataclasses.fields(kind)}
    if isinstance(kind, type) and issubclass(kind, pydantic.BaseModel):
        return {name: field.annotation for name, field in kind.model_fields.items()}
    return None


def _bare(kind: Any) -> Any:
    """A type without bounds and None."""
    while typing.get_origin(kind) is Annotated:
        kind = typing.get_args(kind)[0]
    members = [each for each in typing.get_args(kind) if each is not NoneType]
    if NoneType in typing.get_args(kind) and len(members) == 1:
        return _bare(members[0])
    return kind


@functools.cache
def _adapter(kind: Any) -> pydantic.TypeAdapter[Any]:
    named = _fields_of(kind) is not None  # has a configuration of its own
    return pydantic.TypeAdapter(kind, config=None if named else CONFIG)
