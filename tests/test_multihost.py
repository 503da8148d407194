import jax
import jax.numpy as jnp
import pytest

from gencompositor_jax import multihost


@pytest.fixture
def events(monkeypatch):
    """What the processes waited for, and when the function was traced; as if this were one of two."""
    found: list[str] = []
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(multihost, "wait_for_all", lambda event: found.append("waited"))
    return found


def test_each_program_is_compiled_and_waited_for_once(events):
    def scaled(x, *, by):
        events.append("traced")
        return by * x

    program, run = jax.jit(scaled, static_argnames="by"), multihost.CompiledTogether()
    for x, by in ((jnp.ones(3), 2), (2 * jnp.ones(3), 2), (jnp.ones(4), 2), (jnp.ones(3), 5)):
        assert (run(program, x, by=by) == by * x).all()
    assert events == ["traced", "waited"] * 3


def test_a_single_process_waits_for_nobody(events, monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 1)
    assert multihost.CompiledTogether()(jax.jit(jnp.negative), jnp.ones(())) == -1
    assert events == []
