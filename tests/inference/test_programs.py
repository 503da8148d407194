"""Compiled programs in a folder: the same answers, and everything that doesn't fit refused."""

import dataclasses
import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental.compilation_cache import compilation_cache

from gencompositor_jax.errors import InputError
from gencompositor_jax.inference import programs
from gencompositor_jax.inference.programs import Programs, Recorder, Rehearsal, signature


@dataclasses.dataclass(frozen=True)
class Shape:
    times: int
    name: str = "a"


class State(NamedTuple):
    x: jax.Array
    seen: jax.Array | None = None


traced: list[Shape] = []


@jax.jit
def plus(x, state):
    return State(x + state.x)


@jax.jit
def twice(x):
    return 2 * x


def scale(params, x, first, *, shape):
    traced.append(shape)
    noise = jax.random.normal(jax.random.fold_in(x["key"], first), x["rows"].shape)
    return State(params["w"] * x["rows"] * shape.times + first + noise * np.arange(3.0))


scaled = jax.jit(scale, static_argnames="shape", donate_argnums=1)
SHAPE = Shape(2)


def given(rows=4, dtype=jnp.float32):
    return {"rows": jnp.ones((rows, 3), dtype), "key": jax.random.key(0)}


PARAMS = {"w": np.float32([1, 2, 3])}  # from the host, as conditions are


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    recorder, where = Recorder(), tmp_path_factory.mktemp("programs") / "some"
    recorder(scaled, PARAMS, given(), 3, shape=SHAPE)
    recorder(scaled, PARAMS, given(), 4, shape=SHAPE)
    recorder(plus, jnp.ones(2), State(jnp.ones(2)))
    assert len(recorder.kept) == 2
    size = recorder.save(where, {"frames": 9, "prompt": False})
    assert size == sum(file.stat().st_size for file in where.iterdir() if file.name != programs.INDEX)
    return where


def test_loaded_programs_answer_as_jit_does_and_are_not_traced(folder):
    expected = scaled(PARAMS, given(), 3, shape=SHAPE), plus(jnp.arange(2.0), State(jnp.ones(2)))
    programs = Programs.load(folder)
    traced.clear()
    found = (
        programs(scaled, PARAMS, given(), 3, shape=SHAPE),
        programs(plus, jnp.arange(2.0), State(jnp.ones(2))),
    )
    assert not traced
    jax.tree.map(np.testing.assert_array_equal, found, expected)
    assert isinstance(found[0], State) and found[0].seen is None


def test_a_donated_argument_is_used_up(folder):
    x = {"rows": jnp.ones((4, 3)), "key": jax.random.key(0)}
    Programs.load(folder)(scaled, PARAMS, x, 3, shape=SHAPE)
    assert x["rows"].is_deleted()


@pytest.mark.parametrize(
    "args, shape, says",
    [
        ((PARAMS, given(rows=5), 3), SHAPE, r"'scale' takes float32\[4,3\], not float32\[5,3\]"),
        ((PARAMS, given(dtype=jnp.bfloat16), 3), SHAPE, r"takes float32\[4,3\], not bfloat16\[4,3\]"),
        ((PARAMS, given(), 3), Shape(5), "made for shape.times=2, not 5"),
        (({"w": PARAMS["w"], "b": None}, given(), 3), SHAPE, "takes other arguments"),
    ],
)
def test_a_call_that_has_no_program_says_what_differs(folder, args, shape, says):
    with pytest.raises(InputError, match=says):
        Programs.load(folder)(scaled, *args, shape=shape)


def test_a_function_that_has_no_program_is_named(folder):
    with pytest.raises(InputError, match="has no program 'twice'"):
        Programs.load(folder)(twice, jnp.ones(1))


def test_what_it_was_made_for_is_compared(folder):
    programs = Programs.load(folder)
    programs.check({"frames": 9, "prompt": False})
    with pytest.raises(InputError, match="made for frames=9, not 17; run gencompositor compile"):
        programs.check({"frames": 17, "prompt": False})


@pytest.mark.parametrize("name", ["jax", "jaxlib", "device", "processor"])
def test_another_machine_is_refused(folder, name, monkeypatch):
    here = programs.machine()
    monkeypatch.setattr(programs, "machine", lambda: here | {name: "another"})
    with pytest.raises(
        InputError, match=f"compiled for {name} .*here 'another'; run gencompositor compile here"
    ):
        Programs.load(folder)


