"""The interface of sources of training clips: records by index, each read as the arrays of one clip.

Sources know files; `data_pipelines.pipeline` knows epochs and random draws. A source is cheap to pickle: each
worker process gets a copy and opens files at its first read. Threads may share a source.
"""

from typing import Protocol

import numpy as np

# Arrays of one clip by name, at the model's frames and size.
#   target            uint8 [T, H, W, 3]: the ground truth; the empty background of a removal sample
#   scene             uint8 [T, H, W, 3]: becomes the masked background
#   foreground        uint8 [T, H, W, 3]: the element on white; all white in a removal sample
#   mask              bool [T, H, W]: the target region, inflated
#   offsets           int32 [t, 2], optional: (rows, columns) in tokens from the foreground to the target
#   target_moments    float16 or float32 [t, h, w, 2C], optional: the VAE's moments of the target
ClipArrays = dict[str, np.ndarray]

FRAMES = ("target", "scene", "foreground")


class ClipSource(Protocol):
    """Random access to the clips of a folder, an archive or a generator."""

    def __len__(self) -> int:
        """Number of records, at least 1."""
        ...

    def name(self, index: int) -> str:
        """A record's name for messages: its file or key."""
        ...

    def read(self, index: int, rng: np.random.Generator, removal: bool) -> ClipArrays:
        """Read one clip.

        Args:
            index: 0 to len - 1.
            rng: for the source's own draws, if any (such as the first frame); used by this call only.
            removal: asks for a removal sample: `target` is the empty background and `foreground` is white, so
                the element's video need not be read.

        Raises:
            InputError: the record is broken; one line that names the file. The pipeline then reads another.
        """
        ...
