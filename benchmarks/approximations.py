"""Speed and fidelity of the approximations `compose --fast` and `--weights`.

    python benchmarks/approximations.py                   # everything; about ten minutes on two idle cores
    python benchmarks/approximations.py --only fidelity --clips 4

Fidelity: PSNR to the exact pass (20 steps, same seed and solver) in the generated region, for the embedded
model on the first held-out clips, and for the random network of tests/golden, if present; means over clips or
seeds. For the embedded model also PSNR to the ground truth, which shows whether a difference is a loss.
"another seed" is the score of an unrelated sample.

Speed: a network of 4 blocks, 512 wide, with random weights, and a foreground of which three quarters are
blank. All modes run in turn, round after round (A B C A B C); medians of whole passes. Run it on an idle
machine: `load_average` is recorded.

Work: multiplications of a pass of the released model (49 x 480 x 720) against the exact pass.

Writes benchmarks/results/approximations.json, and prints the table.
"""

import argparse
import dataclasses
import json
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402

from gencompositor_jax import arch as arch_lib  # noqa: E402
from gencompositor_jax import checkpoints  # noqa: E402
from gencompositor_jax.arch import Solver  # noqa: E402
from gencompositor_jax.checkpoints import Model  # noqa: E402
from gencompositor_jax.controls.conditions import Conditions, stack_conditions  # noqa: E402
from gencompositor_jax.controls.sampling import SamplingOptions  # noqa: E402
from gencompositor_jax.data_pipelines.examples import held_out_example  # noqa: E402
from gencompositor_jax.diffusion import approximations  # noqa: E402
from gencompositor_jax.evaluation import metrics  # noqa: E402
from gencompositor_jax.files import atomic_write_text  # noqa: E402
from gencompositor_jax.inference.pipeline import generate  # noqa: E402
from gencompositor_jax.model import int8  # noqa: E402
from gencompositor_jax.perf import flops  # noqa: E402
from gencompositor_jax.pixels import to_signed  # noqa: E402

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results" / "approximations.json"
STEPS, SEED = 20, 42
STACK = arch_lib.TransformerArch(num_layers=4, num_heads=8, head_dim=64, text_dim=512, text_tokens=32)
MEDIUM = dataclasses.replace(
    arch_lib.released(),
    frames=13,
    height=192,
    width=256,
    backbone=STACK,
    branch=dataclasses.replace(STACK, num_layers=1),
    codec=arch_lib.PatchCodecArch(space_factor=8),
    base_grid=(12, 16),
)


@dataclasses.dataclass(frozen=True)
class Mode:
    """One row of the table."""

    name: str
    fast: str | None = None
    steps: int = STEPS
    seed: int = SEED
    solver: Solver = "dpm"
    weights: str | None = None
    timed: bool = True


MODES = (
    Mode("exact"),
    Mode("cache:2", "cache:2"),
    Mode("cache:3", "cache:3"),
    Mode("cache:4", "cache:4", timed=False),
    Mode("drop-blank", "drop-blank"),
    Mode("drop-blank,cache:2", "drop-blank,cache:2"),
    Mode("10 steps", steps=10),
    Mode("5 steps", steps=5, timed=False),
    Mode("weights int8", weights="int8"),
    Mode("another seed", seed=SEED + 1, timed=False),
    Mode("exact, ddim", solver="ddim", timed=False),
    Mode("cache:2, ddim", "cache:2", solver="ddim", timed=False),
    Mode("10 steps, ddim", steps=10, solver="ddim", timed=False),
    Mode("4 steps, ddim", steps=4, solver="ddim", timed=False),
)
Answer = Callable[[Mode], np.ndarray]  # uint8 [T, H, W, 3]


def answers(model: Model, conditions: Conditions) -> Answer:
    """A function that samples a clip in any mode."""
    rounded = dataclasses.replace(model, arrays=int8.quantised(model.arrays))

    def answer(mode: Mode) -> np.ndarray:
        chosen = rounded if mode.weights == "int8" else model
        batch = jax.tree.map(lambda x: x[None], conditions)
        options = SamplingOptions(steps=mode.steps, seed=mode.seed, solver=mode.solver, fast=mode.fast)
        return generate(chosen, batch, [0], options)[0]

    return answer


