"""A lower bound for the time of a step (roofline model).

Each operation takes as long as its arithmetic or its memory traffic at the device's peak rate, whichever is
longer; collectives overlap with them.

Real steps take longer: no operation reaches a peak, and some communication isn't overlapped.
"""

import dataclasses
from collections.abc import Iterable, Mapping

from gencompositor_jax.perf.hardware import Chip
from gencompositor_jax.perf.plan.collectives import Traffic
from gencompositor_jax.perf.plan.work import Operation


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Seconds of one run of a program: each part alone, and all together."""

    arithmetic: float
    memory: float
    interconnect: float
    seconds: float


def estimate(operations: Iterable[Operation], traffic: Mapping[str, Traffic], chip: Chip) -> Estimate | None:
    """None if the chip's peaks aren't known."""
    if chip.flops is None or chip.bandwidth is None or chip.links is None:
        return None
    arithmetic = memory = together = 0.0
    for one in operations:
        products = one.flops * _slowdown(one, chip) / chip.flops
        moves = one.bytes / chip.bandwidth
        arithmetic += one.times * products
        memory += one.times * moves
        together += one.times * max(products, moves)
    sends = sum(kind.bytes for kind in traffic.values()) / chip.links
    return Estimate(arithmetic, memory, sends, max(together, sends))


def _slowdown(one: Operation, chip: Chip) -> float:
    """By how much an operation's products are slower than the peak.

    An attention kernel multiplies matrices with a side of head_dim: a larger matrix unit is partly idle.
    """
    if one.inner:
        return max(1.0, chip.unit / one.inner)
    return 1.0 if one.half else chip.float32_passes
