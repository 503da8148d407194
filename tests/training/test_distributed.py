import os
import socket
import sys
import threading
import time

import pytest

from gencompositor_jax.errors import InputError
from gencompositor_jax.training import distributed
from gencompositor_jax.training.distributed import Cluster
from tests import processes

# Joins the processes as `train` does, sums over all devices, and ends as the argument says.
MEMBER = """
import argparse, sys, time
from gencompositor_jax.errors import InputError
from gencompositor_jax.training import distributed
parser = argparse.ArgumentParser()
parser.add_argument("end"); parser.add_argument("timeout", type=float); parser.add_argument("--coordinator")
parser.add_argument("--processes", type=int); parser.add_argument("--process", type=int)
args = parser.parse_args()
if args.end == f"late{args.process}": sys.exit(0)
distributed.initialize(args.coordinator, args.processes, args.process, args.timeout, heartbeat_s=10)
with distributed.exit_together():
    import jax, jax.numpy as jnp, numpy as np
    from jax.experimental import multihost_utils
    from jax.sharding import Mesh, NamedSharding, PartitionSpec
    sharding = NamedSharding(Mesh(np.array(jax.devices()), "x"), PartitionSpec("x"))
    ones = jax.make_array_from_callback((jax.device_count(),), sharding, lambda i: np.ones(1, np.float32))
    total = jax.jit(jnp.sum)(ones)
    print(f"sum {float(total):g} of {jax.local_device_count()} here, first: {distributed.is_first()}")
    sys.stdout.flush()
    multihost_utils.sync_global_devices("both have printed their sum")
    if args.end == f"raises{args.process}": raise RuntimeError("a fault of this process")
    if args.end == f"refuses{args.process}": raise InputError("a file of\\n this process")
    if args.end != "ends": time.sleep(900)
print("goodbye")
"""


def members(folder, end, timeout=900.0, count=2, devices=2):
    command = [sys.executable, "-c", MEMBER, end, str(timeout)]
    return processes.start(command, folder, count=count, devices=devices)


@pytest.mark.multiprocess
def test_two_processes_share_their_devices(tmp_path):
    with members(tmp_path, "ends") as group:
        group.check()
        for i in range(2):
            assert f"sum 4 of 2 here, first: {i == 0}" in group.log(i)
            assert "goodbye" in group.log(i).splitlines()


@pytest.mark.slow  # the end of another process than the first is detected by its missing heartbeats
@pytest.mark.multiprocess
@pytest.mark.parametrize(
    ("end", "process", "code", "message"),
    [
        ("raises1", 1, 1, "RuntimeError: a fault of this process"),
        ("refuses0", 0, 2, "a file of this process"),
    ],
)
def test_an_error_ends_its_process_at_once_and_then_all(tmp_path, end, process, code, message):
    with members(tmp_path, end) as group:
        group.wait_for("sum 4", process=1 - process)
        codes = group.wait()
        assert codes[process] == code
        assert codes[1 - process] not in (0, -9), "the other one did not end by itself"
        assert f"gencompositor (process {process}): " in group.log(process)
        assert message in group.log(process)
        assert "goodbye" not in group.log(0) + group.log(1)


@pytest.mark.multiprocess
def test_a_process_that_never_registers_is_an_error_with_the_address(tmp_path):
    with members(tmp_path, "late1", timeout=3.0) as group:
        assert group.wait() == [2, 0]
        log = group.log(0)
        assert "not all 2 processes have reached 127.0.0.1:" in log
        assert "within 3 s" in log
        assert "stack trace" not in log


@pytest.mark.multiprocess
def test_killed_processes_leave_nothing_behind(tmp_path):
    child = (
        "import subprocess, sys; p = subprocess.Popen(['sleep', '900']); print(p.pid, flush=True); p.wait()"
    )
    with processes.start([sys.executable, "-c", child], tmp_path) as group:
        pid = int(group.wait_for(r"(\d+)\n")[1])
        os.kill(pid, 0)
        group.kill(0)
        assert group.wait() == [-9]
    with pytest.raises(ProcessLookupError):
        _wait_until_gone(pid)


def _wait_until_gone(pid):
    end = time.monotonic() + processes.PATIENCE_S
    while time.monotonic() < end:
        os.kill(pid, 0)
        with open(f"/proc/{pid}/stat") as stat:
            if stat.read().split()[2] == "Z":  # dead, but not yet reaped by its new parent
                raise ProcessLookupError
        time.sleep(0.05)


def test_a_single_process_joins_nothing():
    distributed.initialize()
    distributed.initialize("127.0.0.1:1", 1, 0)
    assert distributed.is_first()
    with pytest.raises(KeyError), distributed.exit_together():
        raise KeyError


