"""From a source to batches, with Grain: order, random draws, workers.

The records are reshuffled every epoch, endlessly: positions 0, 1, 2, ... Global batch n holds the positions
n B to n B + B - 1, and a process reads only its own rows of it. An example depends only on the seed and its
position, so batches are the same for any number of workers and any split of rows over hosts, and a run
resumes from one number: the next batch.
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

ATTEMPTS = 8  # records that are tried per example
NAMED = 3  # of them in a message


def make_example(
    source: ClipSource, index: int, rng: np.random.Generator, augmentation: Augmentation
) -> Example:
    """Read and augment one record, or a random other one if it is broken.

    Args:
        source: the clips.
        index: of the record, 0 to len(source) - 1.
        rng: for all draws, those of replacements included; always the same number.
        augmentation: what is drawn.

    Returns:
        The arrays of `augment`, and `broken`, int64 [ATTEMPTS]: the broken records, filled with -1.

    Raises:
        InputError: ATTEMPTS records in a row are broken; it names them.
    """
    removal = bool(rng.random() < augmentation.removal)
    candidates = [index, *rng.integers(len(source), size=ATTEMPTS - 1).tolist()]
    # Separate generators: draws of the source don't shift those of the augmentation.
    for_clip, *for_reads = (np.random.default_rng(s) for s in rng.integers(2**63, size=ATTEMPTS + 1))
    broken = np.full(ATTEMPTS, -1, np.int64)
    for attempt, (candidate, draws) in enumerate(zip(candidates, for_reads, strict=True)):
        try:
            clip = source.read(candidate, draws, removal)
        except InputError as error:
            broken[attempt], reason = candidate, str(error)
            continue
        return {**augment(clip, for_clip, augmentation), "broken": broken}
    names = ", ".join(list(dict.fromkeys(source.name(i) for i in candidates))[:NAMED])
    raise InputError(f"{ATTEMPTS} records in a row can't be read ({names}, ...); the last: {reason}")


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
        source: the clips.
        augmentation: what is drawn for each clip.
        seed: of the order and all draws, 0 to 2^32 - 1.
        batch_size: B, of the global batch.
        rows: the rows of the global batch that this process needs, in its order.
        start: number of the first batch; to resume, the number after the last one read.
        stop: number after the last batch.
        workers: processes that read; 0 for threads of this process.
        prefetch: number of batches made ahead, approximately, over all workers; in shared memory.

    Raises:
        InputError: at once if an argument is out of its range; later as `make_example`.
        RuntimeError: while iterating, seconds after a worker process was killed.
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
            flags.FLAGS.mark_as_parsed()  # Grain reads its flags when it starts workers
        # Workers use no threads: the buffers between them and this process hold what is read ahead, one on
        # each side.
        examples = dataset.to_iter_dataset(grain.ReadOptions(num_threads=0, prefetch_buffer_size=0))
        each = max(1, ahead // (2 * workers))
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=each)
        examples = examples.mp_prefetch(options, worker_init_fn=_start_worker)
    # Stacked here and not by the workers: the examples of a batch are read in parallel, fewer are held in
    # memory, and a worker that has to stop finishes one example at most.
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
    """Yield the batches; end the workers after the last one or when it is closed."""
    try:
        for batch in iterator:
            yield {name: np.asarray(value) for name, value in batch.items()}
        iterator.close()
    except GeneratorExit:
        iterator.close()
        raise
    except RuntimeError as error:  # the other workers end when `iterator` is garbage-collected
        if "Worker process" not in str(error):
            raise
        raise RuntimeError(
            f"a data worker died: {error} If memory ran out, lower data.workers or data.prefetch."
        ) from error


def _start_worker(index: int, count: int) -> None:
    # The main process decides when to stop: it saves first, and needs its batches until then.
    set_up(signal.SIGINT, signal.SIGTERM)