def compare(answer: Answer, region: np.ndarray, target: np.ndarray | None) -> dict[str, dict[str, float]]:
    """PSNR of every mode to the exact pass of its solver, and to the ground truth."""
    exact = {solver: answer(Mode("exact", solver=solver)) for solver in ("dpm", "ddim")}
    found = {}
    for mode in MODES:
        frames = exact[mode.solver] if mode.name.startswith("exact") else answer(mode)
        found[mode.name] = {"to_exact": metrics.psnr(frames, exact[mode.solver], region)}
        if target is not None:
            found[mode.name]["to_answer"] = metrics.psnr(frames, target, region)
    return found


def means(clips: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Over clips, each at most `metrics.CAP`."""
    return {
        mode: {
            kind: round(float(np.mean([metrics.capped(clip[mode][kind]) for clip in clips])), 2)
            for kind in kinds
        }
        for mode, kinds in clips[0].items()
    }


def embedded(count: int) -> dict[str, dict[str, float]]:
    """The embedded model on held-out clips."""
    model = checkpoints.load(checkpoints.packaged())
    model = dataclasses.replace(model, arrays=jax.device_put(model.arrays))
    arch, found = model.arch, []
    for number in range(count):
        example = held_out_example(
            number, arch.inflation, arch.frames, arch.height, arch.width, arch.offset_cell
        )
        answer = answers(model, jax.tree.map(lambda x: x[0], stack_conditions([example])))
        found.append(compare(answer, example["mask"], example["target"]))
        print(f"embedded model, clip {number}", file=sys.stderr, flush=True)
    return means(found)


def golden(count: int) -> dict[str, Any] | None:
    """The random network of tests/golden on its recorded inputs, for several seeds, and the error of one
    evaluation.
    """
    if not (ROOT / "tests" / "golden").is_dir():
        return None
    sys.path.insert(0, str(ROOT))
    from gencompositor_jax.model.denoiser import Denoiser, LatentConditions
    from tests.parity import released
    from tests.recordings import load

    recorded, arch = load("pipeline_e2e").arrays, released.model_arch()
    assert isinstance(arch.codec, arch_lib.VAEArch)
    arrays: dict[str, Any] = {
        "backbone": released.backbone_variables(arch),
        "branch": released.branch_variables(arch),
        "codec": released.vae_params(arch.codec),
        "null_text": jnp.asarray(recorded["null_prompt_embeds"][0]),
    }
    region = recorded["mask_video_uint8"][..., 0] > 127
    foreground = to_signed(recorded["fg_video_uint8"])
    background = to_signed(recorded["masked_video_uint8"])
    conditions = Conditions(region[..., None].astype(np.float32), background, foreground)
    answer, found = answers(Model(arch, arrays), conditions), []
    for seed in range(count):
        shifted = lambda mode, by=seed: answer(dataclasses.replace(mode, seed=mode.seed + 2 * by))  # noqa: E731
        found.append(compare(shifted, region, None))
        print(f"recorded network, seed {seed}", file=sys.stderr, flush=True)

    def latents(name: str) -> jax.Array:
        return released.channels_last(recorded[f"shared/{name}"])

    mask = jnp.asarray(recorded["shared/mask"][0])[..., None]
    given = LatentConditions(latents("masked_video_latents"), latents("fg_video_latents"), mask)
    noisy = latents("initial_latents")
    stacks = {name: arrays[name] for name in ("backbone", "branch")}
    rest = noisy, jnp.array([999]), given, arrays["null_text"][None]
    run = jax.jit(Denoiser(arch).__call__)
    exact = run(stacks, *rest)

    def error(other: jax.Array) -> float:
        return float(f"{jnp.linalg.norm(other - exact) / jnp.linalg.norm(exact):.2e}")

    half = jax.tree.map(lambda x: x.astype(jnp.bfloat16), stacks)
    kept = approximations.kept_tokens(foreground[None], arch)
    velocity = {
        "weights int8": error(run(int8.quantised(stacks), *rest)),
        "drop-blank": error(run(stacks, *rest, None if kept is None else jnp.asarray(kept))),
        "bfloat16": error(jax.jit(Denoiser(arch, jnp.bfloat16).__call__)(half, *rest)),
    }
    return {"psnr": means(found), "relative_error_of_the_velocity": velocity}


def speed(rounds: int) -> dict[str, Any]:
    """Seconds of sampling at medium size, and the speed-up over the exact pass."""
    rng = np.random.default_rng(0)
    shapes = checkpoints.array_shapes(MEDIUM)
    arrays = jax.tree.map(lambda x: jnp.asarray(0.02 * rng.standard_normal(x.shape, np.float32)), shapes)
    pixels = (MEDIUM.frames, MEDIUM.height, MEDIUM.width)
    foreground = np.ones((*pixels, 3), np.float32)
    foreground[:, : MEDIUM.height // 2, : MEDIUM.width // 2] = 0
    mask = np.ones((*pixels, 1), np.float32)
    answer = answers(Model(MEDIUM, arrays), Conditions(mask, 0 * foreground, foreground))
    timed = [mode for mode in MODES if mode.timed]
    for mode in timed:  # compiles
        answer(mode)
    seconds: dict[str, list[float]] = {mode.name: [] for mode in timed}
    for turn in range(rounds):
        for mode in timed:
            began = time.perf_counter()
            answer(mode)
            seconds[mode.name].append(time.perf_counter() - began)
        print(f"speed, round {turn + 1} of {rounds}", file=sys.stderr, flush=True)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    t, rows, columns = MEDIUM.token_grid
    return {
        "layers": STACK.num_layers,
        "width": STACK.width,
        "joint_tokens": STACK.text_tokens + 2 * t * rows * columns,
        "rounds": rounds,
        "seconds": {name: [round(v, 3) for v in values] for name, values in seconds.items()},
        "speed_up": {name: round(medians["exact"] / value, 2) for name, value in medians.items()},
    }


def work() -> dict[str, float]:
    """By what factor a mode has fewer multiplications than the exact pass, at the released size; drop-blank
    with a quarter of the foreground's cells.
    """
    arch = arch_lib.released()
    t, rows, columns = arch.token_grid
    quarter = t * math.ceil(rows * columns / 4)
    exact = STEPS * flops.forward(arch)
    fewer = flops.backbone(arch, quarter).total + flops.branch(arch).total
    found = {}
    for mode in MODES:
        how = approximations.parse(mode.fast)
        evaluations = int(approximations.computed_steps(mode.steps, how.cache).sum())
        found[mode.name] = round(
            exact / (evaluations * (fewer if how.drop_blank else flops.forward(arch))), 2
        )
    return found


def memory() -> dict[str, float]:
    """GB of the released networks' weights, without allocating them."""
    shapes = {name: checkpoints.array_shapes(arch_lib.released())[name] for name in ("backbone", "branch")}
    half = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, jnp.bfloat16), shapes)
    trees = {"bfloat16": half, "int8": jax.eval_shape(int8.quantised, half)}
    return {
        name: round(sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree)) / 1e9, 2)
        for name, tree in trees.items()
    }