@pytest.fixture
def no_cluster(monkeypatch):
    for name in os.environ:
        if name.startswith(("SLURM_", "OMPI_")):
            monkeypatch.delenv(name)


def test_arguments_are_taken_as_given(no_cluster):
    assert distributed.resolve("host:1234", 3, 2, 1.0) == Cluster("host:1234", 3, 2, [])
    assert distributed.resolve(None, None, None, 1.0) is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("host:1", None, None), "^--processes and --process: missing"),
        ((None, 2, 0), "^--coordinator: missing"),
        (("host:1", 2, 2), "--process 2"),
        (("host:1", 2, -1), "--process -1"),
        (("host:1", 0, 0), "--processes 0"),
        (("host", 2, 0), "pass HOST:PORT"),
        (("host:", 2, 0), "pass HOST:PORT"),
        ((":1", 2, 0), "pass HOST:PORT"),
        (("http://host:1", 2, 0), "pass HOST:PORT"),
        (("::1:1", 2, 0), "pass HOST:PORT"),
        (("host:0", 2, 0), "1 to 65535"),
        (("host:65536", 2, 0), "1 to 65535"),
    ],
)
def test_contradictory_arguments_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        distributed.resolve(*arguments, timeout_s=1.0)


def test_addresses():
    assert distributed.parse_address("node-1.cluster:9900") == ("node-1.cluster", 9900)
    assert distributed.parse_address("[fe80::1]:9900") == ("[fe80::1]", 9900)


SLURM = {"SLURM_JOB_ID": "4097", "SLURM_STEP_NODELIST": "gpu[07-10],big1", "SLURM_LOCALID": "0"}


@pytest.mark.parametrize(
    ("tasks", "per_node", "process", "local", "devices"),
    [("4", "1(x4)", "3", "0", []), ("16", "4(x4)", "5", "1", [1]), ("4", "2,1(x2)", "1", "1", [1])],
)
def test_the_environment_of_slurm(no_cluster, monkeypatch, tasks, per_node, process, local, devices):
    """The only task of a node has all of its devices; of several each has one."""
    environment = {"SLURM_NTASKS": tasks, "SLURM_PROCID": process, "SLURM_STEP_TASKS_PER_NODE": per_node}
    for name, value in {**SLURM, **environment, "SLURM_LOCALID": local}.items():
        monkeypatch.setenv(name, value)
    cluster = distributed.resolve(None, None, None, 1.0)
    assert cluster == Cluster("gpu07:61441", int(tasks), int(process), devices)


def test_one_slurm_task_is_a_single_process(no_cluster, monkeypatch):
    for name, value in {**SLURM, "SLURM_NTASKS": "1", "SLURM_PROCID": "0"}.items():
        monkeypatch.setenv(name, value)
    assert distributed.resolve(None, None, None, 1.0) is None


def test_the_environment_of_open_mpi(no_cluster, monkeypatch):
    monkeypatch.setenv("OMPI_MCA_orte_hnp_uri", "1314521088.0;tcp://10.96.0.1,10.148.0.1:34911")
    for name, value in (("SIZE", "2"), ("RANK", "1"), ("LOCAL_RANK", "1"), ("LOCAL_SIZE", "2")):
        monkeypatch.setenv(f"OMPI_COMM_WORLD_{name}", value)
    cluster = distributed.resolve(None, None, None, 1.0)
    assert cluster is not None
    assert cluster.coordinator.startswith("10.96.0.1:")
    assert cluster[1:] == (2, 1, [1])


def test_an_unreadable_environment_is_an_input_error(no_cluster, monkeypatch):
    for name, value in {**SLURM, "SLURM_NTASKS": "many", "SLURM_PROCID": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(InputError, match="pass --coordinator, --processes and --process"):
        distributed.resolve(None, None, None, 1.0)


def test_a_coordinator_that_is_not_there_is_an_error_with_its_address():
    port = processes.free_port()
    with pytest.raises(InputError, match=f"127.0.0.1:{port}: not reachable within 0.1 s"):
        distributed.initialize(f"127.0.0.1:{port}", 2, 1, timeout_s=0.1)


def test_a_coordinator_that_starts_late_is_found():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        opening = threading.Timer(0.3, server.listen)
        opening.start()
        distributed.wait_for("127.0.0.1", server.getsockname()[1], timeout_s=900.0)
        assert opening.finished.is_set()


def test_a_port_in_use_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(InputError, match=f"port {port} of this machine can't be used"):
            distributed.initialize(f"127.0.0.1:{port}", 2, 0, timeout_s=0.1)
