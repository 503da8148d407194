import json

import pytest

from gencompositor_jax.cli import main

CONFIG = ["plan", "--config", "configs/gencompositor_6b.py:runlocal"]


def test_the_command_prints_tables_and_one_last_line(capsys):
    assert main([*CONFIG, "--mode", "sample", "--topology", "cpu:2", "--batch", "1", "--json"]) == 0
    *text, last = capsys.readouterr().out.splitlines()
    assert json.loads(last)["topology"] == "cpu:2"
    assert any(line.startswith("fits: ") for line in text)


@pytest.mark.parametrize(
    "options, message",
    [
        (["--topology", "cpu:2", "--batch", "0"], "--batch 0"),
        (["--topology", "cpu:2", "--batch", "2", "--frames", "49"], "sampled one by one"),
        (["--topology", "cpu:2", "--frames", "0"], "frames=0"),
        (["--topology", "cpu:2", "--mode", "train", "--frames", "9"], "--frames is for sampling"),
        (["--topology", "moon"], "--topology moon"),
        (["--topology", "cpu:2", "--mesh", "fsdp"], "--mesh fsdp"),
        (["--topology", "cpu:2", "--config.mesh.fsdp=2"], "--mesh for sampling"),
    ],
)
def test_wrong_options_are_refused_in_one_line(options, message, capsys):
    assert main([*CONFIG, *options]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
