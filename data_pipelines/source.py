"""What a source of training clips is: records by index, each read as the arrays of one clip.

Sources know files, `data_pipelines.pipeline` knows epochs and draws. A source is cheap to pickle: worker
processes get a copy and open their files when they first read. Several threads may read from one at once.
"""

from typing import Protocol

import numpy as np

# Arrays of one clip by name, at the model's frames and size.
#   target            uint8 [T, H, W, 3]: the right answer; the empty background of a removal sample
#   scene             uint8 [T, H, W, 3]: what the masked background is cut from
#   foreground        uint8 [T, H, W, 3]: the element on white; all white in a removal sample
#   mask              bool [T, H, W]: the target region, inflated
#   target_moments    float16 or float32 [t, h, w, 2C], optional: the VAE's moments of the target
ClipArrays = dict[str, np.ndarray]

FRAMES = ("target", "scene", "foreground")


class ClipSource(Protocol):
    """Random access to the clips of a folder, an archive or a generator."""

    def __len__(self) -> int:
        """How many records there are, at least 1: indices go from 0 to below it."""
        ...

    def name(self, index: int) -> str:
        """A record's name for messages: its file or its key."""
        ...

    def read(self, index: int, rng: np.random.Generator, removal: bool) -> ClipArrays:
        """Reads one clip.

        Args:
            index: 0 to len - 1.
            rng: where the source draws from, if it draws anything (such as the first frame). It is used by
                this call alone.
            removal: asks for a sample that teaches removal: `target` is the empty background and `foreground`
                is white, so the element's video need not be read.

        Raises:
            InputError: the record can't be used; one line that names the file. The pipeline goes on with
                another record.
        """
        ...
