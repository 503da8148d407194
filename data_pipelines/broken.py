"""Counts the records that couldn't be read, names each once, and stops a run that has too many."""

import sys

import numpy as np

from gencompositor_jax.data_pipelines.source import ClipSource
from gencompositor_jax.errors import InputError

LISTED = 50  # names in the message that stops a run; all of them are on stderr by then


class Broken:
    """The records of a source that batches came without.

    Feed it each batch's `broken`. `found` are the indices so far.
    """

    def __init__(self, source: ClipSource, max_share: float) -> None:
        """max_share: of the source's records, 0 to 1, that may be broken. Raises InputError for another."""
        if not 0 <= max_share <= 1:
            raise InputError(f"data.max_broken={max_share}: pass a share from 0 to 1")
        self._source, self._max_share = source, max_share
        self.found: set[int] = set()

    def see(self, broken: np.ndarray) -> None:
        """Takes a batch's indices, of any shape, -1 where there is none, and names new ones on stderr.

        Raises:
            InputError: more than `max_share` of the records are broken; it lists them.
        """
        new = sorted(set(np.asarray(broken).ravel().tolist()) - self.found - {-1})
        for index in new:
            print(f"left out, can't be read: {self._source.name(index)} (record {index})", file=sys.stderr)
        self.found.update(new)
        if new and len(self.found) > self._max_share * len(self._source):
            names = [self._source.name(index) for index in sorted(self.found)]
            more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
            raise InputError(
                f"{len(names)} of {len(self._source)} records can't be read, more than "
                f"data.max_broken={self._max_share:g} allows: {', '.join(names[:LISTED])}{more}; "
                "gencompositor data check says why"
            )
