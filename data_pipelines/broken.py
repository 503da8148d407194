"""Broken records: counted, named once each, and too many of them stop the run."""

import sys

import numpy as np

from gencompositor_jax.data_pipelines.source import ClipSource
from gencompositor_jax.errors import InputError

LISTED = 3  # names in the message that stops a run; all of them are on stderr


class Broken:
    """The records of a source that couldn't be read, from the `broken` of each batch.

    `found` holds their indices.
    """

    def __init__(self, source: ClipSource, max_broken: float) -> None:
        """max_broken: fraction of the source's records, 0 to 1, that may be broken; else InputError."""
        if not 0 <= max_broken <= 1:
            raise InputError(f"data.max_broken={max_broken}: pass a fraction from 0 to 1")
        self._source, self._max_broken = source, max_broken
        self.found: set[int] = set()

    def see(self, broken: np.ndarray) -> None:
        """Add a batch's indices, of any shape, -1 for none, and name new ones on stderr.

        Raises:
            InputError: more than `max_broken` of the records are broken.
        """
        new = sorted(set(np.asarray(broken).ravel().tolist()) - self.found - {-1})
        for index in new:
            print(f"skipped, can't be read: {self._source.name(index)} (record {index})", file=sys.stderr)
        self.found.update(new)
        if new and len(self.found) > self._max_broken * len(self._source):
            names = [self._source.name(index) for index in sorted(self.found)]
            more = f" and {len(names) - LISTED} more, see above" if len(names) > LISTED else ""
            raise InputError(
                f"{len(names)} of {len(self._source)} records can't be read, more than "
                f"data.max_broken={self._max_broken:g} allows: {', '.join(names[:LISTED])}{more}: run "
                "gencompositor data check"
            )
