"""Bytes that a program sends between devices, from its compiled form.

Counted are the bytes that one device sends, by the algorithms that need the fewest, for n devices that take
part with operands of N bytes each:

    all-gather          (n - 1) N            each forwards what the others hold
    reduce-scatter      (n - 1) / n N
    all-reduce        2 (n - 1) / n N        a reduce-scatter and an all-gather
    all-to-all          (n - 1) / n N
    collective-permute  N
"""

import dataclasses
import math
import re
from collections.abc import Iterator

from gencompositor_jax.perf.plan.hlo import Executed, Instruction, Module, executed

KINDS = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute")


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Sent by one device in one run of a program, over all collectives of a kind."""

    calls: int = 0
    bytes: int = 0

    def __add__(self, other: "Traffic") -> "Traffic":
        return Traffic(self.calls + other.calls, self.bytes + other.bytes)


def traffic(module: Module, devices: int) -> dict[str, Traffic]:
    """What one of `devices` devices sends, by KINDS."""
    found = dict.fromkeys(KINDS, Traffic())
    for one in executed(module):
        for instruction, kind, operands in _within(module, one):
            parts = group_size(instruction, devices)
            sent = math.ceil(_sent(kind, operands, parts)) if parts > 1 else 0
            if sent:
                found[kind] += Traffic(one.times, one.times * sent)
    return found


def group_size(instruction: Instruction, devices: int) -> int:
    """Number of devices that take part in a collective together."""
    text = instruction.attributes
    if found := re.search(r"replica_groups=\[(\d+),(\d+)\]", text):
        return int(found[2])
    if found := re.search(r"replica_groups=\{\{([\d,]*)\}", text):
        return len(found[1].split(","))
    if found := re.search(r"replica_groups=mesh\[([^\]]*)\][^{]*\{([^}]*)\}", text):  # XLA of JAX 0.11
        sizes = dict(re.findall(r"'([^']+)'=(\d+)", found[1]))
        axes = re.findall(r"'([^']+)'(?::\(\d+\)(\d+))?", found[2])  # a whole axis, or a part of it
        return math.prod(int(part or sizes[name]) for name, part in axes)
    if "source_target_pairs=" in text:
        return 2
    return devices


def kind_of(instruction: Instruction) -> str | None:
    """The one of KINDS that an instruction is; of an asynchronous pair the start counts."""
    kind = instruction.opcode.removesuffix("-start")
    return kind if kind in KINDS else None


def _within(module: Module, one: Executed) -> Iterator[tuple[Instruction, str, int]]:
    """An instruction itself, or those fused in it, if collectives: with kind and bytes of operands."""
    pairs = [(one.instruction, one.computation)]
    if one.instruction.opcode == "fusion":
        inner = module.computations[one.instruction.named("calls")]
        pairs = [(instruction, inner) for instruction in inner.values()]
    for instruction, computation in pairs:
        if (kind := kind_of(instruction)) is not None:
            names = instruction.operands[: 1 if kind == "collective-permute" else None]
            yield instruction, kind, sum(a.size for n in names for a in computation[n].results)


def _sent(kind: str, operands: int, parts: int) -> float:
    match kind:
        case "all-gather":
            return (parts - 1) * operands
        case "reduce-scatter" | "all-to-all":
            return (parts - 1) / parts * operands
        case "all-reduce":
            return 2 * (parts - 1) / parts * operands
    return operands
