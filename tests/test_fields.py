import dataclasses
import pickle
from typing import Annotated, Any, Literal

import pytest
from pydantic import Field

from gencompositor_jax import fields
from gencompositor_jax.errors import DifferencesError, InputError, listed, within
from gencompositor_jax.fields import Flag, Number, Text, Whole, checked, length


@checked
@dataclasses.dataclass(frozen=True)
class Inner:
    x: Number
    y: Annotated[Number, fields.within(above=0, high=2)] = 1.0


@checked
@dataclasses.dataclass(frozen=True)
class One:
    a: Whole
    kind: Literal["one"] = "one"


@checked
@dataclasses.dataclass(frozen=True)
class Two:
    kind: Literal["two"] = "two"


@checked
@dataclasses.dataclass(frozen=True)
class Outer:
    """What several fields say together is checked, too."""

    keys: Annotated[tuple[Inner, ...], length(1, 3)]
    count: Annotated[Whole, fields.within(1, 10)] = 2
    mode: Literal["a", "b"] = "a"
    on: Flag = True
    name: Text | None = None
    pair: tuple[Whole, Whole] = (1, 2)
    part: Annotated[One | Two, Field(discriminator="kind")] = Two()

    def __post_init__(self) -> None:
        if self.count == 7:
            raise InputError("count: 7 is taken")


SOUND: dict[str, Any] = {"keys": [{"x": 1}]}


def test_lists_become_tuples_and_defaults_are_filled_in() -> None:
    found = fields.read(Outer, SOUND)
    assert found == Outer((Inner(1.0),)) and isinstance(found.keys[0].x, float)
    assert dataclasses.replace(found, count=3).count == 3
    assert pickle.loads(pickle.dumps(found)) == found and hash(found) == hash(Outer((Inner(1),)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"keys": [{"x": True}]}, "keys[0].x: true or false where a number is expected"),
        ({"keys": [{"x": "1"}]}, "keys[0].x: the text '1' where a number is expected"),
        ({"keys": [{"x": 10**400}]}, "keys[0].x: a huge integer is not a finite number"),
        ({"keys": [{"x": float("inf")}]}, "keys[0].x: inf is not a finite number"),
        ({"keys": [{}]}, "keys[0]: field 'x' is missing"),
        ({"keys": [{"x": 1, "z": 2}]}, "keys[0]: unknown field 'z'; known are x, y"),
        ({"keys": [{"x": 1, "y": 0}]}, "keys[0].y: 0 must be above 0"),
        ({"keys": [{"x": 1, "y": 3}]}, "keys[0].y: 3 must be at most 2"),
        ({"keys": [1]}, "keys[0]: a number where an object is expected"),
        ({"keys": {}}, "keys: an object where a list is expected"),
        ({"keys": []}, "keys: the list is empty; give at least one entry"),
        ({"keys": [{"x": 1}] * 4}, "keys: more than 3 entries"),
        ({"count": 2.0}, "count: a number where an integer is expected"),
        ({"count": 0}, "count: 0 must be at least 1"),
        ({"count": 7}, "count: 7 is taken"),
        ({"count": 10**5000}, "count: a huge integer must be at most 10"),
        ({"mode": "c"}, "mode: 'c'; choose one of a, b"),
        ({"mode": ["a"]}, "mode: a list; choose one of a, b"),
        ({"on": 1}, "on: a number where true or false is expected"),
        ({"name": " "}, "name: an empty text where a text is expected"),
        ({"name": 3}, "name: a number where a text is expected"),
        ({"pair": [1]}, "pair: has too few entries"),
        ({"part": {"kind": "six"}}, "part.kind: 'six'; choose one of one, two"),
        ({"part": {}}, "part: field 'kind' is missing"),
        ({"part": {"kind": "one", "a": "x"}}, "part.a: the text 'x' where an integer is expected"),
        ({"part": {"kind": "one"}}, "part: field 'a' is missing"),
        ({"colour": 1}, "unknown field 'colour'; known are keys, count, mode, on, name, pair, part"),
    ],
)
def test_the_message_names_field_value_and_remedy(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as raised:
        fields.read(Outer, SOUND | change, "file.json")
    assert str(raised.value) == f"file.json: {message}"
    if "keys" not in change and "part" not in change:  # in Python as well as in JSON
        with pytest.raises(InputError) as made:
            Outer((Inner(1),), **change)
        assert str(made.value) == message


def test_positional_arguments_have_their_fields_names() -> None:
    with pytest.raises(InputError, match=r"^y: 3 must be at most 2$"):
        Inner(1, 3)


def test_a_schema_of_a_file_that_is_no_class() -> None:
    kind = fields.schema("File", size=Whole, rest=(fields.map_of(str, Whole), {}))
    assert fields.given(fields.read(kind, {"size": 1})) == {"size": 1}
    with pytest.raises(InputError, match=r"^f: rest.a: null where an integer is expected"):
        fields.read(kind, {"size": 1, "rest": {"a": None}}, "f")
    with pytest.raises(InputError, match="^f: unknown field 'x'; known are size, rest"):
        fields.read(kind, {"size": 1, "x": 1}, "f")


def test_long_lists_are_cut() -> None:
    many = [f"tensor {i}" for i in range(12)]
    assert listed(many[:5]) == "tensor 0; tensor 1; tensor 2; tensor 3; tensor 4"
    assert listed(many).endswith("tensor 4; and 7 more")
    error = DifferencesError("model", many)
    assert str(error).startswith("model: tensor 0") and error.differences == tuple(many)
    with pytest.raises(InputError, match="^file: wrong$"), within("file"):
        raise InputError("wrong")
    with pytest.raises(InputError, match="^file: wrong$"), within("file"):
        raise InputError("file: wrong")
