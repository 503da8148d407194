"""libtpu keeps quiet on a machine without a TPU; a TPU host is left alone."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gencompositor_jax import libtpu

ROOT = Path(__file__).parents[1]


def add_device(devices: Path, vendor: str, kind: str) -> None:
    device = devices / f"0000:00:0{len(list(devices.iterdir()))}.0"
    device.mkdir()
    (device / "vendor").write_text(f"{vendor}\n")
    (device / "class").write_text(f"{kind}\n")


@pytest.fixture
def unset(monkeypatch):
    for name in libtpu.HOST:
        monkeypatch.setenv(name, "")  # so that it is restored after the test
        monkeypatch.delenv(name)


def test_a_machine_without_a_tpu_is_described(tmp_path, unset):
    add_device(tmp_path, "0x10de", "0x030200")  # an NVIDIA GPU
    add_device(tmp_path, "0x1ae0", "0x020000")  # Google's virtual network card
    libtpu.describe_host(tmp_path)
    assert {name: os.environ[name] for name in libtpu.HOST} == libtpu.HOST


def test_what_the_user_has_set_stays(tmp_path, unset, monkeypatch):
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "10.0.0.1")
    libtpu.describe_host(tmp_path)
    assert os.environ["TPU_WORKER_HOSTNAMES"] == "10.0.0.1"


def test_a_tpu_host_is_left_alone(tmp_path, unset):
    add_device(tmp_path, "0x8086", "0x060000")
    add_device(tmp_path, "0x1ae0", "0x120000")
    libtpu.describe_host(tmp_path)
    assert libtpu.HOST.keys().isdisjoint(os.environ)


@pytest.mark.multiprocess
@pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="pip install -e '.[tpu-aot]'")
def test_a_command_that_uses_jax_writes_nothing_to_stderr():
    names = {"JAX_PLATFORMS", "XLA_FLAGS", *libtpu.HOST}
    environment = {name: value for name, value in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-m", "gencompositor_jax", "inspect"],
        env=environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "not verified" in done.stdout
    assert done.stderr == ""