@pytest.fixture
def copy(folder, tmp_path):
    copied = tmp_path / "copy"
    copied.mkdir()
    for file in folder.iterdir():
        (copied / file.name).write_bytes(file.read_bytes())
    return copied


def test_damaged_files_are_not_executed(copy, monkeypatch):
    file = next(file for file in copy.iterdir() if file.name.startswith("scale"))
    packed = bytearray(file.read_bytes())
    packed[len(packed) // 2] ^= 1
    file.write_bytes(packed)
    with pytest.raises(InputError, match="scale-.*damaged"):
        Programs.load(copy)
    file.unlink()
    with pytest.raises(InputError, match="no such file.*compile again"):
        Programs.load(copy)


@pytest.mark.parametrize("text, says", [("{", "damaged"), ("{}", "damaged"), ("[]", "damaged")])
def test_a_damaged_index_is_refused(copy, text, says):
    (copy / programs.INDEX).write_text(text)
    with pytest.raises(InputError, match=says):
        Programs.load(copy)


def test_an_index_of_another_version_is_refused(copy):
    index = json.loads((copy / programs.INDEX).read_text())
    (copy / programs.INDEX).write_text(json.dumps(index | {"format": 99}))
    with pytest.raises(InputError, match="of another version"):
        Programs.load(copy)


def test_a_folder_of_something_else_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"has no programs\.json; pass a folder of gencompositor compile"):
        Programs.load(tmp_path)


def test_nothing_is_replaced_unasked(folder):
    recorder = Recorder()
    recorder(twice, jnp.ones(1))
    with pytest.raises(InputError, match="exists: pass --overwrite"):
        recorder.save(folder, {})
    assert len(Programs.load(folder).executables) == 2


def test_a_rehearsal_runs_each_program_once():
    calls: list[int] = []

    def count(program, *args, **static):
        calls.append(args[0].shape[0])
        return program(*args, **static)

    rehearsal = Rehearsal(count)
    answers = [rehearsal(twice, jnp.full(n, n)) for n in (1, 2, 1, 1)]
    assert calls == [1, 2]
    assert [float(a[0]) for a in answers] == [2, 4, 2, 2]


def test_signatures_tell_shapes_types_and_nesting_apart_and_nothing_else():
    x = jnp.ones((2, 3))
    same = signature(twice, (x,), {})
    assert same == signature(twice, (np.ones((2, 3), np.float32),), {})
    assert same == signature(twice, (jax.ShapeDtypeStruct((2, 3), jnp.float32),), {})
    others = [(x, x), ([x],), (x.T,), (x.astype(jnp.int32),), ({"x": x},), (State(x),)]
    keys = {signature(twice, args, {}).key for args in others} | {same.key, signature(plus, (x,), {}).key}
    assert len(keys) == 8


@pytest.fixture
def persistent_cache(tmp_path):
    """JAX's own cache on disk, in use."""
    settings = {
        "jax_compilation_cache_dir": str(tmp_path / "cache"),
        "jax_persistent_cache_min_compile_time_secs": 0.0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    before = {name: getattr(jax.config, name) for name in settings}
    for name, value in settings.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()
    yield tmp_path / "cache"
    for name, value in before.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()


def test_what_came_from_the_persistent_cache_is_compiled_anew(persistent_cache):
    """XLA on a CPU can't write again what it has read: such a program would fail when it runs."""
    x = jnp.ones((8, 8))

    @jax.jit
    def joined(x):
        return jax.lax.scan(
            lambda c, _: (jnp.concatenate([jnp.tanh(c @ c.T)[:3], c[3:]]), c.sum()), x, None, 2
        )

    expected = joined(x)
    written = len(list(persistent_cache.iterdir()))
    assert written
    jax.clear_caches()
    joined(x)  # read from the cache
    recorder = Recorder()
    jax.tree.map(np.testing.assert_array_equal, recorder(joined, x), expected)
    jax.clear_caches()
    jax.tree.map(np.testing.assert_array_equal, Recorder()(joined, x), expected)
    assert jax.config.jax_enable_compilation_cache
