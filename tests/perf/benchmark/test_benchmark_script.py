"""launch/benchmark_gpu.sh: its parts are valid commands, and their results are saved one by one."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from gencompositor_jax.cli import parse
from gencompositor_jax.training.config import load_config

SCRIPT = Path(__file__).parents[3] / "launch" / "benchmark_gpu.sh"
PARTS = ["check", "sample", "convolutions", "train", "torch", "guided", "int8", "attention", "lora", "memory"]
# Stands for python3: records its arguments, and fails on request.
FAKE = """#!/bin/sh
echo "$XLA_PYTHON_CLIENT_MEM_FRACTION $*" >>"$CALLS"
echo words
case "$*" in *"$FAILING"*) echo no >&2; exit 3 ;; esac
echo '{"mode": "sample"}'
"""


@pytest.fixture
def run(tmp_path):
    fake, calls = tmp_path / "python", tmp_path / "calls"
    fake.write_text(FAKE)
    fake.chmod(0o755)

    def run(*words, failing="nothing at all", **env):
        calls.write_text("")
        given = {**os.environ, "PYTHON": str(fake), "CALLS": str(calls), "FAILING": failing, **env}
        given.pop("XLA_PYTHON_CLIENT_MEM_FRACTION", None)
        done = subprocess.run(
            [SCRIPT, tmp_path / "out", *words], env=given, capture_output=True, text=True, check=False
        )
        return done, calls.read_text().splitlines()

    return run


def commands(calls):
    return [
        line.partition("-m gencompositor_jax ")[2].split() for line in calls if "gencompositor_jax" in line
    ]


@pytest.mark.multiprocess
@pytest.mark.parametrize("small", ["", "1"])
def test_every_part_is_a_valid_command_and_is_saved(run, tmp_path, small):
    done, calls = run(SMALL=small)
    assert done.returncode == 0, done.stderr
    assert len(calls) == len(PARTS) + 1  # the one with PyTorch resumes once
    for words in commands(calls):
        args = parse(words)
        if args.mode == "train":
            config = load_config(args.config, args.overrides)
            assert (config.batch_size, config.optimizer.ema) == (1, 0)
    assert sum(line.startswith("0.95 ") for line in calls) == 3
    for name in PARTS:
        assert json.loads((tmp_path / "out" / f"{name}.json").read_text()) == {"mode": "sample"}


@pytest.mark.multiprocess
def test_finished_parts_are_skipped_and_failed_ones_repeated(run, tmp_path):
    done, calls = run("sample", "train", failing="--mode train")
    assert done.returncode == 1 and len(calls) == 2
    assert "train: failed with code 3" in done.stderr
    assert not (tmp_path / "out" / "train.json").exists()
    done, calls = run("sample", "train")
    assert done.returncode == 0 and "sample: already measured" in done.stdout
    assert len(calls) == 1 and "--mode train" in calls[0]


@pytest.mark.multiprocess
def test_an_unknown_part_is_refused(run):
    done, calls = run("nonsense")
    assert done.returncode == 2 and not calls and "nonsense" in done.stderr
