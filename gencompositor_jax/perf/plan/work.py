"""Arithmetic and memory traffic of a compiled program, operation by operation.

Arithmetic are the products of dots, convolutions and attention kernels, two FLOPs for a multiplication and an
addition; other operations are bound by memory. Memory traffic are the operands and results in the device's
main memory; of a slice, the part that is read.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from gencompositor_jax.perf.plan.hlo import Array, Computation, Executed, Instruction, Module, executed

_HALF = ("bf16", "f16", "f8", "s8")
# These move nothing. The end of an asynchronous pair was counted at its start.
_FREE = {
    "parameter",
    "constant",
    "tuple",
    "get-tuple-element",
    "bitcast",
    "while",
    "conditional",
    "call",
    "after-all",
    "partition-id",
    "replica-id",
    "opt-barrier",
    "async-start",
    "async-update",
    "async-done",
}
_FREE_TARGETS = ("AllocateBuffer", "ConcatBitcast", "Sharding")
# Products over all pairs of tokens in a fused attention kernel, by a pattern of its name. Forward: scores and
# weighted sums. Backward: scores again, and gradients of values, scores, queries and keys.
_ATTENTION: tuple[tuple[str, int], ...] = (
    (r"splash_\w*dq", 3),
    (r"splash_\w*dkv", 4),
    (r"splash", 2),
    (r"fmha\w*Backward", 5),
    (r"fmha", 2),
)


@dataclasses.dataclass(frozen=True)
class Operation:
    """Cost of one instruction on a device, and how often it is executed."""

    name: str
    times: float
    flops: float = 0.0
    bytes: int = 0
    half: bool = True  # products of 16-bit or smaller numbers
    inner: int = 0  # an attention kernel's head size; 0 for other operations


def operations(module: Module) -> Iterator[Operation]:
    """The operations of one run of a program that cost anything."""
    for one in executed(module):
        instruction, computation = one.instruction, one.computation
        if instruction.opcode in _FREE or instruction.opcode.endswith("-done"):
            continue
        flops, half, inner = 0.0, True, 0
        if instruction.opcode == "fusion":
            products = list(_products(module, module.computations[instruction.named("calls")]))
            flops = sum(f for f, _ in products)
            half = all(h for _, h in products)
        elif instruction.opcode == "custom-call":
            if any(f'custom_call_target="{target}"' in instruction.attributes for target in _FREE_TARGETS):
                continue
            flops, inner = _attention(instruction, computation)
        elif (product := _product(instruction, computation)) is not None:
            flops, half = product
        moved = _bytes(module, one)
        if flops or moved:
            yield Operation(instruction.name, one.times, flops, moved, half, inner)


def unknown_kernels(module: Module) -> list[str]:
    """Kernels whose arithmetic can't be read from the program."""
    return sorted(
        {
            e.instruction.name
            for e in executed(module)
            if re.search(
                r'custom_call_target="(tpu_custom_call|__gpu\$\w*|triton\w*)"', e.instruction.attributes
            )
            and not _attention(e.instruction, e.computation)[0]
        }
    )


def _products(module: Module, computation: Computation) -> Iterator[tuple[float, bool]]:
    for instruction in computation.values():
        if instruction.opcode == "fusion":
            yield from _products(module, module.computations[instruction.named("calls")])
        elif (product := _product(instruction, computation)) is not None:
            yield product


def _product(instruction: Instruction, computation: Computation) -> tuple[float, bool] | None:
    """FLOPs of a dot or convolution, and whether its operands have at most 16 bits; None for others."""
    if instruction.opcode not in ("dot", "convolution"):
        return None
    left, right = (computation[name].results[0] for name in instruction.operands[:2])
    half = all(a.dtype.startswith(_HALF) for a in (left, right))
    out = math.prod(instruction.results[0].shape)
    if instruction.opcode == "dot":
        summed = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.attributes)
        sides = [int(side) for side in summed[1].split(",") if side] if summed else []
        return 2.0 * out * math.prod(left.shape[side] for side in sides), half
    return _convolution(instruction, left, right), half


def _convolution(instruction: Instruction, left: Array, right: Array) -> float:
    """Two FLOPs for each kernel element that meets an input element; XLA:TPU writes all products so."""
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", instruction.attributes)
    assert labels is not None, instruction.attributes
    of_input, of_kernel, of_result = labels.groups()
    inputs = dict(zip(of_input, left.shape, strict=True))
    kernel = dict(zip(of_kernel, right.shape, strict=True))
    results = dict(zip(of_result, instruction.results[0].shape, strict=True))
    pairs = 1
    for side, window in enumerate(_windows(instruction.attributes)):
        pairs *= window.pairs(inputs[str(side)], results[str(side)])
    return 2.0 * results["b"] * results["f"] * kernel["i"] * pairs


@dataclasses.dataclass(frozen=True)
class _Window:
    """One spatial side of a convolution."""

    size: int
    stride: int = 1
    before: int = 0  # padding
    spread: int = 1  # of the input, zeros in between
    dilation: int = 1  # of the kernel

    def pairs(self, inputs: int, results: int) -> int:
        """Number of pairs (result, kernel element) that meet an input element rather than padding."""
        if self.size == 1 and self.before == 0 and self.spread == 1:
            return results
        at = np.arange(results)[:, None] * self.stride - self.before
        met = 0
        for first in range(0, self.size, 1024):  # in parts: both sides may be long
            row = at + np.arange(first, min(self.size, first + 1024)) * self.dilation
            inside = (row >= 0) & (row <= (inputs - 1) * self.spread) & (row % self.spread == 0)
            met += int(inside.sum())
        return met


