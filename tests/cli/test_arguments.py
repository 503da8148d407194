"""Arguments as people type them."""

import pytest

from gencompositor_jax.cli import join_negative, parse


@pytest.mark.parametrize(
    ("given", "joined"),
    [
        (["--rotation", "-15,15"], ["--rotation=-15,15"]),
        (["--trajectory", "-40,90;360,90"], ["--trajectory=-40,90;360,90"]),
        (["--scale", "-.5"], ["--scale=-.5"]),  # refused later, by its own message
        (["--anchor", "--rotation", "-1"], ["--anchor", "--rotation=-1"]),
        (["--out=a", "-5"], ["--out=a", "-5"]),
        (["data", "-5", "-v", "-5"], ["data", "-5", "-v", "-5"]),
    ],
)
def test_values_may_begin_with_a_minus(given, joined):
    assert join_negative(given) == joined


def test_negative_rotations_and_points_are_parsed():
    args = parse(["preview", "--rotation", "-15,15", "--trajectory", "-40,90;360,90"])
    assert (args.rotation, args.trajectory) == ("-15,15", "-40,90;360,90")
