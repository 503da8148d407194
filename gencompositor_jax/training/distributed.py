"""Several processes as one: how they find each other, and how they end together.

Process 0 is the first: it holds the coordinator, a small server that the others register with. Who is who is
either said (address, number of processes, own number) or known from Slurm, a TPU pod, GKE or Open MPI.

If a process dies, the coordinator misses its heartbeats and ends all others; if the first one dies, the
others lose their connection and end at once.
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

# A process that has been silent for so long is dead, and all others end. Heartbeats come from a thread of
# their own, which no compilation and no long step holds up, so this only has to outlast a slow network.
HEARTBEAT_S = 60
# How long a process that is done waits for the others to be done, while their heartbeats go on: the first one
# may still be writing.
FAREWELL_S = 3600
RETRY_S = 0.5  # between two looks for the coordinator
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


class Cluster(NamedTuple):
    """Who takes part."""

    coordinator: str  # HOST:PORT of the first process, the same for all
    processes: int
    process: int  # this one, from 0
    devices: list[int]  # those of its host that it uses; empty for all


def start(
    coordinator: str | None = None,
    processes: int | None = None,
    process: int | None = None,
    timeout_s: float = 300.0,
    heartbeat_s: float = HEARTBEAT_S,
) -> None:
    """Joins the processes of a run, before anything asks JAX for its devices; nothing for a single process.

    coordinator: "HOST:PORT" of the first process, with the number of processes and this one's, from 0. All
    None: as the cluster says, if there is one. timeout_s: to wait for the others. heartbeat_s: a process that
    is silent for so long counts as dead.

    Raises InputError for contradicting arguments, a taken port, and a coordinator that can't be reached. If
    the coordinator is there and another process isn't, this one says so and exits with code 2.
    """
    cluster = resolve(coordinator, processes, process, timeout_s)
    if cluster is None:
        return
    host, port = address(cluster.coordinator)
    bind = f"{host if host in LOOPBACK else '[::]'}:{port}"  # a trial on one machine is not for the network
    if cluster.process == 0:
        check_free(host if host in LOOPBACK else "", port)
    else:
        wait_for(host, port, timeout_s)

    # The client ends the process with a stack trace where it should raise, so we are quicker than it is.
    watch = threading.Timer(timeout_s, _give_up, (cluster, timeout_s))
    watch.daemon = True
    watch.start()
    jax.distributed.initialize(
        cluster.coordinator,
        cluster.processes,
        cluster.process,
        local_device_ids=cluster.devices,
        cluster_detection_method="deactivate",
        initialization_timeout=math.ceil(timeout_s) + 30,
        heartbeat_timeout_seconds=math.ceil(heartbeat_s),
        shutdown_timeout_seconds=FAREWELL_S,
        coordinator_bind_address=bind,
    )
    watch.cancel()


def is_first() -> bool:
    """Whether this process is the one that prints and writes what there is one of."""
    return jax.process_index() == 0


@contextlib.contextmanager
def together() -> Iterator[None]:
    """A context whose errors end the process at once when it is one of several; alone, they pass through.

    Otherwise the exit would wait for the other processes, and these for this one's next message. The exit
    code is 2 for an InputError (said in one line), 130 for an interruption, 1 for anything else (with its
    traceback).
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
        _leave(f"gencompositor (process {jax.process_index()}): {line}", code)


def resolve(
    coordinator: str | None, processes: int | None, process: int | None, timeout_s: float
) -> Cluster | None:
    """Who takes part, from the arguments of `start` or from the environment; None for a single process.

    timeout_s: to wait until the first process's host has a name that can be looked up.
    """
    told = {"--coordinator": coordinator, "--processes": processes, "--process": process}
    missing = [name for name, value in told.items() if value is None]
    if coordinator is None or processes is None or process is None:
        if len(missing) < len(told):
            raise InputError(f"{' and '.join(missing)}: missing; pass {', '.join(told)} together, or none")
        return _detect(timeout_s)
    if processes < 1 or not 0 <= process < processes:
        raise InputError(
            f"--processes {processes} --process {process}: pass 1 or more, and this one's number from 0 to "
            "one less"
        )
    address(coordinator)
    return Cluster(coordinator, processes, process, []) if processes > 1 else None


def _detect(timeout_s: float) -> Cluster | None:
    # Not a public module, but the public `initialize` has no way to ask for the address before connecting.
    from jax._src.clusters import ClusterEnv

    try:
        coordinator, processes, process, devices = ClusterEnv.auto_detect_unset_distributed_params(
            None, None, None, None, None, math.ceil(timeout_s)
        )
    except Exception as error:  # whatever a metadata server, a name server or an unknown Slurm leads to
        raise InputError(
            f"this looks like a cluster, but not one that can be understood ({error!r}); pass --coordinator, "
            "--processes and --process"
        ) from error
    if coordinator is None or processes is None or process is None or processes == 1:
        return None
    # Under Slurm and Open MPI each process gets the one device of its number on the host, which would leave
    # the other devices idle where there is one process per host.
    return Cluster(coordinator, processes, process, [] if _alone_on_host() else list(devices or ()))


def _alone_on_host() -> bool:
    names = ("SLURM_STEP_TASKS_PER_NODE", "SLURM_TASKS_PER_NODE", "OMPI_COMM_WORLD_LOCAL_SIZE")
    tasks = next((os.environ[name] for name in names if name in os.environ), "")
    return re.fullmatch(r"1(\(x\d+\))?", tasks) is not None  # Slurm writes "1(x4)" for one on each of four


def address(coordinator: str) -> tuple[str, int]:
    """(host, port) of "HOST:PORT"; an IPv6 address keeps its brackets. Raises InputError."""
    host, _, port = coordinator.rpartition(":")
    if not re.fullmatch(r"\[[0-9a-fA-F:.%]+\]|[^\s:/\[\]]+", host) or not re.fullmatch(r"\d{1,5}", port):
        raise InputError(f"--coordinator {coordinator}: pass HOST:PORT, such as 10.0.0.2:9900")
    if not 1 <= int(port) <= 65535:
        raise InputError(f"--coordinator {coordinator}: the port must be 1 to 65535")
    return host, int(port)


def check_free(host: str, port: int) -> None:
    """Raises InputError where this machine can't listen on a port. host: "" for all of its addresses."""
    family = socket.AF_INET6 if host.startswith("[") else socket.AF_INET
    try:
        socket.create_server((host.strip("[]"), port), family=family).close()
    except OSError as error:
        raise InputError(
            f"--coordinator: port {port} of this machine can't be used ({error.strerror or error}); pass "
            "another one to all processes"
        ) from error


def wait_for(host: str, port: int, timeout_s: float) -> None:
    """Returns once something listens there. Raises InputError with the address after the time-out."""
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
                    "process 0 there, and let the port pass between the machines"
                ) from error
        time.sleep(RETRY_S)


def _give_up(cluster: Cluster, timeout_s: float) -> None:
    _leave(
        f"gencompositor (process {cluster.process}): not all {cluster.processes} processes have met at "
        f"{cluster.coordinator} within {timeout_s:g} s; look at the logs of those that are missing",
        2,
    )


def _leave(line: str, code: int) -> None:
    """Says why, and ends without waiting: no exit handlers, no goodbye to the other processes."""
    for child in multiprocessing.active_children():  # data workers, which would outlive this process
        child.kill()
    sys.stdout.flush()
    print(line, file=sys.stderr, flush=True)
    os._exit(code)