def _windows(attributes: str) -> list[_Window]:
    found = re.search(r"window=\{([^}]*)\}", attributes)
    if found is None:
        return []
    fields = dict(part.split("=") for part in found[1].split())
    count = len(fields["size"].split("x"))

    def each(name: str, default: int) -> list[int]:
        return (
            [int(x.split("_")[0]) for x in fields[name].split("x")] if name in fields else [default] * count
        )

    sides = zip(
        each("size", 1),
        each("stride", 1),
        each("pad", 0),
        each("lhs_dilate", 1),
        each("rhs_dilate", 1),
        strict=True,
    )
    return [_Window(*side) for side in sides]


def _attention(instruction: Instruction, computation: Computation) -> tuple[float, int]:
    """FLOPs and head_dim of an attention kernel; zeros for another kernel.

    Its first two floating-point operands of three or more dimensions are queries and keys: [heads, tokens,
    head_dim] or [heads, head_dim, tokens] in splash attention (head_dim is below the number of tokens),
    [batch, tokens, heads, head_dim] in cuDNN's.
    """
    target = re.search(r'custom_call_target="([^"]*)"', instruction.attributes)
    if target is None or not (target[1] == "tpu_custom_call" or "fmha" in target[1]):
        return 0.0, 0
    name = instruction.name if target[1] == "tpu_custom_call" else target[1]
    products = next((count for pattern, count in _ATTENTION if re.search(pattern, name)), 0)
    given = [a for operand in instruction.operands for a in computation[operand].results]
    large = [a.shape for a in given if a.dtype[:2] in ("bf", "f1", "f3") and len(a.shape) >= 3]
    if not products or len(large) < 2:
        return 0.0, 0
    queries, keys = large[:2]
    size, tokens = (queries[-1], keys[1]) if len(keys) == 4 else (min(queries[1:]), max(keys[1:]))
    return 2.0 * products * math.prod(queries) * tokens, size


def _bytes(module: Module, one: Executed) -> int:
    """Bytes that an instruction reads from and writes to main memory."""
    instruction, computation = one.instruction, one.computation
    given = [computation[name] for name in instruction.operands]
    if instruction.opcode == "fusion":
        inner = module.computations[instruction.named("calls")]
        return _read_by_fusion(inner, given) + _written_by_fusion(inner, instruction)
    match instruction.opcode:
        case "dynamic-slice" | "slice" | "gather":
            result = _in_hbm(instruction.results)
            return result + (result if _in_hbm(given[0].results) else 0)
        case "dynamic-update-slice":
            return 2 * _in_hbm(given[1].results)
        case "copy-start" | "slice-start" | "dynamic-slice-start" | "dynamic-update-slice-start":
            # (source, target, context) in either order: the smaller of the two is moved.
            ends = instruction.results[:2]
            moved = min(a.size for a in ends)
            return moved * sum(a.in_hbm for a in ends)
        case "broadcast" | "iota":
            return _in_hbm(instruction.results)
    if instruction.opcode.endswith("-start"):  # a collective: read once, written once
        return _in_hbm([a for i in given for a in i.results]) + _in_hbm(instruction.results[len(given) :])
    return _in_hbm([a for i in given for a in i.results]) + _in_hbm(instruction.results)


def _in_hbm(arrays: Sequence[Array]) -> int:
    return sum(a.size for a in arrays if a.in_hbm)


def _read_by_fusion(inner: Computation, given: Sequence[Instruction]) -> int:
    """Operands; of those that a fusion only slices, the slices."""
    total = 0
    users = _users(inner)
    for parameter in inner.values():
        if parameter.opcode != "parameter":
            continue
        source = given[int(parameter.inside)]
        taken = _taken(inner, users, parameter)
        whole = _in_hbm(source.results)
        total += whole if taken is None else min(whole, taken)
    return total


def _taken(inner: Computation, users: Mapping[str, list[Instruction]], value: Instruction) -> int | None:
    """Bytes of the slices that are read of a value; None if it is read otherwise, too."""
    total = 0
    for user in users.get(value.name, []):
        match user.opcode:
            case "dynamic-slice" | "slice" | "gather" if user.operands[0] == value.name:
                total += user.results[0].size
            case "dynamic-update-slice" if user.operands[0] == value.name:
                pass  # in place
            case "bitcast":
                further = _taken(inner, users, user)
                if further is None:
                    return None
                total += further
            case _:
                return None
    return total


def _written_by_fusion(inner: Computation, fusion: Instruction) -> int:
    """Results; of an array updated in place, the update."""
    root = next(i for i in inner.values() if i.is_root)
    outputs = [inner[name] for name in root.operands] if root.opcode == "tuple" else [root]
    total = 0
    for output, result in zip(outputs, fusion.results, strict=False):
        while output.opcode == "bitcast":
            output = inner[output.operands[0]]
        updated = output.opcode == "dynamic-update-slice"
        total += _in_hbm([result]) and (inner[output.operands[1]].results[0].size if updated else result.size)
    return total


def _users(inner: Computation) -> dict[str, list[Instruction]]:
    users: dict[str, list[Instruction]] = {}
    for instruction in inner.values():
        for operand in instruction.operands:
            users.setdefault(operand, []).append(instruction)
    return users
