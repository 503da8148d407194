"""What a service allows."""

import dataclasses
from collections.abc import Mapping
from functools import partial

from gencompositor_jax import fields


@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of a service; checked when they are made. Raises InputError naming the field."""

    queue: int = 100  # jobs that may wait
    upload_mib: int = 2048  # of all files of one job together
    frames: int = 1000  # of one result
    megapixels: float = 8.9  # of one frame of any clip: 4096 x 2160 fits
    layers: int = 8
    minutes: float = 60  # a job may run
    starts: int = 3  # of a job, if the process ends during each
    keep_hours: float = 24  # until a finished job and its files are removed

    def __post_init__(self) -> None:
        fields.check(self, READERS)


READERS: Mapping[str, fields.Reader] = {
    "queue": partial(fields.integer, low=1, high=10**6),
    "upload_mib": partial(fields.integer, low=1, high=10**6),
    "frames": partial(fields.integer, low=1, high=10**6),
    "megapixels": partial(fields.number, above=0, high=67.2),
    "layers": partial(fields.integer, low=1, high=1000),
    "minutes": partial(fields.number, above=0),
    "starts": partial(fields.integer, low=1, high=1000),
    "keep_hours": partial(fields.number, above=0),
}
