"""Progressive distillation of the embedded model, to compare with consistency distillation.

    python benchmarks/progressive.py --out runs/progressive

Salimans and Ho (2022): a student learns to reach in one DDIM step what its teacher reaches in two, and is the
teacher of the next round: 8 steps become 4, 2, 1. The config is that of configs/distill.py, whose steps are
shared by the rounds. Writes OUT/4/model, OUT/2/model and OUT/1/model, which `benchmarks/distilled.py
--progressive OUT` scores. An interrupted run resumes.
"""

import argparse
from pathlib import Path
from unittest import mock

import jax

from gencompositor_jax.diffusion import sampler
from gencompositor_jax.training import distillation
from gencompositor_jax.training.config import load_config
from gencompositor_jax.training.distillation import at, x0_of
from gencompositor_jax.training.loop import train

STUDENTS = (4, 2, 1)  # sampling steps; the first one's teacher takes twice as many


def row_of(timestep: jax.Array, table: sampler.Coefficients, train_steps: int) -> jax.Array:
    """The first of the two teacher's steps that are the student's step of each timestep."""
    steps = len(table.timestep) // 2
    return 2 * ((train_steps - 1 - timestep) * steps // train_steps)


def estimate(
    teaching: distillation.Teaching, network: distillation.Network, noisy: jax.Array, row: jax.Array
) -> jax.Array:
    """The x0 for which one DDIM step leads where two of the teacher's lead, without gradient.

    With z' = c_x z + c_d x0 for each step, the student's step has c_x = c_x1 c_x2, and its c_d follows from
    a constant estimate: c_d1 c_x2 + c_d2.
    """
    table, rank = teaching.table, noisy.ndim
    c_x, c_d = at(table.c_x, row, rank), at(table.c_d, row, rank)
    first = x0_of(network, teaching.teacher, table, noisy, row)
    second = x0_of(network, teaching.teacher, table, c_x * noisy + c_d * first, row + 1)
    from_first, from_second = c_d * at(table.c_x, row + 1, rank), at(table.c_d, row + 1, rank)
    return jax.lax.stop_gradient((from_first * first + from_second * second) / (from_first + from_second))


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True)
    args, overrides = parser.parse_known_args()
    teacher = None
    changes = [word.removeprefix("--config.") for word in overrides]
    with mock.patch.multiple(distillation, row_of=row_of, estimate=estimate):
        for steps in STUDENTS:
            config = load_config("configs/distill.py", changes)
            config.steps //= len(STUDENTS)
            config.optimizer.warmup //= len(STUDENTS)
            config.distill.intervals = 2 * steps
            config.validation.steps = steps
            config.arch_changes.diffusion.update({"steps": steps, "solver": "ddim"})
            config.init = str(teacher or config.init)
            teacher = args.out / str(steps) / "model"
            train(config, args.out / str(steps))


if __name__ == "__main__":
    main()
