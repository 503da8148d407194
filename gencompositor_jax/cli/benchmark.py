"""`gencompositor benchmark`: how long sampling or a training step takes here."""

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
        description="Compiling is measured by itself and never taken from the cache. Reads no network.",
        allow_abbrev=False,
    )
    parser.add_argument("--mode", choices=("sample", "train"), default="sample", help="default sample")
    parser.add_argument(
        "--steps", type=int, metavar="N", help="denoising steps (default 20), or training steps (default 5)"
    )
    parser.add_argument(
        "--json", action="store_true", help="print the figures once more, as one line of JSON at the end"
    )
    sample = parser.add_argument_group("sampling")
    model = sample.add_mutually_exclusive_group()
    model.add_argument(
        "--checkpoint", metavar="DIR", help="folder of a checkpoint (default: the embedded model)"
    )
    model.add_argument(
        "--random",
        choices=("released", "small", "tiny"),
        help="random bfloat16 weights of this architecture, made on the device, instead of a checkpoint",
    )
    sample.add_argument(
        "--size", metavar="TxHxW", help="frames, height and width of the clip (default: the model's)"
    )
    sample.add_argument("--weights", choices=("int8",), help="as compose --weights")
    sample.add_argument("--guided", action="store_true", help="as with a prompt: twice the work per step")
    sample.add_argument("--rounds", type=int, metavar="N", help="clips that are sampled (default 1)")
    train = parser.add_argument_group("training, on one device; any --config.KEY=VALUE changes the config")
    train.add_argument("--config", metavar="FILE.py[:ARG]", help="for example configs/gencompositor_6b.py")
    parser.set_defaults(run=run, overrides=[])


def run(args: argparse.Namespace) -> None:
    """Measures, prints a table, and with --json one line more."""
    _check(args)
    report = _train(args) if args.mode == "train" else _sample(args)
    print("\n".join(lines(report)))
    if args.json:
        sys.stdout.flush()
        print(json.dumps(report))


def _check(args: argparse.Namespace) -> None:
    """What belongs to the other mode is refused, not ignored."""
    other = (
        ("config",)
        if args.mode == "sample"
        else ("checkpoint", "random", "size", "weights", "guided", "rounds")
    )
    for name in other:
        if getattr(args, name):
            raise InputError(f"--{name}: has no meaning with --mode {args.mode}")
    if args.mode == "train" and args.config is None:
        raise InputError("--config is missing: --mode train needs one, such as configs/gencompositor_6b.py")
    if args.mode == "sample" and args.overrides:
        raise InputError(f"--config.{args.overrides[0]}: has no meaning with --mode sample")
    for name in ("steps", "rounds"):
        value = getattr(args, name)
        if value is not None and not 1 <= value <= 1000:
            raise InputError(f"--{name} {value}: pass 1 to 1000")


def _sample(args: argparse.Namespace) -> dict[str, Any]:
    size = None if args.size is None else parse_size(args.size)

    import jax

    jax.config.update("jax_enable_compilation_cache", False)

    from gencompositor_jax.controls.sampling import SamplingOptions
    from gencompositor_jax.perf.benchmark import sampling

    if args.random is not None:
        arch, source = sampling.arch_of(args.random, size), f"random {args.random}"
        model = sampling.random_model(arch, weights=args.weights)
    else:
        from gencompositor_jax.cli.rendering import load

        source = args.checkpoint or "embedded"
        model = sampling.resized(load(args.checkpoint, None, args.weights).model, size)
    steps = args.steps or SamplingOptions.steps
    report = sampling.run(model, steps, args.guided, args.rounds or 1)
    return _with_machine(report, weights=source)


def _train(args: argparse.Namespace) -> dict[str, Any]:
    from gencompositor_jax.training.config import load_config

    config = load_config(args.config, args.overrides)

    import jax

    jax.config.update("jax_enable_compilation_cache", False)

    from gencompositor_jax.perf.benchmark import training

    report = training.run(config, args.steps or 5)
    return _with_machine(report, config=args.config, overrides=args.overrides)


def _with_machine(report: dict[str, Any], **told: Any) -> dict[str, Any]:
    import jax

    from gencompositor_jax.cli.outputs import versions
    from gencompositor_jax.perf.benchmark import measure

    return {**report, **told, **measure.machine(jax.devices()[0]), "versions": versions()}


def parse_size(text: str) -> tuple[int, int, int]:
    """Frames, height and width of 49x480x720. Raises InputError for anything else."""
    found = re.fullmatch(r"([1-9]\d*)x([1-9]\d*)x([1-9]\d*)", text)
    if found is None:
        raise InputError(f"--size {text}: pass frames, height and width, such as 49x480x720")
    frames, height, width = map(int, found.groups())
    return frames, height, width


def lines(report: dict[str, Any]) -> list[str]:
    """The report for people."""
    memory = report["device_memory_bytes"]
    limit = "" if memory is None else f", {memory / GIB:.1f} GiB for JAX"
    known = report["versions"]
    said = ", ".join(f"{name} {known[name]}" for name in ("python", "jax", "jaxlib", "flax"))
    blocks, branch = report["blocks"]
    kept = " kept in 8 bits" if report.get("weights_in") == "int8" else ""
    rows = [
        ("machine", f"{report['device']}{limit}; {report['host_cores']} host cores"),
        ("versions", f"{said}; {report['platform_version']}"),
        (
            "network",
            f"{report['parameters']:,} parameters{kept}, computed in {report['dtype']}, {blocks} + {branch} "
            f"blocks of width {report['token_size']}",
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
    mfu = "unknown: this device's peak is not known" if report["mfu"] is None else f"{report['mfu']:.1%}"
    work = f"{report['flops_per_step'] / 1e12:.3g} TFLOP per step"
    rows += [
        ("arithmetic", f"{work} at {report['flops_per_second'] / 1e12:.3g} TFLOP/s; MFU {mfu}"),
        ("peak memory", f"{report['peak_bytes'] / GIB:.2f} GiB ({report['peak_bytes_of']})"),
    ]
    return [f"{name:<16} {value}" for name, value in rows]


def _sampled(report: dict[str, Any]) -> list[tuple[str, str]]:
    how = "with guidance" if report["guided"] else "without guidance"
    step, total = report["step_seconds"], report["total_seconds"]
    return [
        ("encode", f"{report['encode_seconds']['median']:.3f} s"),
        ("denoise", f"{step['median']:.4f} s per step, min {step['min']:.4f} s, {how}"),
        ("decode", f"{report['decode_seconds']['median']:.3f} s"),
        ("total", f"{total['median']:.2f} s for {report['steps']} steps, from pixels to pixels"),
    ]


def _trained(report: dict[str, Any]) -> list[tuple[str, str]]:
    step, share = report["step_seconds"], report["trained_parameters"] / report["parameters"]
    held = (report["state_bytes"] + report["frozen_bytes"]) / GIB
    return [
        (
            "trained",
            f"{report['trained_parameters']:,} parameters ({share:.1%}), batch {report['batch_size']}",
        ),
        ("step", f"{step['median']:.3f} s, min {step['min']:.3f} s"),
        ("loss", f"{report['loss']:.4f}; {report['skipped_steps']} steps skipped"),
        ("planned memory", f"{report['planned_bytes'] / GIB:.2f} GiB by XLA, {held:.2f} GiB of it the state"),
    ]
