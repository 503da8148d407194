"""What a service allows."""

import dataclasses
from typing import Annotated

from gencompositor_jax.fields import Number, Whole, checked, within

Many = Annotated[Whole, within(1, 10**6)]
Some = Annotated[Whole, within(1, 1000)]
Time = Annotated[Number, within(above=0, high=1e9)]


@checked
@dataclasses.dataclass(frozen=True)
class Limits:
    """Limits of a service; checked when they are made. Raises InputError naming the field."""

    queue: Many = 100  # jobs that may wait
    upload_mib: Many = 2048  # of all files of one job together
    frames: Many = 1000  # of one result
    megapixels: Annotated[Number, within(above=0, high=67.2)] = 8.9  # of a clip's frame: 4096 x 2160 fits
    layers: Some = 8
    minutes: Time = 60  # a job may run
    starts: Some = 3  # of a job, if the process ends during each
    keep_hours: Time = 24  # until a finished job and its files are removed
