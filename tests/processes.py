"""For tests that need several processes: a command, started N times with M virtual devices each.

    with processes.train("--config", ..., "--workdir", ..., folder=tmp_path, count=2, devices=4) as group:
        group.wait_for("step 10")
        group.kill(1)
        codes = group.wait()

The processes join by jax.distributed over loopback, on the CPU. Nothing of theirs survives the `with` block.
Waits follow progress, not a clock: however loaded the machine is, they fail only once the processes neither
write nor compute.
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
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

_Found = TypeVar("_Found")

POLL_S = 0.05
LOOK_S = 5.0  # between two looks at the CPU time
STUCK_S = 180.0  # without output and without computing
COMPUTED_S = 1.0  # CPU seconds that count as progress; idle threads need less
TAIL = 4000  # characters of each log in a message
PATIENCE_S = 300.0  # for waits that can't follow progress, of what takes seconds on a quiet machine


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

    def wait_for(self, pattern: str, process: int = 0) -> re.Match[str]:
        """Returns once a regular expression is in a process's log. Raises AssertionError if the process ends
        without it, or if all are stuck.
        """
        return self.wait_until(lambda: re.search(pattern, self.log(process)), repr(pattern), process)

    def wait_until(self, condition: Callable[[], _Found], awaited: str, process: int = 0) -> _Found:
        """Returns what a condition returns once that is true; raises AssertionError as `wait_for` does."""
        for _ in self._while_progress(f"{awaited} of process {process}"):
            over = self.processes[process].poll() is not None  # asked first: it may write and then end
            if found := condition():
                return found
            if over:
                break
        raise AssertionError(f"{awaited}: process {process} ended without it\n{self.tails()}")

    def kill(self, process: int, number: int = signal.SIGKILL) -> None:
        """Sends a signal to one running process alone, not to its children."""
        assert self.processes[process].poll() is None, f"process {process} has ended\n{self.tails()}"
        self.processes[process].send_signal(number)

    def wait(self) -> list[int]:
        """The exit codes once all have ended. Raises AssertionError with the logs if they are stuck, as when
        one has failed and the others don't notice.
        """
        for _ in self._while_progress("the end"):
            if None not in (codes := self.codes()):
                return [code for code in codes if code is not None]
        raise AssertionError

    def check(self) -> "Group":
        """Waits, and raises AssertionError with the logs unless all end with 0."""
        codes = self.wait()
        assert not any(codes), f"exit codes {codes}\n{self.tails()}"
        return self

    def end(self) -> None:
        """Kills what still runs, with all children."""
        for process in self.processes:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # each is a group of its own, alive while a child is
            process.wait()

    def tails(self) -> str:
        """The ends of the logs, for messages."""
        return "\n".join(f"--- process {i}\n{self.log(i)[-TAIL:]}" for i in range(len(self.logs)))

    def _while_progress(self, awaited: str) -> Iterator[None]:
        """Yields again and again; raises AssertionError once all processes have been stuck for STUCK_S."""
        written, computed, since, look = -1, 0.0, 0.0, 0.0
        while True:
            yield
            time.sleep(POLL_S)
            now = time.monotonic()
            if (size := sum(log.stat().st_size for log in self.logs)) != written:
                written, since, look = size, now, now + LOOK_S
            elif now > look:
                seconds, look = cpu_seconds({process.pid for process in self.processes}), now + LOOK_S
                if abs(seconds - computed) >= COMPUTED_S:  # it falls when a process ends
                    computed, since = seconds, now
                elif now > since + STUCK_S:
                    raise AssertionError(f"stuck, waiting for {awaited}\n{self.tails()}")


def cpu_seconds(groups: set[int]) -> float:
    """CPU time of the running processes of some process groups; 0 where there is no /proc."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            fields = stat.read_text().rpartition(")")[2].split()
            if int(fields[2]) in groups:
                ticks += sum(map(int, fields[11:15]))  # its own and its children's
    return ticks / os.sysconf("SC_CLK_TCK")


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
    unwanted = ("SLURM_", "OMPI_", "XLA_")
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(unwanted)},
        "XLA_FLAGS": xla_flags(devices),
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
                    env=environment,
                    start_new_session=True,
                )
            )
        group.logs.append(log)
    return group


def xla_flags(devices: int) -> str:
    """This process's XLA_FLAGS with another number of virtual devices."""
    count = "--xla_force_host_platform_device_count="
    others = [flag for flag in os.environ.get("XLA_FLAGS", "").split() if not flag.startswith(count)]
    return " ".join([*others, f"{count}{devices}"])


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
