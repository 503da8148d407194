"""`gencompositor benchmark`: time and memory of sampling or a training step on this machine."""

import argparse
import json
import re
import sys
from typing import Any

from gencompositor_jax.errors import InputError

GIB = 2**30


def register(subcommands: Any) -> None:
    """The arguments."""
    parser = subcommands.add_parser(
        "benchmark",
        help="measure sampling or a training step on this machine",
        description="Compiling is measured separately, without the compilation cache.",
        allow_abbrev=False,
    )
    parser.add_argument("--mode", choices=("sample", "train"), default="sample", help="default sample")
    parser.add_argument(
        "--steps", type=int, metavar="N", help="denoising steps (default 20), or training steps (default 5)"
    )
    parser.add_argument("--json", action="store_true", help="also print the figures as one last line of JSON")
    sample = parser.add_argument_group("sampling")
    model = sample.add_mutually_exclusive_group()
    model.add_argument(
        "--checkpoint", metavar="DIR", help="folder of a checkpoint (default: the embedded model)"
    )
    model.add_argument(
        "--random",
        choices=("linear", "released", "small", "tiny"),
        help="random bfloat16 weights of this architecture instead of a checkpoint",
    )
    sample.add_argument(
        "--size", metavar="TxHxW", help="frames, height and width of the clip (default: the model's)"
    )
    sample.add_argument("--weights", choices=("int8",), help="as compose --weights")
    sample.add_argument("--guided", action="store_true", help="with guidance: twice the work per step")
    sample.add_argument("--rounds", type=int, metavar="N", help="number of clips (default 1)")
    train = parser.add_argument_group("training, on one device; --config.KEY=VALUE overrides the config")
    train.add_argument("--config", metavar="FILE.py[:ARG]", help="for example configs/gencompositor_6b.py")
    parser.set_defaults(run=run, overrides=[])


def run(args: argparse.Namespace) -> None:
    """Measure and print a table, with --json also a line of JSON."""
    _check(args)
    report = _train(args) if args.mode == "train" else _sample(args)
    print("\n".join(lines(report)))
    if args.json:
        sys.stdout.flush()
        print(json.dumps(report))


def _check(args: argparse.Namespace) -> None:
    """Refuse options of the other mode."""
    other = (
        ("config",)
        if args.mode == "sample"
        else ("checkpoint", "random", "size", "weights", "guided", "rounds")
    )
    for name in other:
        if getattr(args, name):
            raise InputError(f"--{name}: has no effect with --mode {args.mode}")
    if args.mode == "train" and args.config is None:
        raise InputError("--mode train needs a --config, such as configs/gencompositor_6b.py")
    if args.mode == "sample" and args.overrides:
        raise InputError(f"--config.{args.overrides[0]}: has no effect with --mode sample")
    for name in ("steps", "rounds"):
        value = getattr(args, name)
        if value is not None and not 1 <= value <= 1000:
            raise InputError(f"--{name} {value}: pass 1 to 1000")


def _sample(args: argparse.Namespace) -> dict[str, Any]:
    size = None if args.size is None else parse_size(args.size)

    import jax

    jax.config.update("jax_enable_compilation_cache", False)

    from gencompositor_jax.perf.benchmark import sampling

    if args.random is not None:
        arch, source = sampling.arch_of(args.random, size), f"random {args.random}"
        model = sampling.random_model(arch, weights=args.weights)
    else:
        from gencompositor_jax.cli.rendering import load

        source = args.checkpoint or "embedded"
        model = sampling.resized(load(args.checkpoint, None, args.weights, {"data": 1}).model, size)
    report = sampling.run(model, args.steps, args.guided, args.rounds or 1)
    return _with_machine(report, weights=source)


def _train(args: argparse.Namespace) -> dict[str, Any]:
    from gencompositor_jax.training.config import load_config

    config = load_config(args.config, args.overrides)

    import jax

    jax.config.update("jax_enable_compilation_cache", False)

    from gencompositor_jax.perf.benchmark import training

    report = training.run(config, args.steps or 5)
    return _with_machine(report, config=args.config, overrides=args.overrides)


