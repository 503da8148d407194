"""Batches: order, what an example depends on, broken records, the end of workers."""

import hashlib
import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gencompositor_jax.data_pipelines import pipeline
from gencompositor_jax.data_pipelines.augmentation import Augmentation, Example
from gencompositor_jax.data_pipelines.pipeline import ATTEMPTS, batches, make_example
from gencompositor_jax.data_pipelines.source import ClipArrays
from gencompositor_jax.errors import InputError
from tests import processes

PLAIN = Augmentation(gamma=(1.0, 1.0), removal=0.0, mask_shapes=0.0)
ALL = Augmentation(removal=0.3, mask_shapes=0.5, flip=True, colour_cast=0.1)


class Numbers:
    """Clips of 3 frames of 8 x 12 pixels with their record's number, and noise drawn by the source."""

    def __init__(self, count: int, broken: Iterable[int] = (), slow: float = 0.0) -> None:
        self.count, self.broken, self.slow = count, frozenset(broken), slow

    def __len__(self) -> int:
        return self.count

    def name(self, index: int) -> str:
        return f"clip{index}.mp4"

    def read(self, index: int, rng: np.random.Generator, removal: bool) -> ClipArrays:
        time.sleep(self.slow)
        if index in self.broken:
            rng.random(3)  # a source may fail after it has drawn
            raise InputError(f"{self.name(index)}: can't be decoded")
        frames = np.full((3, 8, 12, 3), index, np.uint8)
        mask = np.zeros((3, 8, 12), bool)
        mask[:, 2:5, 3:6] = True
        return {
            "target": np.full_like(frames, 255) if removal else frames,
            "scene": rng.integers(0, 256, frames.shape, dtype=np.uint8),
            "foreground": np.full_like(frames, 255) if removal else frames + 100,
            "mask": mask,
        }


def hashes(read: Iterable[Example]) -> list[list[str]]:
    """A digest for each row of each batch, of all its arrays."""

    def digest(batch: Example, row: int) -> str:
        whole = hashlib.sha256()
        for name in sorted(batch):
            whole.update(name.encode() + np.ascontiguousarray(batch[name][row]).tobytes())
        return whole.hexdigest()

    return [[digest(batch, row) for row in range(len(batch["mask"]))] for batch in read]


def read(source: Any = None, augmentation: Augmentation = ALL, **options: Any) -> Any:
    defaults = {"seed": 5, "batch_size": 4, "rows": range(4), "start": 0, "stop": 6}
    return batches(Numbers(9) if source is None else source, augmentation, **{**defaults, **options})


def test_batches_have_a_leading_axis():
    first = next(read(rows=(1, 3)))
    shapes = {name: (value.shape, value.dtype) for name, value in first.items()}
    frames = (2, 3, 8, 12, 3), np.uint8
    assert shapes == {
        "target": frames,
        "masked_background": frames,
        "foreground": frames,
        "mask": ((2, 3, 8, 12), bool),
        "broken": ((2, ATTEMPTS), np.int64),
    }
    assert (first["broken"] == -1).all()


def test_every_epoch_has_every_record_once_in_another_order():
    shown = [batch["target"][:, 0, 0, 0, 0] for batch in read(Numbers(12), PLAIN, stop=9)]
    epochs = np.concatenate(shown).reshape(3, 12)
    for epoch in epochs:
        assert sorted(epoch) == list(range(12))
    assert len({tuple(epoch) for epoch in epochs}) == 3


