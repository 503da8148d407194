import jax
import pytest

from gencompositor_jax.errors import InputError
from gencompositor_jax.perf.plan import topology


@pytest.mark.parametrize("name", ["", "tpu", "v5e", "v9x:2x2", "v5e:2", "v5e:0x", "cpu:0", "cpu", "gpu:2"])
def test_an_unknown_name_is_refused(name):
    with pytest.raises(InputError, match=r"--topology .*v5e:2x2"):
        topology.find(name)


def test_virtual_cpu_devices_share_the_machine():
    few, many = topology.find("cpu:2"), topology.find("cpu:8")
    assert (len(few.devices), len(many.devices)) == (2, 8)
    assert few.chip.memory == pytest.approx(4 * many.chip.memory, rel=1e-6)
    assert many.chip.flops > 0 and many.chip.bandwidth > 0


def test_more_cpu_devices_than_the_process_has_are_refused():
    assert len(jax.devices("cpu")) < 64
    with pytest.raises(InputError, match="process of its own"):
        topology.find("cpu:64")


def test_without_libtpu_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(topology.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="tpu-aot"):
        topology.find("v5e:2x2")


def test_a_missing_gpu_is_reported(monkeypatch):
    def none(platform):
        raise RuntimeError("no such platform")

    monkeypatch.setattr(topology.jax, "devices", none)
    with pytest.raises(InputError, match="no GPU here"):
        topology.find("gpu")
