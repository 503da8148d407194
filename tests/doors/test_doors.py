"""Broken inputs are refused in one line: a few hundred calls of benchmarks/broken_inputs.py, in process."""

import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.broken_inputs import attempt
from tests.doors import sound
from tests.doors.arguments import OVERRIDES
from tests.doors.call import TRAIN, Call
from tests.doors.calls import all_calls
from tests.doors.seams import accepted, stop_before_heavy_work
from tests.doors.values import some

PER_DOOR = 10
HUNG = 120  # seconds; a call takes milliseconds
# Overrides that are no mistakes everywhere, or that only devices can refuse.
ALLOWED = {
    *("checkpoint.every=1e18", "checkpoint.keep_last=1e18", "log_every=1e18", "validation.every=1e18"),
    *("profile.first=1e18", "optimizer.clip=inf", "sharding.rules=()", "init=nothing"),
    "arch_changes.backbone.time_embed_dim=7",
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sound")
    sound.write(folder)
    return folder


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """Nothing is compiled or sampled, and a call that hangs ends."""
    from gencompositor_jax.conversion import text_encoder
    from gencompositor_jax.training import loop

    monkeypatch.chdir(tmp_path)
    for owner, name, before in stop_before_heavy_work():
        new = getattr(owner, name)
        setattr(owner, name, before)
        monkeypatch.setattr(owner, name, new)
    monkeypatch.setattr(text_encoder, "encode", accepted)
    monkeypatch.setattr(loop.state_lib, "shapes", accepted)
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def outcomes(calls: list[Call], folder: Path, base: Path) -> list[tuple[str, str, str]]:
    """(call, outcome, message) of each."""
    found = []
    for i, call in enumerate(calls):
        own = folder / str(i)
        own.mkdir()
        signal.alarm(HUNG)
        found.append((call.name, *attempt(call, own, base)))
    return found


def test_every_door_refuses_in_one_line(base: Path, tmp_path: Path, stopped: None) -> None:
    before, wrong, refused = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, [], {}
    for door, calls in all_calls(base).items():
        folder = tmp_path / str(len(refused))
        folder.mkdir()
        found = outcomes(some(calls, PER_DOOR), folder, base)
        wrong += [
            f"{door}: {name}: {what}: {text}"
            for name, what, text in found
            if what not in ("refused", "accepted")
        ]
        refused[door] = sum(what == "refused" for _, what, _ in found)
    assert not wrong, "\n".join(wrong)
    assert all(count >= PER_DOOR // 2 for count in refused.values()), refused
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert kilobytes < 2_000_000


def test_wrong_overrides_are_refused_before_devices_are_used(
    base: Path, tmp_path: Path, stopped: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from gencompositor_jax.training import distributed

    monkeypatch.setattr(distributed, "initialize", accepted)
    calls = [
        Call("train", override, lambda folder, base, o=override: [*TRAIN, f"--config.{o}"])
        for override in OVERRIDES.split()
    ]
    found = outcomes(calls, tmp_path, base)
    assert [each for each in found if each[1] != "refused" and each[0] not in ALLOWED] == []
