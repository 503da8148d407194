"""Joins the processes of a run by jax.distributed, and ends all of them when one fails.

Process 0, the first, runs the coordinator, a small server with which the others register. Its address, the
number of processes and the number of each come from the command line, or from Slurm, a TPU pod, GKE or Open
MPI.

If a process dies, the coordinator misses its heartbeats and ends all others, unless the processes are
independent: those run no program together. If the first one dies, the others lose their connection and end at
once.
"""

import contextlib
import math
import multiprocessing
import os
import re
import socket
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from typing import NamedTuple

import jax

from gencompositor_jax.errors import InputError

# A process without heartbeats for so long counts as dead, and all others end. Heartbeats are sent by a thread
# that compilation and long steps do not block, so this only has to outlast a slow network.
HEARTBEAT_S = 60
# How long a finished process waits for the others, while they send heartbeats: the first one may be writing.
SHUTDOWN_S = 3600
RETRY_S = 0.5  # between two attempts to reach the coordinator
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class Cluster(NamedTuple):
    """The processes of a run, and which one this is."""

    coordinator: str  # HOST:PORT of the first process
    processes: int
    process: int  # the number of this process, from 0
    devices: list[int]  # local devices that it uses; empty for all


def initialize(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    timeout_s: float = 300.0,
    heartbeat_s: float = HEARTBEAT_S,
    independent: bool = False,
) -> None:
    """Join the processes of a run, before anything asks JAX for its devices; a single process does nothing.

    If the coordinator is reached, but another process doesn't register in time, prints that and exits with
    code 2.

    Args:
        coordinator: "HOST:PORT" of the first process. With None for this and the next two, they come from the
            cluster's environment, if there is one.
        processes: the number of processes.
        process: the number of this one, from 0.
        timeout_s: how long to wait for the others.
        heartbeat_s: a process without heartbeats for so long counts as dead.
        independent: each process uses its own devices alone, which all open here. A dead one ends no other
            but, if it is the first, all; it may join again. They end with `multihost.leave_together`.

    Raises:
        InputError: contradictory arguments, a port in use, or a coordinator that can't be reached.
    """
    cluster = resolve(coordinator, processes, process, timeout_s)
    if cluster is None:
        return
    host, port = parse_address(cluster.coordinator)
    bind = f"{host if host in LOOPBACK else '[::]'}:{port}"  # a run on one machine needs no network
    if cluster.process == 0:
        check_free(host if host in LOOPBACK else "", port)
    else:
        wait_for(host, port, timeout_s)

    if independent:
        jax.config.update("jax_enable_recoverability", True)
        jax.config.update("jax_enable_preemption_service", False)  # it would take SIGTERM
        # Gloo would register the local devices with the coordinator, which refuses that after a restart.
        jax.config.update("jax_cpu_collectives_implementation", None)

    # On a time-out JAX's client ends the process with a stack trace, so this timer ends it earlier.
    timer = threading.Timer(timeout_s, _exit_on_timeout, (cluster, timeout_s))
    timer.daemon = True
    timer.start()
    jax.distributed.initialize(
        cluster.coordinator,
        cluster.processes,
        cluster.process,
        local_device_ids=cluster.devices,
        cluster_detection_method="deactivate",
        initialization_timeout=math.ceil(timeout_s) + 30,
        heartbeat_timeout_seconds=math.ceil(heartbeat_s),
        shutdown_timeout_seconds=SHUTDOWN_S,
        coordinator_bind_address=bind,
    )
    timer.cancel()
    if independent:
        jax.devices()  # now, because each process waits for the devices of all


def is_first() -> bool:
    """Whether this is the process that prints and writes files."""
    return jax.process_index() == 0


@contextlib.contextmanager
def exit_together() -> Iterator[None]:
    """A context in which an error ends the process at once if it is one of several; alone, the error is
    raised.

    An ordinary exit would wait for the other processes, and they for this one. The exit code is 2 for an
    InputError (printed in one line), 130 for an interruption, and 1 for other errors (with their traceback).
    """
    try:
        yield
    except BaseException as error:
        if not jax.distributed.is_initialized() or (isinstance(error, SystemExit) and not error.code):
            raise
        match error:
            case InputError():
                line, code = " ".join(str(error).split()), 2
            case KeyboardInterrupt():
                line, code = "interrupted", 130
            case SystemExit():
                line, code = f"exit {error.code}", error.code if isinstance(error.code, int) else 1
            case _:
                line, code = traceback.format_exc().rstrip(), 1
        _exit(f"gencompositor (process {jax.process_index()}): {line}", code)