def _with_machine(report: dict[str, Any], **more: Any) -> dict[str, Any]:
    import jax

    from gencompositor_jax.perf.benchmark import measure
    from gencompositor_jax.versions import versions

    return {**report, **more, **measure.machine(jax.devices()[0]), "versions": versions()}


def parse_size(text: str) -> tuple[int, int, int]:
    """Frames, height and width of 49x480x720. Raises InputError for anything else."""
    found = re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})x([1-9]\d{0,4})", text)
    if found is None:
        raise InputError(f"--size {text}: pass frames, height and width, such as 49x480x720")
    frames, height, width = map(int, found.groups())
    return frames, height, width


def lines(report: dict[str, Any]) -> list[str]:
    """The report as a table."""
    memory = report["device_memory_bytes"]
    limit = "" if memory is None else f", {memory / GIB:.1f} GiB for JAX"
    versions = ", ".join(f"{name} {report['versions'][name]}" for name in ("python", "jax", "jaxlib", "flax"))
    blocks, branch = report["blocks"]
    stored = " stored as int8" if report.get("weights_in") == "int8" else ""
    rows = [
        ("machine", f"{report['device']}{limit}; {report['host_cores']} host cores"),
        ("versions", f"{versions}; {report['platform_version']}"),
        (
            "network",
            f"{report['parameters']:,} parameters{stored}, computed in {report['dtype']}, "
            f"{blocks} + {branch} blocks of width {report['token_size']}",
        ),
        (
            "shapes",
            f"{report['frames']} frames of {report['height']} x {report['width']}, latents "
            f"{tuple(report['latents'])}, {report['joint_tokens']:,} tokens",
        ),
    ]
    for name, spent in report["compile_seconds"].items():
        rows.append((f"compile {name}", f"{sum(spent.values()):.2f} s ({spent['lower']:.2f} s to lower)"))
    rows += _sampled(report) if report["mode"] == "sample" else _trained(report)
    mfu = "unknown, like this device's peak" if report["mfu"] is None else f"{report['mfu']:.1%}"
    work = f"{report['flops_per_step'] / 1e12:.3g} TFLOP per step"
    rows += [
        ("arithmetic", f"{work} at {report['flops_per_second'] / 1e12:.3g} TFLOP/s; MFU {mfu}"),
        ("peak memory", f"{report['peak_bytes'] / GIB:.2f} GiB ({report['peak_bytes_of']})"),
    ]
    return [f"{name:<16} {value}" for name, value in rows]


def _sampled(report: dict[str, Any]) -> list[tuple[str, str]]:
    guidance = "with guidance" if report["guided"] else "without guidance"
    step, total = report["step_seconds"], report["total_seconds"]
    return [
        ("encode", f"{report['encode_seconds']['median']:.3f} s"),
        ("denoise", f"{step['median']:.4f} s per step, min {step['min']:.4f} s, {guidance}"),
        ("decode", f"{report['decode_seconds']['median']:.3f} s"),
        ("total", f"{total['median']:.2f} s for {report['steps']} steps, from pixels to pixels"),
    ]


def _trained(report: dict[str, Any]) -> list[tuple[str, str]]:
    step, fraction = report["step_seconds"], report["trained_parameters"] / report["parameters"]
    held = (report["state_bytes"] + report["frozen_bytes"]) / GIB
    return [
        (
            "trained",
            f"{report['trained_parameters']:,} parameters ({fraction:.1%}), batch {report['batch_size']}",
        ),
        ("step", f"{step['median']:.3f} s, min {step['min']:.3f} s"),
        ("loss", f"{report['loss']:.4f}; {report['skipped_steps']} steps skipped"),
        (
            "planned memory",
            f"{report['planned_bytes'] / GIB:.2f} GiB by XLA, of which {held:.2f} GiB are the state",
        ),
    ]
