"""From a source to batches, with Grain: the order, the draws, the workers.

The order is the source's records, shuffled anew in every epoch, without end: positions 0, 1, 2, ... Global
batch n is the positions n B to n B + B - 1, and a process reads only its own rows of it. What an example is
depends on the seed and its position alone, so batches are the same for any number of workers and any split of
rows over hosts, and where a run stands is one number: the next batch.
"""

import os
import signal
from collections.abc import Generator, Sequence
from functools import partial
from typing import Any

import grain
import numpy as np
from absl import flags

from gencompositor_jax.data_pipelines.augmentation import Augmentation, Example, augment
from gencompositor_jax.data_pipelines.source import ClipSource
from gencompositor_jax.data_pipelines.workers import set_up
from gencompositor_jax.errors import InputError

ATTEMPTS = 8  # records that are tried for one example


def make_example(
    source: ClipSource, index: int, rng: np.random.Generator, augmentation: Augmentation
) -> Example:
    """Reads and augments one record, or another one in its place where it can't be used.

    Args:
        source: where from.
        index: of the record, 0 to len(source) - 1.
        rng: where all draws come from, those of replacements too; always as many.
        augmentation: what is drawn.

    Returns:
        What `augment` makes of the clip, and `broken`, int64 [ATTEMPTS]: the records that could not be used,
        -1 behind them.

    Raises:
        InputError: ATTEMPTS records in a row can't be used; it names them.
    """
    removal = bool(rng.random() < augmentation.removal)
    candidates = [index, *rng.integers(len(source), size=ATTEMPTS - 1).tolist()]
    # Generators of their own: what a source draws doesn't shift what the augmentation draws.
    for_clip, *for_reads = (np.random.default_rng(s) for s in rng.integers(2**63, size=ATTEMPTS + 1))
    broken = np.full(ATTEMPTS, -1, np.int64)
    for attempt, (candidate, draws) in enumerate(zip(candidates, for_reads, strict=True)):
        try:
            clip = source.read(candidate, draws, removal)
        except InputError as error:
            broken[attempt], reason = candidate, str(error)
            continue
        return {**augment(clip, for_clip, augmentation), "broken": broken}
    names = ", ".join(dict.fromkeys(source.name(i) for i in candidates))
    raise InputError(f"none of {ATTEMPTS} records drawn can be used ({names}); the last: {reason}")


def batches(
    source: ClipSource,
    augmentation: Augmentation,
    *,
    seed: int,
    batch_size: int,
    rows: Sequence[int],
    start: int,
    stop: int,
    workers: int = 0,
    prefetch: int = 4,
) -> Generator[Example, None, None]:
    """The batches `start` to `stop` - 1, each [len(rows), ...]. Close the iterator to end its workers.

    Args:
        source: where from.
        augmentation: what is drawn for each clip.
        seed: of the order and of all draws, 0 to 2^32 - 1.
        batch_size: B, of the global batch.
        rows: of the global batch that this process needs, in its order.
        start: number of the first batch; 0 begins, the number after the last one read goes on.
        stop: number of the first batch that is not made.
        workers: processes that read; 0 for threads of this process.
        prefetch: about so many batches are made ahead, over all workers; what workers made lies in shared
            memory.

    Raises:
        InputError: at once where an argument is out of its range; later as `make_example` does.
        RuntimeError: while iterating, within seconds of a worker process being killed.
    """
    if not 0 <= seed < 2**32:
        raise InputError(f"seed={seed}: pass a whole number from 0 to below 2^32")
    if not rows or not set(rows) <= set(range(batch_size)):
        raise InputError(
            f"rows={list(rows)}: pass at least one, each from 0 to below batch_size={batch_size}"
        )
    if workers < 0 or prefetch < 1:
        raise InputError(
            f"data.workers={workers}, data.prefetch={prefetch}: pass workers >= 0, prefetch >= 1"
        )
    if len(source) < 1:
        raise InputError("data: the source has no record")
    load = partial(_load, source, augmentation)
    order = grain.MapDataset.range(len(source)).seed(seed).shuffle().repeat().random_map(load)
    dataset = _Rows(order, batch_size, rows, start, stop)
    ahead = prefetch * len(rows)
    if workers == 0:
        threads = min(ahead, os.cpu_count() or 1)
        examples = dataset.to_iter_dataset(grain.ReadOptions(threads, ahead))
    else:
        if not flags.FLAGS.is_parsed():
            flags.FLAGS.mark_as_parsed()  # Grain reads its own ones when it starts workers
        # No threads in a worker: what it has sent and nobody has taken yet is read ahead. Grain keeps as much
        # again on this side.
        examples = dataset.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
        each = max(1, ahead // (2 * workers))
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=each)
        examples = examples.mp_prefetch(options, worker_init_fn=_start_worker)
    # Stacked here and not by the workers: a batch's examples are read side by side, fewer of them wait in
    # memory, and a worker that is told to stop has at most one example to finish.
    return _closing(iter(examples.batch(len(rows))))


class _Rows(grain.MapDataset):
    """A process's rows of the global batches, batch after batch."""

    def __init__(
        self, examples: grain.MapDataset, batch_size: int, rows: Sequence[int], start: int, stop: int
    ) -> None:
        super().__init__(examples)
        self._examples, self._batch_size, self._rows = examples, batch_size, tuple(rows)
        self._start, self._batches = start, max(0, stop - start)

    def __len__(self) -> int:
        return self._batches * len(self._rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        batch, row = divmod(index, len(self._rows))
        return self._examples[(self._start + batch) * self._batch_size + self._rows[row]]


def _load(source: ClipSource, augmentation: Augmentation, index: int, rng: np.random.Generator) -> Example:
    return make_example(source, index, rng, augmentation)


def _closing(iterator: Any) -> Generator[Example, None, None]:
    """Passes batches on, and ends the workers when the consumer closes it or has had the last one."""
    try:
        for batch in iterator:
            yield {name: np.asarray(value) for name, value in batch.items()}
        iterator.close()
    except GeneratorExit:
        iterator.close()
        raise
    except RuntimeError as error:  # the workers that are left end when `iterator` is collected: nobody waits
        if "Worker process" not in str(error):
            raise
        raise RuntimeError(
            f"a data worker is gone: {error} If memory ran out, lower data.workers or data.prefetch."
        ) from error


def _start_worker(index: int, count: int) -> None:
    # The main process decides when to stop: it saves first, and needs its batches until then.
    set_up(signal.SIGINT, signal.SIGTERM)
