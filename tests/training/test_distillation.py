"""Consistency distillation against a teacher whose trajectories are known."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gencompositor_jax import checkpoints
from gencompositor_jax.arch import DiffusionArch
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.diffusion import sampler, schedule
from gencompositor_jax.errors import InputError
from gencompositor_jax.training import distillation
from gencompositor_jax.training import loop as loop_lib
from gencompositor_jax.training.config import load_config

CONFIGS = Path(__file__).parents[2] / "configs"
INTERVALS, MEAN, VARIANCE = 10, 2.0, 0.25  # the teacher's data are N(2, 0.5^2)


def prediction_of(kind, x, timestep, x0):
    """What a network of this kind predicts where its estimate is x0."""
    at = schedule.signal_at(schedule.alpha_bars(DiffusionArch(prediction=kind)), timestep, x.ndim)
    return schedule.target(kind, x0, distillation.implied_noise(x, x0, at), at)


def teacher_x0(x, timestep, arch):
    a = jnp.asarray(schedule.alpha_bars(arch), jnp.float32)[timestep].reshape(-1, *(1,) * (x.ndim - 1))
    return MEAN + VARIANCE * jnp.sqrt(a) / (VARIANCE * a + 1 - a) * (x - jnp.sqrt(a) * MEAN)


def end_of(x, row, arch):
    """The end of the teacher's trajectory from x [1, ...] at the first timestep of interval `row`."""
    table = distillation.teacher_steps(arch, INTERVALS)
    for i in range(row, INTERVALS):
        x0 = teacher_x0(x, jnp.array([table.timestep[i]]), arch)
        x = table.c_x[i] * x + table.c_d[i] * x0
    return x


def networks(kind):
    """A teacher of the distribution above, and a student that is constant along its trajectories."""
    arch = DiffusionArch(prediction=kind)
    table = distillation.teacher_steps(arch, INTERVALS)

    def network(variables, latents, timestep):
        if variables == "teacher":
            return prediction_of(kind, latents, timestep, teacher_x0(latents, timestep, arch))
        rows = [int(np.flatnonzero(table.timestep == t)[0]) for t in np.asarray(timestep)]
        ends = jnp.concatenate([end_of(latents[i : i + 1], row, arch) for i, row in enumerate(rows)])
        return prediction_of(kind, latents, timestep, ends)

    return arch, network, distillation.Teaching("teacher", "student", table)


@pytest.mark.parametrize("kind", ["velocity", "x0"])
def test_a_consistent_student_is_told_what_it_says(kind):
    arch, network, teaching = networks(kind)
    rows = jnp.arange(INTERVALS)
    noisy = jax.random.normal(jax.random.key(0), (INTERVALS, 3))
    told = distillation.estimate(teaching, network, noisy, rows)
    ends = jnp.concatenate([end_of(noisy[i : i + 1], i, arch) for i in range(INTERVALS)])
    np.testing.assert_allclose(told, ends, atol=2e-4)
    assert float(jnp.abs(told - teacher_x0(noisy, jnp.asarray(teaching.table.timestep), arch)).max()) > 0.1


def test_the_estimate_has_no_gradient():
    _, _, teaching = networks("x0")

    def network(variables, latents, timestep):
        return variables * latents

    def told(scale):
        given = teaching._replace(teacher=scale, ema=scale)
        return distillation.estimate(given, network, jnp.ones((1, 3)), jnp.array([0])).sum()

    assert float(told(2.0)) != float(told(1.0))
    assert float(jax.grad(told)(1.0)) == 0


def test_every_timestep_is_in_the_interval_that_begins_at_or_above_it():
    table = distillation.teacher_steps(DiffusionArch(), INTERVALS)
    timestep = jnp.arange(1000)
    first = table.timestep[np.asarray(distillation.row_of(timestep, table, 1000))]
    assert ((first >= timestep) & (first - timestep < 1000 // INTERVALS)).all()


def test_the_solver_puts_fresh_noise_on_the_estimate():
    arch = DiffusionArch(prediction="x0")
    table = schedule.alpha_bars(arch)
    columns = sampler.coefficients(arch, 4, "consistency")
    following = np.array([table[t] for t in columns.timestep[1:]])
    np.testing.assert_allclose(columns.c_d, [*np.sqrt(following), 1])
    np.testing.assert_allclose(columns.c_eps, [*np.sqrt(1 - following), 0])
    assert not columns.c_x.any() and not columns.c_old.any()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"init": ""}, "config.init"),
        ({"optimizer.ema": 0.0}, "optimizer.ema"),
        ({"init_missing": "fresh"}, "init_missing"),
        ({"distill.intervals": 30}, "divisor of 1000"),
        ({"distill.intervals": 0}, "solver=consistency is of distilled networks"),
    ],
)
def test_configs_that_can_not_distil(changes, message):
    config = load_config(f"{CONFIGS}/distill.py:runlocal", [f"{k}={v}" for k, v in changes.items()])
    with pytest.raises(InputError, match=message):
        distillation.check(config, DiffusionArch(solver="consistency"))


@pytest.mark.slow
def test_a_student_is_a_checkpoint_of_few_steps(tmp_path):
    """Six steps of the command's trial, in two pieces: the teacher is read again."""
    config = load_config(
        f"{CONFIGS}/distill.py:runlocal",
        ["steps=6", "checkpoint.every=3", "validation.every=0", "batch_size=8"],
    )
    with config.unlocked():
        config.optimizer.warmup, config.log_every = 1, 3
    loop_lib.train(config, tmp_path, minutes=0)
    folder = loop_lib.train(config, tmp_path)
    student = checkpoints.load(folder)
    assert SamplingOptions().schedule(student.arch.diffusion) == (4, "consistency")
    assert student.provenance["step"] == 6
    teacher = checkpoints.load(checkpoints.packaged())
    moved = [
        float(np.abs(a - b).max())
        for a, b in zip(jax.tree.leaves(student.arrays), jax.tree.leaves(teacher.arrays), strict=True)
    ]
    assert 0 < max(moved) < 0.1
