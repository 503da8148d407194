"""A plan as tables and as one line of JSON."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from gencompositor_jax.perf.hardware import GIB
from gencompositor_jax.perf.plan.collectives import KINDS
from gencompositor_jax.perf.plan.compiling import Compiled, Plan


def text(plan: Plan) -> str:
    """Tables of memory, work, traffic and time; then whether it fits, and what to change if not."""
    chip, (frames, height, width) = plan.target.chip, plan.clip
    sizes = " x ".join(f"{axis} {size}" for axis, size in plan.mesh.items() if size > 1) or "one device"
    memory = "unknown memory" if chip.memory is None else f"{chip.memory / GIB:.2f} GiB each"
    lines = [
        f"{plan.mode}: {_count(plan.batch, 'clip')} of {frames} x {height} x {width} on {plan.target.name}, "
        f"{len(plan.target.devices)} x {chip.name} ({memory}), mesh {sizes}",
        "",
        *_table("GiB per device", plan.programs, _memory_rows(plan.programs)),
        "",
        *_table("per device and run", plan.programs, _work_rows(plan.programs)),
        "",
        *_table("seconds, lower bound", plan.programs, _time_rows(plan.programs)),
    ]
    if plan.mode == "sample" and (seconds := composite_seconds(plan)) is not None:
        lines.append(f"a composite of {plan.steps} steps: at least {seconds:.1f} s")
    lines += ["", *(f"assumes: {line}" for line in assumptions(plan)), ""]
    for program in plan.programs:
        lines += [f"not counted in {program.name}: {what}" for what in program.unknown]
    return "\n".join([*lines, *verdict(plan)])


def as_json(plan: Plan) -> str:
    """One line: the step's figures at the top level, those of all programs under `programs`."""
    step, chip = plan.step, plan.target.chip
    return json.dumps(
        {
            "mode": plan.mode,
            "topology": plan.target.name,
            "devices": len(plan.target.devices),
            "chip": chip.name,
            "mesh": plan.mesh,
            "batch": plan.batch,
            "bytes_per_device": plan.needed,
            "hbm_bytes": chip.memory,
            "fits": plan.fits,
            **_figures(step),
            "compile_seconds": round(sum(program.seconds for program in plan.programs), 1),
            "composite_seconds_estimate": composite_seconds(plan) if plan.mode == "sample" else None,
            "programs": {
                program.name: {
                    "bytes_per_device": program.needed,
                    "memory": program.memory and program.memory.kinds,
                    "runs": program.runs,
                    **_figures(program),
                    "collectives": {
                        kind: {"calls": sent.calls, "bytes": sent.bytes}
                        for kind, sent in program.traffic.items()
                        if sent.calls
                    },
                    "compile_seconds": round(program.seconds, 1),
                }
                for program in plan.programs
            },
            "assumptions": assumptions(plan),
            "advice": [] if plan.fits is not False else advice(plan),
        }
    )


def composite_seconds(plan: Plan) -> float | None:
    """Lower bound of a sampling pass with as many steps as the model is meant for; None if it isn't known."""
    total = 0.0
    for program in plan.programs:
        if program.estimate is None:
            return None
        total += program.estimate.seconds * program.runs
    return total


def verdict(plan: Plan) -> list[str]:
    """Whether it fits, and what to change if not."""
    needed, memory = plan.needed / GIB, plan.target.chip.memory
    if memory is None:
        return [f"needs {needed:.2f} GiB per device ({plan.largest.name})"]
    figures = f"{needed:.2f} of {memory / GIB:.2f} GiB per device ({plan.largest.name})"
    if plan.fits:
        return [f"fits: {figures}"]
    return [f"does not fit: {figures}", *(f"  try {line}" for line in advice(plan))]