def resolve(
    coordinator: str | None, processes: int | None, process: int | None, timeout_s: float
) -> Cluster | None:
    """The cluster, from the arguments of `initialize` or from the environment; None for a single process.

    timeout_s: how long to wait until the host name of the first process can be resolved.
    """
    flags = {"--coordinator": coordinator, "--processes": processes, "--process": process}
    missing = [name for name, value in flags.items() if value is None]
    if coordinator is None or processes is None or process is None:
        if len(missing) < len(flags):
            raise InputError(f"{' and '.join(missing)}: missing; pass {', '.join(flags)} together, or none")
        return _detect(timeout_s)
    if processes < 1 or not 0 <= process < processes:
        raise InputError(
            f"--processes {processes} --process {process}: pass 1 or more processes, numbered from 0"
        )
    parse_address(coordinator)
    return Cluster(coordinator, processes, process, []) if processes > 1 else None


def _detect(timeout_s: float) -> Cluster | None:
    # Not public, but the public `jax.distributed.initialize` can't return the address before it connects.
    from jax._src.clusters import ClusterEnv

    try:
        coordinator, processes, process, devices = ClusterEnv.auto_detect_unset_distributed_params(
            None, None, None, None, None, math.ceil(timeout_s)
        )
    except Exception as error:  # any error of a metadata server, a name server or an unknown Slurm
        raise InputError(
            f"the environment is that of a cluster, but can't be read ({error!r}); pass --coordinator, "
            "--processes and --process"
        ) from error
    if coordinator is None or processes is None or process is None or processes == 1:
        return None
    # Under Slurm and Open MPI JAX gives each process one device, by its number on the host: with one process
    # per host the other devices would be idle.
    return Cluster(coordinator, processes, process, [] if _alone_on_host() else list(devices or ()))


def _alone_on_host() -> bool:
    names = ("SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE", "OMPI_COMM_WORLD_LOCAL_SIZE")
    tasks = next((os.environ[name] for name in names if name in os.environ), "")
    return re.fullmatch(r"1(\(x\d+\))?", tasks) is not None  # Slurm writes "1(x4)" for one on each of four


def parse_address(coordinator: str) -> tuple[str, int]:
    """(host, port) of "HOST:PORT"; an IPv6 address keeps its brackets. Raises InputError."""
    host, _, port = coordinator.rpartition(":")
    if not re.fullmatch(r"\[[0-9a-fA-F:.%]+\]|[^\s:/\[\]]+", host) or not re.fullmatch(r"\d{1,5}", port):
        raise InputError(f"--coordinator {coordinator}: pass HOST:PORT, such as 10.0.0.2:9900")
    if not 1 <= int(port) <= 65535:
        raise InputError(f"--coordinator {coordinator}: the port must be 1 to 65535")
    return host, int(port)


def check_free(host: str, port: int) -> None:
    """Raise InputError unless this machine can listen on a port. host: "" for all of its addresses."""
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    try:
        socket.create_server((host.strip("[]"), port), family=family).close()
    except OSError as error:
        raise InputError(
            f"--coordinator: port {port} of this machine can't be used ({error.strerror or error}); pass "
            "another one to all processes"
        ) from error


def wait_for(host: str, port: int, timeout_s: float) -> None:
    """Wait until something listens on a port. Raises InputError after the time-out."""
    end = time.monotonic() + timeout_s
    while True:
        left = end - time.monotonic()
        try:
            socket.create_connection((host.strip("[]"), port), timeout=max(min(left, 10.0), 0.1)).close()
            return
        except OSError as error:
            if time.monotonic() + RETRY_S > end:
                raise InputError(
                    f"--coordinator {host}:{port}: not reachable within {timeout_s:g} s ({error}); start "
                    "process 0 there, and open the port between the machines"
                ) from error
        time.sleep(RETRY_S)


def _exit_on_timeout(cluster: Cluster, timeout_s: float) -> None:
    _exit(
        f"gencompositor (process {cluster.process}): not all {cluster.processes} processes have reached "
        f"{cluster.coordinator} within {timeout_s:g} s; see the logs of the missing ones",
        2,
    )


def _exit(line: str, code: int) -> None:
    """Print a line and end the process, without exit handlers, which would wait for the other processes."""
    for child in multiprocessing.active_children():  # data workers, which would outlive this process
        child.kill()
    sys.stdout.flush()
    print(line, file=sys.stderr, flush=True)
    os._exit(code)
