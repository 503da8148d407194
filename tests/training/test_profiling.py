import jax
import jax.numpy as jnp
import pytest

from gencompositor_jax.training.profiling import Window


@pytest.fixture
def heard(monkeypatch):
    """What the profiler is told, with the steps that are dispatched in between."""
    events: list[object] = []
    monkeypatch.setattr(jax.profiler, "start_trace", lambda folder: events.append(folder.name))
    monkeypatch.setattr(jax.profiler, "stop_trace", lambda: events.append("stop"))
    monkeypatch.setattr(jax, "block_until_ready", lambda state: events.append(f"wait {state}"))
    return events


def run(window: Window, steps: range, heard: list[object]) -> list[object]:
    with window:
        for step in steps:
            with window.step(step, before=step - 1):
                heard.append(step)
    return heard


def test_the_window_holds_its_steps_and_waits_at_its_ends(heard, tmp_path):
    assert run(Window(tmp_path, 3, 2), range(1, 7), heard) == [
        1,
        2,
        "wait 2",
        "profile",
        3,
        4,
        "wait 4",
        "stop",
        5,
        6,
    ]


@pytest.mark.parametrize(
    ("window", "steps", "expected"),
    [
        ((3, 0), range(1, 5), [1, 2, 3, 4]),
        ((3, 2), range(5, 7), [5, 6]),  # goes on behind the window
        ((3, 2), range(4, 7), ["wait 3", "profile", 4, "wait 4", "stop", 5, 6]),  # within it
        ((3, 9), range(3, 5), ["wait 2", "profile", 3, 4, "stop"]),  # ends within it
    ],
)
def test_starts_and_ends_of_a_run_cut_the_window(window, steps, expected, heard, tmp_path):
    assert run(Window(tmp_path, *window), steps, heard) == expected


def test_a_failing_step_ends_the_profile(heard, tmp_path):
    with pytest.raises(ZeroDivisionError), Window(tmp_path, 1, 5) as window, window.step(1, before=0):
        _ = 1 / 0
    assert heard[-1] == "stop"


def test_a_real_profile_names_its_steps(tmp_path):
    step = jax.jit(lambda x: jnp.tanh(x @ x))
    x = jnp.eye(16)
    with Window(tmp_path, 2, 2) as window:
        for number in range(1, 5):
            with window.step(number, x):
                x = step(x)
    [trace] = (tmp_path / "profile").rglob("*.xplane.pb")
    assert b"step_num" in trace.read_bytes()
