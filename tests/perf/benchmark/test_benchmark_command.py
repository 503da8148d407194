"""`gencompositor benchmark`."""

import json

import pytest

from gencompositor_jax.cli import main, parse
from gencompositor_jax.cli.benchmark import parse_size


def test_the_command_line_parses():
    args = parse(
        ["benchmark", "--random", "released", "--size", "9x64x96", "--steps", "2", "--guided", "--json"]
    )
    assert (args.mode, args.random, args.steps, args.guided, args.json) == (
        "sample",
        "released",
        2,
        True,
        True,
    )
    args = parse(["benchmark", "--mode", "train", "--config", "c.py", "--config.optimizer.ema=0"])
    assert (args.config, args.overrides) == ("c.py", ["optimizer.ema=0"])
    assert parse_size("49x480x720") == (49, 480, 720)


@pytest.mark.parametrize(
    "words, message",
    [
        (["--size", "64x96"], "--size 64x96: pass frames, height and width, such as 49x480x720"),
        (["--size", "0x64x96"], "--size 0x64x96"),
        (["--steps", "0"], "--steps 0: pass 1 to 1000"),
        (["--random", "tiny", "--checkpoint", "c"], "not allowed with"),
        (["--random", "huge"], "invalid choice"),
        (["--config", "configs/tiny.py"], "--config: has no effect with --mode sample"),
        (["--config.steps=3"], "--config.steps=3: has no effect with --mode sample"),
        (["--mode", "train"], "--mode train needs a --config"),
        (["--mode", "train", "--config", "configs/tiny.py", "--guided"], "--guided: has no effect"),
        (["--mode", "train", "--config", "configs/none.py"], "no such file"),
        (["--mode", "train", "--config", "configs/tiny.py", "--config.nonsense=3"], "unknown key"),
        (["--random", "tiny", "--size", "6x64x96"], "frames=6"),
        (["--checkpoint", "no/such/folder"], "no/such/folder"),
    ],
)
def test_bad_options_are_refused(words, message, capsys):
    assert main(["benchmark", *words]) == 2
    printed = capsys.readouterr()
    assert message in printed.err and printed.err.count("\n") == 1 and not printed.out


def test_the_embedded_model_end_to_end(capsys):
    assert main(["benchmark", "--steps", "1", "--size", "5x32x48", "--json"]) == 0
    *table, last = capsys.readouterr().out.splitlines()
    report = json.loads(last)
    assert report["weights"] == "embedded" and report["mode"] == "sample" and report["steps"] == 1
    assert (report["frames"], report["height"], report["width"]) == (5, 32, 48)
    wanted = {"device", "versions", "compile_seconds", "encode_seconds", "step_seconds", "decode_seconds"}
    assert wanted | {"total_seconds", "mfu", "peak_bytes", "peak_bytes_of"} <= report.keys()
    rows = {line[:16].strip() for line in table}
    assert {"machine", "versions", "shapes", "compile advance", "encode", "denoise", "decode"} <= rows
    assert {"arithmetic", "peak memory"} <= rows


@pytest.mark.slow
def test_training_end_to_end(capsys):
    words = [
        "benchmark",
        "--mode",
        "train",
        "--config",
        "configs/gencompositor_6b.py:runlocal,lora",
        "--steps",
        "1",
    ]
    assert main([*words, "--config.batch_size=1", "--json"]) == 0
    *table, last = capsys.readouterr().out.splitlines()
    report = json.loads(last)
    assert report["overrides"] == ["batch_size=1"] and 0 < report["trained_parameters"] < report["parameters"]
    assert any(line.startswith("planned memory") for line in table)
