"""`gencompositor batch`: makes the jobs of a manifest, and resumes where it stopped."""

import argparse
import contextlib
import os
import signal
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from gencompositor_jax.cli import options, processes
from gencompositor_jax.cli.outputs import note
from gencompositor_jax.errors import InputError

if TYPE_CHECKING:
    from gencompositor_jax.jobs.manifest import Line

SHOWN = 20  # errors in the report; all are in results.jsonl
INCOMPLETE = 1  # exit code where a job failed or was left


def register(subcommands: Any) -> None:
    """The arguments."""
    parser = subcommands.add_parser(
        "batch",
        help="make many composites, from a file with one job per line",
        epilog="Exit code 0 if all jobs are done, 1 if some failed or were left. Run it again to resume.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--manifest",
        required=True,
        type=Path,
        metavar="JOBS.jsonl",
        help='one JSON object per line: {"out": ...} and the options of compose, or "project"',
    )
    parser.add_argument(
        "--out", required=True, type=Path, metavar="DIR", help="gets the outputs and results.jsonl; created"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that other jobs have made")
    options.add_mesh(parser, "several clips at once")
    options.add_segment_weights(parser)
    parser.add_argument(
        "--clips", type=int, metavar="N", help="in a call of the network (default: by the size of the clips)"
    )
    processes.add(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Checks all jobs, makes those that aren't done, and says how it went. Returns the exit code."""
    mesh = options.mesh_of(args.mesh)
    if args.clips is not None and not 1 <= args.clips <= 1024:
        raise InputError(f"--clips {args.clips}: pass 1 to 1024")
    processes.check(args)
    options.use_segment_weights(args)

    from gencompositor_jax import multihost
    from gencompositor_jax.training import distributed

    with distributed.exit_together():
        code = _make(args, mesh, _join(args))
        multihost.leave_together()
    return code


def _make(args: argparse.Namespace, mesh: dict[str, int] | None, share: tuple[int, int]) -> int:
    """`run` for the share of one process: its number, and how many there are."""
    from gencompositor_jax.cli.progress import jobs_bar
    from gencompositor_jax.jobs.batch import Batch
    from gencompositor_jax.jobs.checking import Checker
    from gencompositor_jax.jobs.manifest import read_manifest
    from gencompositor_jax.jobs.results import Result, Results, done_before, settle

    every = read_manifest(args.manifest)
    _make_folder(args.out)
    checker = Checker(args.out, args.overwrite)
    lines = checker.all(every[share[0] :: share[1]], every)
    done, results = done_before(lines, args.out), Results(args.out, share)
    broken = [line for line in lines if line.error is not None]
    left = [line for line in lines if line.error is None and line.number not in done]
    _report(args.manifest, lines, broken, len(done))
    for line in broken:
        results.add(Result(line.number, line.out, "failed", 0.0, line.error))
    failed = len(broken)
    with _stopped_by_sigterm() as stop, jobs_bar(len(left)) as show:

        def keep(result: Result) -> None:
            nonlocal failed
            results.add(result)
            failed += result.status == "failed"
            show(
                result.status == "done",
                None if result.error is None else f"line {result.job}: {result.error}",
            )

        if left:
            Batch(left, checker, keep, mesh, args.clips, stop).run()
    complete = settle(every, args.out)
    made = len(done_before(lines, args.out))
    where = args.out / "results.jsonl" if complete else results.path
    whose = "jobs" if share[1] == 1 else "jobs of this process"
    print(f"{where}: {made} of {len(lines)} {whose} done, {failed} failed, {len(lines) - made - failed} left")
    return 0 if made == len(lines) else INCOMPLETE


def _join(args: argparse.Namespace) -> tuple[int, int]:
    """(number of this process, number of all). Numbers without a coordinator connect nothing."""
    numbers = args.process, args.processes
    if args.coordinator is None and numbers != (None, None):
        if None in numbers:
            raise InputError("--processes and --process: pass both, or none")
        if not 0 <= args.process < args.processes:
            raise InputError(
                f"--processes {args.processes} --process {args.process}: processes are numbered from 0"
            )
        return numbers

    import jax

    from gencompositor_jax.training import distributed

    distributed.initialize(
        args.coordinator, args.processes, args.process, args.coordinator_timeout, independent=True
    )
    return (jax.process_index(), jax.process_count()) if jax.distributed.is_initialized() else (0, 1)


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--out {folder}: can't be made ({error.strerror})") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"--out {folder}: may not be written to; check its permissions")


def _report(manifest: Path, lines: "Sequence[Line]", broken: "Sequence[Line]", done: int) -> None:
    """One report of all checks, before anything is made."""
    print(f"{manifest}: {len(lines)} jobs, {done} done before, {len(broken)} can't be made")
    for line in broken[:SHOWN]:
        error = line.error or ""
        note(error if error.startswith(str(manifest)) else f"line {line.number}: {error}")
    if len(broken) > SHOWN:
        note(f"and {len(broken) - SHOWN} more, which results.jsonl lists")


@contextlib.contextmanager
def _stopped_by_sigterm() -> Iterator[threading.Event]:
    """An event that SIGTERM sets; a second one ends the process at once."""
    stop = threading.Event()

    def receive(number: int, _: FrameType | None) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)
        os.write(2, b"SIGTERM: finishing the clips in hand; a second one ends it at once\n")

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = signal.signal(signal.SIGTERM, receive)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGTERM, before)
