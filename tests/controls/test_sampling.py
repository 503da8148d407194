import dataclasses
from typing import Any, get_type_hints

import pytest

from gencompositor_jax.arch import DiffusionArch
from gencompositor_jax.controls.sampling import Sampling, SamplingOptions
from gencompositor_jax.errors import InputError


def test_every_option_is_a_keyword_argument():
    names = [field.name for field in dataclasses.fields(SamplingOptions)]
    assert names == list(Sampling.__annotations__)
    assert get_type_hints(Sampling) == get_type_hints(SamplingOptions)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("steps", 1001),
        ("steps", 2.0),
        ("seed", -1),
        ("seed", 2**32),
        ("seed", True),
        ("solver", "euler"),
        ("paste_back", 1),
        ("feather", float("nan")),
        ("feather", -1.0),
        ("prompt", ""),
        ("guidance", 101.0),
        ("fast", "cache:1"),
        ("fast", "cache:20"),
    ],
)
def test_a_value_out_of_range_is_refused_by_its_name(field: str, value: Any):
    with pytest.raises(InputError, match=f"^{field}: "):
        SamplingOptions(**{field: value})


def test_options_are_kept_in_one_form():
    assert SamplingOptions(feather=2) == SamplingOptions(feather=2.0)
    assert SamplingOptions(fast="cache:2, drop-blank").fast == "drop-blank,cache:2"
    with pytest.raises(InputError, match="none to skip"):
        SamplingOptions(fast="cache:2", steps=2)


def test_only_a_prompt_is_guided():
    assert not SamplingOptions(guidance=6.0).guided
    assert SamplingOptions(prompt="sea").guided
    assert not SamplingOptions(prompt="sea", guidance=1.0).guided


def test_steps_and_solver_are_the_users_or_else_the_checkpoints():
    student = DiffusionArch(steps=4, solver="consistency")
    assert SamplingOptions().schedule(student) == (4, "consistency")
    assert SamplingOptions(steps=7, solver="ddim").schedule(student) == (7, "ddim")
    assert SamplingOptions(seed=1).settled(student) == SamplingOptions(seed=1, steps=4, solver="consistency")
    assert SamplingOptions(fast="cache:2").schedule(DiffusionArch())[0] == 20
    with pytest.raises(InputError, match="has none to skip"):
        SamplingOptions(fast="cache:2").schedule(DiffusionArch(steps=2))