def table(report: dict[str, Any]) -> str:
    """The report as Markdown."""
    small = report.get("embedded", {}).get("psnr", {})
    random = (report.get("golden") or {}).get("psnr", {})
    timed = report.get("speed", {}).get("speed_up", {})
    lines = [
        "| | work at full size, times less | speed-up, 4 blocks on CPU | PSNR to the exact pass, dB: "
        "embedded model | random weights | PSNR to the ground truth: embedded model |",
        "|---|---|---|---|---|---|",
    ]
    for mode in MODES:
        own = small.get(mode.name, {})
        cells = [report["work"].get(mode.name), timed.get(mode.name)]
        cells += [own.get("to_exact"), random.get(mode.name, {}).get("to_exact"), own.get("to_answer")]
        lines.append("| " + " | ".join([mode.name, *("" if c is None else f"{c:g}" for c in cells)]) + " |")
    return "\n".join(lines)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", choices=("fidelity", "speed"), help="keep the other part's results")
    parser.add_argument("--clips", type=int, default=8, help="held-out clips (default 8)")
    parser.add_argument("--seeds", type=int, default=4, help="of the random network (default 4)")
    parser.add_argument("--rounds", type=int, default=3, help="of the timing (default 3)")
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    report: dict[str, Any] = json.loads(args.out.read_text()) if args.out.exists() else {}
    report |= {"steps": STEPS, "solver": "dpm", "work": work(), "weights_gb": memory()}
    if args.only != "speed":
        report["embedded"] = {"clips": args.clips, "psnr": embedded(args.clips)}
        if (recorded := golden(args.seeds)) is not None:
            report["golden"] = {"seeds": args.seeds, **recorded}
    if args.only != "fidelity":
        report["speed"] = speed(args.rounds)
    report["machine"] = {
        "jax": jax.__version__,
        "device": jax.devices()[0].device_kind,
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[1], 1),
        "processor": platform.machine(),
    }
    args.out.parent.mkdir(exist_ok=True)
    atomic_write_text(args.out, json.dumps(report, indent=1) + "\n")
    print(table(report))


if __name__ == "__main__":
    main()
