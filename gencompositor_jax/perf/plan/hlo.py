"""Parses compiled programs as XLA prints them: their instructions, and how often each is executed.

XLA's own cost analysis counts the body of a loop once; here it counts once per iteration. Only what the
package uses is parsed: names, operations, types, operands, attributes.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator, Mapping

_BITS = {"pred": 8, "token": 0, "opaque": 0}
# Layout of an array in a TPU's VMEM. (GPUs have a memory space 1 too, without tiles.)
_VMEM = re.compile(r"T\(.*S\(1\)")

_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) .*\{$")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_ARRAY = re.compile(r"(\w+)\[([\d,<=]*)\](\{[^}]*\})?")
_NAME = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(r"(?:calls|to_apply|body|condition)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"(?:branch_computations=\{([^}]*)\}|(?:true|false)_computation=(%?[\w.\-]+))")


@dataclasses.dataclass(frozen=True)
class Array:
    """One array of an instruction's result."""

    dtype: str
    shape: tuple[int, ...]
    in_hbm: bool = True  # on TPUs: not in VMEM

    @functools.cached_property
    def size(self) -> int:
        """Bytes, without the layout's padding."""
        return math.prod(self.shape) * bits_of(self.dtype) // 8


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a program."""

    name: str
    opcode: str
    results: tuple[Array, ...]  # several for a tuple, nested ones flattened
    operands: tuple[str, ...]
    inside: str  # the text between the parentheses
    attributes: str  # the text after them
    is_root: bool = False

    @property
    def called(self) -> tuple[str, ...]:
        """Names of the computations that it calls."""
        branches = [name for pair in _BRANCHES.findall(self.attributes) for name in pair if name]
        named = [name.strip().removeprefix("%") for part in branches for name in part.split(",")]
        return (*_CALLED.findall(self.attributes), *named)

    def named(self, role: str) -> str:
        """The computation in a role: calls, body or condition. Raises KeyError if there is none."""
        found = re.search(rf"\b{role}=%?([\w.\-]+)", self.attributes)
        if found is None:
            raise KeyError(f"{self.name}: no {role}")
        return found[1]


Computation = Mapping[str, Instruction]


@dataclasses.dataclass(frozen=True)
class Module:
    """A program: its computations by name, in the order of their lines."""

    computations: Mapping[str, Computation]
    entry: str


@dataclasses.dataclass(frozen=True)
class Executed:
    """An instruction, the number of times that it is executed, and the computation that holds it."""

    instruction: Instruction
    times: int
    computation: Computation


def parse(text: str) -> Module:
    """A program from its text, `compiled.as_text()`."""
    computations: dict[str, dict[str, Instruction]] = {}
    entry, current = "", None
    for line in text.splitlines():
        if line == "}":
            current = None
        elif current is None and (found := _COMPUTATION.match(line)) and "->" in line:
            current = computations[found[2]] = {}
            entry = found[2] if found[1] else entry
        elif current is not None and (found := _INSTRUCTION.match(line)):
            one = _instruction(found[2], line[found.end() :], is_root=found[1] is not None)
            current[one.name] = one
    return Module(computations, entry)


def executed(module: Module) -> Iterator[Executed]:
    """Every instruction outside fusions, with how often it is executed.

    Of branches the longer one counts. A loop whose trip count isn't known counts once (see `unknown_loops`).
    """
    yield from _walk(module, module.entry, 1)


def unknown_loops(module: Module) -> list[str]:
    """The loops whose trip count can't be read from the program."""
    loops = {
        e.instruction.name: trip_count(module, e) for e in executed(module) if e.instruction.opcode == "while"
    }
    return [name for name, count in loops.items() if count is None]


