"""For tests that need several processes: a command, started N times with M virtual devices each.

    with processes.train("--config", ..., "--workdir", ..., folder=tmp_path, count=2, devices=4) as group:
        group.wait_for("step 10")
        group.kill(1)
        codes = group.wait(60)

The processes join by jax.distributed over loopback, on the CPU. Nothing of theirs survives the `with` block.
"""

import contextlib
import dataclasses
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

POLL_S = 0.05
TAIL = 4000  # characters of each log in a message


@dataclasses.dataclass
class Group:
    """Running processes and their logs (stdout and stderr together)."""

    processes: list[subprocess.Popen]
    logs: list[Path]

    def __enter__(self) -> "Group":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def log(self, process: int = 0) -> str:
        """What a process has written so far."""
        return self.logs[process].read_text(errors="replace")

    def codes(self) -> list[int | None]:
        """Exit codes, -9 for SIGKILL and so on; None while running."""
        return [process.poll() for process in self.processes]

    def wait_for(self, pattern: str, process: int = 0, timeout: float = 120.0) -> re.Match[str]:
        """Returns once a regular expression is in a process's log. Raises AssertionError if it ends before or
        is too slow.
        """
        end = time.monotonic() + timeout
        while True:
            over = self.processes[process].poll() is not None  # asked first: it may write and then end
            if found := re.search(pattern, self.log(process)):
                return found
            if over or time.monotonic() > end:
                why = "ended" if over else f"did not write it in {timeout:g} s"
                raise AssertionError(f"{pattern!r}: process {process} {why}\n{self.told()}")
            time.sleep(POLL_S)

    def kill(self, process: int, number: int = signal.SIGKILL) -> None:
        """Sends a signal to one process alone, not to its children."""
        os.kill(self.processes[process].pid, number)

    def wait(self, timeout: float = 120.0, grace: float = 10.0) -> list[int]:
        """The exit codes once all have ended.

        When one has failed, the others get `grace` seconds to notice and are then killed. Raises
        AssertionError with the logs if all together take longer than `timeout`.
        """
        end = time.monotonic() + timeout
        failed = False
        while any(code is None for code in self.codes()):
            if not failed and any(self.codes()):
                failed, end = True, min(end, time.monotonic() + grace)
            if time.monotonic() > end:
                told = self.told()
                self.end()
                if failed:
                    break
                raise AssertionError(f"not done in {timeout:g} s\n{told}")
            time.sleep(POLL_S)
        return [process.wait() for process in self.processes]

    def check(self, timeout: float = 120.0) -> "Group":
        """Waits, and raises AssertionError with the logs unless all end with 0."""
        codes = self.wait(timeout)
        assert not any(codes), f"exit codes {codes}\n{self.told()}"
        return self

    def end(self) -> None:
        """Kills what still runs, with all children."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # each is a group of its own, alive while a child is
            process.wait()

    def told(self) -> str:
        """The ends of the logs, for messages."""
        return "\n".join(f"--- process {i}\n{self.log(i)[-TAIL:]}" for i in range(len(self.logs)))


def start(
    command: Sequence[str],
    folder: Path,
    *,
    count: int = 1,
    devices: int = 1,
    env: Mapping[str, str] | None = None,
) -> Group:
    """Starts `command` in `count` processes with `devices` virtual devices each; logs go to `folder`.

    Several get --coordinator, --processes and --process appended.
    """
    folder.mkdir(parents=True, exist_ok=True)
    coordinator = f"127.0.0.1:{free_port()}"
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("SLURM_", "OMPI_", "JAX_", "XLA_"))}
    clean |= {
        "JAX_PLATFORMS": "cpu",
        "XLA_FLAGS": f"--xla_force_host_platform_device_count={devices} --xla_backend_optimization_level=0",
        "PYTHONUNBUFFERED": "1",
        **(env or {}),
    }
    group = Group([], [])
    for i in range(count):
        who = ["--coordinator", coordinator, "--processes", str(count), "--process", str(i)]
        log = folder / f"process{i}.log"
        with open(log, "wb") as out:
            group.processes.append(
                subprocess.Popen(
                    [*command, *(who if count > 1 else ())],
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=subprocess.STDOUT,
                    env=clean,
                    start_new_session=True,
                )
            )
        group.logs.append(log)
    return group


def train(
    *args: str, folder: Path, count: int = 1, devices: int = 1, env: Mapping[str, str] | None = None
) -> Group:
    """Starts `gencompositor train` with these arguments; see `start`."""
    command = [sys.executable, "-m", "gencompositor_jax", "train", *args]
    return start(command, folder, count=count, devices=devices, env=env)


def free_port() -> int:
    """A port of the loopback device that nothing uses at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]
