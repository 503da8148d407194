"""A bound for the time of a step: each operation takes as long as its arithmetic or its memory traffic, what
takes longer, at the device's peak; collectives are hidden behind them as far as they go.

Real steps take longer: no operation reaches a peak, and not all that is sent is hidden.
"""

import dataclasses
from collections.abc import Iterable, Mapping

from gencompositor_jax.perf.hardware import Chip
from gencompositor_jax.perf.plan.collectives import Traffic
from gencompositor_jax.perf.plan.work import Operation


@dataclasses.dataclass(frozen=True)
class Estimate:
    """Seconds of one run of a program, each part by itself and as a whole."""

    arithmetic: float
    memory: float
    interconnect: float
    seconds: float


def estimate(operations: Iterable[Operation], traffic: Mapping[str, Traffic], chip: Chip) -> Estimate | None:
    """None where the chip's peaks aren't known."""
    if chip.flops is None or chip.bandwidth is None or chip.links is None:
        return None
    arithmetic = memory = together = 0.0
    for one in operations:
        products = one.flops * _passes(one, chip) / chip.flops
        moves = one.bytes / chip.bandwidth
        arithmetic += one.times * products
        memory += one.times * moves
        together += one.times * max(products, moves)
    sends = sum(kind.bytes for kind in traffic.values()) / chip.links
    return Estimate(arithmetic, memory, sends, max(together, sends))


def _passes(one: Operation, chip: Chip) -> float:
    """How often an operation's products are worth those of the peak.

    An attention kernel multiplies matrices with a side of one head: a larger matrix unit stays partly idle.
    """
    if one.inner:
        return max(1.0, chip.unit / one.inner)
    return 1.0 if one.half else chip.float32_passes
