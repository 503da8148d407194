"""Arguments as people type them."""

import pytest

from gencompositor_jax.cli import join_negative, main, parse


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


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--fps", "nan", "--fps: nan is not a finite number"),
        ("--end", "0", "--end: 0 must be above 0"),
        ("--scale", "0.5,", "--scale: '0.5,' lacks a number"),
        ("--scale", "0", "--scale[0]: 0 must be"),
        ("--rotation", "1,,2", "--rotation: '1,,2' lacks a number"),
        ("--key", "#12", "--key: '#12': known are"),
        ("--segment", "point:5", "--segment: 'point:5': pass auto"),
        ("--trajectory", "track:1e9,3", "--trajectory 'track:1e9,3': x: 1e+09 must be"),
        ("--trajectory", "1,2;;3,4", "--trajectory: '' is neither"),
    ],
)
def test_refusals_name_the_option_once(option, value, message, capsys, tmp_path):
    given = {"--background": "b", "--foreground": "f", "--trajectory": "1,2 30,40"} | {option: value}
    words = [word for pair in given.items() for word in pair]
    assert main(["preview", "--out", str(tmp_path / "p.mp4"), *words]) == 2
    assert capsys.readouterr().err.startswith(f"gencompositor: {message}")


@pytest.mark.parametrize("more", [[], ["--plate", "2"]])
def test_more_clips_than_the_benchmark_has_are_refused(more, capsys):
    assert main(["evaluate", "--clips", "257", *more]) == 2
    assert "--clips 257: pass 1 to 256, the clips of the benchmark" in capsys.readouterr().err