def trip_count(module: Module, loop: Executed) -> int | None:
    """Trip count of a loop, as XLA states it or as its condition compares a counter with a constant.

    None for other conditions.
    """
    instruction = loop.instruction
    if found := re.search(r'"known_trip_count":\{"n":"(\d+)"', instruction.attributes):
        return int(found[1])
    condition = module.computations[instruction.named("condition")]
    body = module.computations[instruction.named("body")]
    root = _root(condition)
    if root.opcode == "fusion":
        root, condition = _inlined(module, root, condition)
    if root.opcode != "compare":
        return None
    first, last = (_origin(condition, name) for name in root.operands)
    bound = _constant(last)
    if bound is None and _index(last) is not None:  # the bound is part of the loop's state
        bound = _constant(_initial(loop, last))
    direction = re.search(r"direction=(\w+)", root.attributes)
    if bound is None or _index(first) is None or direction is None or direction[1] not in ("LT", "NE", "GT"):
        return None
    start, step = _constant(_initial(loop, first)), _step(module, body, first)
    if start is None or step is None:
        return None
    return max(0, -(-(bound - start) // step))


def bits_of(dtype: str) -> int:
    """Bits of one element of a type as XLA names it: f32, bf16, s8, pred, f8e4m3fn."""
    if dtype in _BITS:
        return _BITS[dtype]
    found = re.match(r"(?:bf|f|s|u|c)(\d+)", dtype)
    return int(found[1]) if found else 0


def arrays(text: str) -> tuple[Array, ...]:
    """The arrays of a type: of `f32[2,3]{1,0}`, or of a tuple of such."""
    return tuple(
        Array(
            dtype,
            tuple(int(side.lstrip("<=")) for side in sides.split(",") if side),
            _VMEM.search(layout or "") is None,
        )
        for dtype, sides, layout in _ARRAY.findall(text)
    )


def _instruction(name: str, rest: str, is_root: bool) -> Instruction:
    end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    kind, rest = rest[:end], rest[end:].lstrip()
    opening = rest.index("(")
    closing = _closing(rest, opening)
    inside = rest[opening + 1 : closing]
    return Instruction(
        name,
        rest[:opening].strip(),
        arrays(kind),
        tuple(_NAME.findall(inside)),
        inside,
        rest[closing + 1 :],
        is_root,
    )


def _closing(text: str, opening: int) -> int:
    """Index of the parenthesis that closes the one at `opening`; the text's end if there is none."""
    depth = 0
    for found in re.compile(r"[()]").finditer(text, opening):
        depth += 1 if found[0] == "(" else -1
        if depth == 0:
            return found.start()
    return len(text)


def _walk(module: Module, name: str, times: int) -> Iterator[Executed]:
    computation = module.computations[name]
    for instruction in computation.values():
        one = Executed(instruction, times, computation)
        yield one
        match instruction.opcode:
            case "while":
                count = trip_count(module, one)
                yield from _walk(module, instruction.named("body"), times * (1 if count is None else count))
            case "conditional":
                branches = [list(_walk(module, branch, times)) for branch in instruction.called]
                yield from max(branches, key=lambda branch: sum(e.times for e in branch))
            case "call" | "async-start":
                for other in instruction.called:
                    yield from _walk(module, other, times)


def _root(computation: Computation) -> Instruction:
    return next(i for i in computation.values() if i.is_root)


def _inlined(module: Module, fusion: Instruction, outer: Computation) -> tuple[Instruction, Computation]:
    """The root of a fusion, with its parameters replaced by the operands."""
    inner = module.computations[fusion.named("calls")]
    given = {i.name: outer[fusion.operands[int(i.inside)]] for i in inner.values() if i.opcode == "parameter"}
    return _root(inner), {**outer, **inner, **given}  # names are unique in a program


def _origin(computation: Computation, name: str) -> Instruction:
    """The instruction that a value comes from, through copies and bitcasts."""
    one = computation[name]
    while one.opcode in ("copy", "bitcast", "convert") and one.operands:
        one = computation[one.operands[0]]
    return one


def _constant(one: Instruction | None) -> int | None:
    if one is None or one.opcode != "constant":
        return None
    return int(one.inside) if re.fullmatch(r"-?\d+", one.inside) else None


def _index(one: Instruction) -> int | None:
    """Index into the loop's state that a value is read from."""
    if one.opcode != "get-tuple-element":
        return None
    found = re.search(r"\bindex=(\d+)", one.attributes)
    return int(found[1]) if found else None


def _initial(loop: Executed, value: Instruction) -> Instruction | None:
    """A value of the loop's state before the first iteration."""
    state, index = _origin(loop.computation, loop.instruction.operands[0]), _index(value)
    if state.opcode != "tuple" or index is None:
        return None
    return _origin(loop.computation, state.operands[index])


def _step(module: Module, body: Computation, counter: Instruction) -> int | None:
    """What an iteration adds to the counter."""
    root, index = _root(body), _index(counter)
    if root.opcode != "tuple" or index is None:
        return None
    computation, new = body, _origin(body, root.operands[index])
    if new.opcode == "fusion":
        new, computation = _inlined(module, new, body)
    if new.opcode != "add":
        return None
    constants = [_constant(_origin(computation, name)) for name in new.operands]
    found = [c for c in constants if c]
    return found[0] if len(found) == 1 else None