@pytest.mark.parametrize("count", [1, 2, 3])
def test_fewer_records_than_rows(count):
    shown = np.concatenate([batch["target"][:, 0, 0, 0, 0] for batch in read(Numbers(count), PLAIN, stop=3)])
    assert set(Counter(shown.tolist()).values()) == {12 // count}


def test_the_seed_decides_and_epochs_differ():
    one, again, other = hashes(read()), hashes(read()), hashes(read(seed=6))
    assert one == again
    rows = sum(one, [])
    assert len(set(rows)) == len(rows) and not set(rows) & set(sum(other, []))


def test_prefetch_changes_nothing():
    assert hashes(read(prefetch=1)) == hashes(read(prefetch=7))


def test_a_run_resumes_at_any_batch():
    whole = hashes(read())
    assert hashes(read(start=2)) == whole[2:]
    assert hashes(read(stop=2)) == whole[:2]
    assert hashes(read(start=6)) == []


def test_any_split_of_the_rows_gives_the_same_examples():
    whole = hashes(read())
    for split in ((range(2), range(2, 4)), ((0, 2), (1, 3)), ((3,), (2, 1, 0))):
        for rows in split:
            assert hashes(read(rows=rows)) == [[batch[row] for row in rows] for batch in whole]


@pytest.mark.multiprocess
def test_any_number_of_workers_on_one_host_or_two_gives_the_same_batches():
    whole = hashes(read())
    assert hashes(read(workers=2, prefetch=3)) == whole
    host = hashes(read(workers=1, rows=(2, 3), start=1))
    assert host == [batch[2:] for batch in whole[1:]]


def test_a_fraction_is_removal_samples_of_the_source():
    source = Numbers(40)  # no clip but a removal sample shows 255
    shown = [batch["target"][:, 0, 0, 0, 0] == 255 for batch in read(source, Augmentation(), stop=150)]
    assert abs(np.mean(shown) - 0.2) < 4 * np.sqrt(0.16 / 600)


def test_a_broken_record_is_replaced_and_reported():
    broken = {2, 5}
    some = list(read(Numbers(9, broken), PLAIN, stop=18))  # eight epochs
    reported = np.concatenate([batch["broken"] for batch in some])
    shown = np.concatenate([batch["target"][:, 0, 0, 0, 0] for batch in some])
    assert not set(shown.tolist()) & broken
    assert set(reported.ravel().tolist()) == {-1, 2, 5}
    assert (np.sort(reported == -1, axis=1) == (reported == -1)).all()  # filled with -1
    whole = np.concatenate([batch["target"][:, 0, 0, 0, 0] for batch in read(Numbers(9), PLAIN, stop=18)])
    replaced = whole != shown
    np.testing.assert_array_equal(replaced, reported[:, 0] >= 0)
    np.testing.assert_array_equal(whole[replaced], reported[replaced, 0])
    assert len(set(shown[replaced].tolist())) > 3  # not always the same one
    assert hashes(some) == hashes(read(Numbers(9, broken), PLAIN, stop=18))


def test_draws_of_a_broken_record_change_no_other_draw():
    """The augmentation of an example is the same whether or not its first record is broken."""
    options = Augmentation(gamma=(0.4, 1.9), removal=0.5, mask_shapes=0.5)
    for seed in range(20):
        good = make_example(Numbers(9), 3, np.random.default_rng(seed), options)
        other = make_example(Numbers(9, {3}), 3, np.random.default_rng(seed), options)
        np.testing.assert_array_equal(good["mask"], other["mask"])
        assert (good["target"][0, 0, 0, 0] == 255) == (other["target"][0, 0, 0, 0] == 255)
        assert other["broken"][0] == 3 and (good["broken"] == -1).all()


def test_after_some_attempts_the_records_are_named():
    with pytest.raises(InputError, match="can't be decoded") as error:
        next(read(Numbers(9, range(9))))
    assert error.value.args[0].count("clip") > 2 and "\n" not in str(error.value)


def test_another_error_is_not_hidden(monkeypatch):
    def fails(*_: object) -> ClipArrays:
        raise ZeroDivisionError

    monkeypatch.setattr(Numbers, "read", fails)
    with pytest.raises(ZeroDivisionError):
        next(read())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"seed": -1}, "seed"),
        ({"seed": 2**32}, "seed"),
        ({"rows": ()}, "rows"),
        ({"rows": (4,)}, "rows"),
        ({"workers": -1}, r"data\.workers"),
        ({"prefetch": 0}, r"data\.prefetch"),
        ({"source": Numbers(0)}, "no record"),
    ],
)
def test_arguments_out_of_range_are_named_at_once(options, named):
    with pytest.raises(InputError, match=named):
        read(**options)


@pytest.mark.multiprocess
def test_an_error_in_a_worker_keeps_its_message():
    with pytest.raises(InputError, match=r"clip\d\.mp4: can't be decoded"):
        next(read(Numbers(9, range(9)), workers=1))


def reading(workers: int) -> tuple[Any, list[multiprocessing.Process]]:
    """An iterator after its first batch, and its worker processes; other tests' may not have ended yet."""
    others = set(multiprocessing.active_children())
    iterator = read(Numbers(9), workers=workers, stop=10**6, prefetch=workers)
    next(iterator)
    return iterator, [child for child in multiprocessing.active_children() if child not in others]


@pytest.mark.multiprocess
def test_a_killed_worker_raises_instead_of_blocking():
    iterator, (victim, _) = reading(workers=2)
    os.kill(victim.pid, signal.SIGKILL)
    with pytest.raises(RuntimeError, match="worker") as error:
        for _ in range(100):
            next(iterator)
    assert "data.workers" in str(error.value)


@pytest.mark.multiprocess
def test_workers_ignore_signals_to_the_group_and_end_with_the_iterator():
    iterator, (worker,) = reading(workers=1)
    os.kill(worker.pid, signal.SIGTERM)
    os.kill(worker.pid, signal.SIGINT)
    for _ in range(20):
        next(iterator)
    iterator.close()
    assert not worker.is_alive()


ORPHANS = """
    import multiprocessing, sys, time
    sys.path[:0] = [{here!r}]
    from test_pipeline import Numbers, read
    if __name__ == "__main__":
        iterator = read(Numbers(9), workers=2, stop=10**6)
        next(iterator)
        print(*[child.pid for child in multiprocessing.active_children()], flush=True)
        time.sleep(600)
"""


@pytest.mark.multiprocess
def test_workers_end_when_the_main_process_is_killed(tmp_path):
    script = tmp_path / "main.py"
    script.write_text(textwrap.dedent(ORPHANS).format(here=str(Path(__file__).parent)))
    root = str(Path(pipeline.__file__).parents[2])
    main = subprocess.Popen(
        [sys.executable, str(script)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert main.stdout is not None
    workers = [int(pid) for pid in main.stdout.readline().split()]
    assert len(workers) == 2
    main.kill()
    main.wait()
    end = time.monotonic() + processes.PATIENCE_S
    while running := [pid for pid in workers if _running(pid)]:
        assert time.monotonic() < end, f"still running: {running}"
        time.sleep(0.05)


def _running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"
