import jax
import jax.numpy as jnp
import pytest

from gencompositor_jax.training.profiling import StepProfiler


@pytest.fixture
def events(monkeypatch):
    """Calls of JAX's profiler and of block_until_ready, and the steps between them."""
    events: list[object] = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: events.append(folder.name))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: events.append("stop"))
    monkeypatch.setattr(jax, "block_until_ready", lambda inputs: events.append(f"wait {inputs}"))
    return events


def run(profiler: StepProfiler, steps: range, events: list[object]) -> list[object]:
    with profiler:
        for step in steps:
            with profiler.step(step, inputs=step - 1):
                events.append(step)
    return events


def test_the_profile_holds_its_steps_and_waits_before_and_after_them(events, tmp_path):
    expected = [1, 2, "wait 2", "profile", 3, 4, "wait 4", "stop", 5, 6]
    assert run(StepProfiler(tmp_path, 3, 2), range(1, 7), events) == expected


@pytest.mark.parametrize(
    ("profiled", "steps", "expected"),
    [
        ((3, 0), range(1, 5), [1, 2, 3, 4]),
        ((3, 2), range(5, 7), [5, 6]),
        ((3, 2), range(4, 7), ["wait 3", "profile", 4, "wait 4", "stop", 5, 6]),
        ((3, 9), range(3, 5), ["wait 2", "profile", 3, 4, "stop"]),
    ],
    ids=["none", "a run after them", "a run that starts within them", "a run that ends within them"],
)
def test_a_run_profiles_those_of_the_steps_that_it_does(profiled, steps, expected, events, tmp_path):
    assert run(StepProfiler(tmp_path, *profiled), steps, events) == expected


def test_a_failing_step_ends_the_profile(events, tmp_path):
    profiler = StepProfiler(tmp_path, 1, 5)
    with pytest.raises(ZeroDivisionError), profiler, profiler.step(1, inputs=0):
        _ = 1 / 0
    assert events[-1] == "stop"


def test_a_real_profile_names_its_steps(tmp_path):
    step = jax.jit(lambda x: jnp.tanh(x @ x))
    x = jnp.eye(16)
    with StepProfiler(tmp_path, 2, 2) as profiler:
        for number in range(1, 5):
            with profiler.step(number, x):
                x = step(x)
    [trace] = (tmp_path / "profile").rglob("*.xplane.pb")
    assert b"step_num" in trace.read_bytes()