def advice(plan: Plan) -> list[str]:
    """What would reduce the memory, the most effective first."""
    found, largest = [], plan.largest
    held = 0
    if largest.memory is not None:
        held = sum({**largest.memory.arguments, **largest.memory.waiting}.values())
    memory = plan.target.chip.memory or 0
    if held > memory:
        times = -(-held // memory)
        found.append(f"at least {times} times the chips: arguments alone take {held / GIB:.1f} GiB")
    return found + (_advice_to_train(plan) if plan.mode == "train" else _advice_to_sample(plan))


def _advice_to_train(plan: Plan) -> list[str]:
    found = []
    rows = plan.mesh["data"] * plan.mesh["fsdp"]
    if plan.batch > rows:
        found.append(f"--config.optimizer.accumulate={plan.batch // rows}: one clip per device at a time")
    if plan.mesh["data"] > 1:
        found.append("--mesh with fsdp instead of data: fsdp shards the parameters, data replicates them")
    found.append(f"--mesh fsdp={plan.mesh['fsdp']},context=2 on twice the chips: halves the activations only")
    if not _host(plan.largest):
        found.append("--config.remat=offload: keeps the blocks' saved activations in host memory")
    found.append("--config.optimizer.ema=0: no EMA weights, 4 bytes less per parameter")
    found.append("--config FILE.py:lora if the config has it: trains adapters only")
    return found


def _advice_to_sample(plan: Plan) -> list[str]:
    found = []
    if plan.batch > 1:
        found.append(f"--batch {plan.batch // 2}")
    if plan.largest is not plan.step:
        half = f"({plan.clip[1] // 2},{plan.clip[2] // 2})"
        found.append(f"--config.arch_changes.codec.tile={half}: the codec in tiles, as --tiles released does")
    found.append("twice the chips: weights and activations are sharded over all of them")
    return found


def assumptions(plan: Plan) -> list[str]:
    """What the estimate of the time assumes."""
    chip = plan.target.chip
    if chip.flops is None or chip.bandwidth is None or chip.links is None:
        return [f"nothing: the peak rates of {chip.name} are unknown, so the time isn't estimated"]
    lines = [
        f"{chip.flops / 1e12:.4g} TFLOP/s, {chip.bandwidth / 1e9:.4g} GB/s of memory, "
        f"{chip.links / 1e9:.4g} GB/s sent to other devices ({chip.source})",
        "every operation runs at the peak rate of arithmetic or memory; communication overlaps with it",
    ]
    if host := max(map(_host, plan.programs)):
        lines.append(f"transfers of {host / GIB:.1f} GiB to the host and back overlap with it")
    if chip.unit > 64:
        lines.append(
            f"attention with head_dim 64 uses {64 / chip.unit:.0%} of a matrix unit of side {chip.unit}"
        )
    return lines


def _figures(program: Compiled) -> dict[str, Any]:
    sent = sum(kind.bytes for kind in program.traffic.values()) if program.memory is not None else None
    return {
        "flops_per_device": program.flops,
        "useful_flops_per_device": program.useful_flops,
        "memory_bytes_moved_per_device": program.bytes,
        "host_bytes_per_device": program.memory and program.memory.host,
        "collective_bytes_per_device": sent,
        "step_seconds_estimate": program.estimate and program.estimate.seconds,
    }


Row = tuple[str, Sequence[str]]


def _memory_rows(programs: Sequence[Compiled]) -> list[Row]:
    names = dict.fromkeys(kind for p in programs if p.memory for kind in p.memory.kinds)
    rows = [
        (name, [_gib(p.memory.kinds.get(name, 0)) if p.memory else "?" for p in programs]) for name in names
    ]
    shown: list[Row] = [
        (name, cells) for name, cells in rows if any(cell not in ("-", "?") for cell in cells)
    ]
    shown.append(("total", [_gib(p.needed) for p in programs]))
    if any(_host(p) for p in programs):
        shown.append(("in host memory", [_gib(_host(p)) for p in programs]))
    return shown


def _host(program: Compiled) -> int:
    return program.memory.host if program.memory else 0


def _work_rows(programs: Sequence[Compiled]) -> list[Row]:
    rows: list[Row] = [
        ("TFLOP", [_scaled(p.flops, 1e12) for p in programs]),
        ("of the network itself", [_scaled(p.useful_flops, 1e12) for p in programs]),
        ("GB read and written", [_scaled(p.bytes, 1e9) for p in programs]),
    ]
    for kind in KINDS:
        sent = [p.traffic[kind] for p in programs if kind in p.traffic]
        if any(one.calls for one in sent):
            cells = [p.traffic.get(kind) for p in programs]
            rows.append((f"GB sent, {kind}", [_scaled(c.bytes if c else None, 1e9) for c in cells]))
            rows.append(("  calls", [str(c.calls) if c else "-" for c in cells]))
    return rows


def _time_rows(programs: Sequence[Compiled]) -> list[Row]:
    names = ("arithmetic", "memory", "interconnect", "seconds")
    rows = [
        (
            "total" if name == "seconds" else name,
            [_scaled(getattr(p.estimate, name) if p.estimate else None, 1) for p in programs],
        )
        for name in names
    ]
    if any(p.runs > 1 for p in programs):
        rows.append(("runs in a composite", [str(p.runs) for p in programs]))
    return [*rows, ("compiled in", [f"{p.seconds:.0f}" for p in programs])]


def _table(title: str, programs: Iterable[Compiled], rows: Sequence[Row]) -> list[str]:
    heads = [program.name for program in programs]
    widths = [max(len(head), 10) for head in heads]

    def line(first: str, cells: Sequence[str]) -> str:
        return f"{first:<30}" + "".join(
            f"  {cell:>{width}}" for cell, width in zip(cells, widths, strict=True)
        )

    return [line(title, heads), *(line(f"  {name}", cells) for name, cells in rows)]


def _gib(size: int) -> str:
    return f"{size / GIB:.3f}" if size >= GIB // 2000 else "-"


def _scaled(value: float | None, unit: float) -> str:
    return "-" if not value else f"{value / unit:.4g}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" + ("s" if number != 1 else "")
