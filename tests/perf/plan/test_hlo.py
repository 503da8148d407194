import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gencompositor_jax.perf.plan import hlo

# Shortened from what XLA:TPU prints: tiles in the layouts, the fast memory as S(1), a line break inside an
# attribute, a condition without a known trip count.
TPU = """HloModule jit_f, is_scheduled=true

%body.1 (arg: (s32[], bf16[8,128])) -> (s32[], bf16[8,128]) {
  %arg = (s32[]{:T(128)}, bf16[8,128]{1,0:T(8,128)(2,1)}) parameter(0)
  %i = s32[]{:T(128)} get-tuple-element(%arg), index=0
  %one = s32[]{:T(128)} constant(STEP)
  %next = s32[]{:T(128)} add(%i, %one), metadata={op_name="jit(f)/add"}
  %x = bf16[8,128]{1,0:T(8,128)(2,1)} get-tuple-element(%arg), index=1
  %y = bf16[8,128]{1,0:T(8,128)(2,1)S(1)} custom-call(%x), custom_call_target="tpu_custom_call", kernel={
"a":"(}"}
  %z = bf16[8,128]{1,0:T(8,128)(2,1)} copy(%y)
  ROOT %out = (s32[]{:T(128)}, bf16[8,128]{1,0:T(8,128)(2,1)}) tuple(%next, %z)
}

%condition.1 (arg.1: (s32[], bf16[8,128])) -> pred[] {
  %last = s32[]{:T(128)} constant(LAST)
  %arg.1 = (s32[]{:T(128)}, bf16[8,128]{1,0:T(8,128)(2,1)}) parameter(0)
  %j = s32[]{:T(128)} get-tuple-element(%arg.1), index=0
  ROOT %less = pred[]{:T(512)} compare(%j, %last), direction=LT
}

ENTRY %main.2 (p: bf16[8,128]) -> bf16[8,128] {
  %p = bf16[8,128]{1,0:T(8,128)(2,1)} parameter(0)
  %zero = s32[]{:T(128)} constant(FIRST)
  %state = (s32[]{:T(128)}, /*index=1*/bf16[8,128]{1,0:T(8,128)(2,1)}) tuple(%zero, %p)
  %loop = (s32[]{:T(128)}, bf16[8,128]{1,0:T(8,128)(2,1)}) while(%state), condition=%condition.1, body=%body.1
  ROOT %result = bf16[8,128]{1,0:T(8,128)(2,1)} get-tuple-element(%loop), index=1
}
"""


def written(first: int = 0, last: int = 42, step: int = 1) -> hlo.Module:
    return hlo.parse(TPU.replace("FIRST", str(first)).replace("LAST", str(last)).replace("STEP", str(step)))


def times(module: hlo.Module, opcode: str) -> list[int]:
    return [e.times for e in hlo.executed(module) if e.instruction.opcode == opcode]


def compiled(function, *arguments) -> hlo.Module:
    return hlo.parse(jax.jit(function).lower(*arguments).compile().as_text())


def test_a_tpu_program_is_parsed():
    module = written()
    call = module.computations["body.1"]["y"]
    assert (module.entry, call.opcode, call.operands) == ("main.2", "custom-call", ("x",))
    assert call.results == (hlo.Array("bf16", (8, 128), in_hbm=False),)
    assert module.computations["body.1"]["z"].results[0] == hlo.Array("bf16", (8, 128))
    assert module.computations["main.2"]["state"].results[1].size == 2 * 8 * 128


@given(first=st.integers(0, 5), count=st.integers(0, 50), step=st.integers(1, 4))
def test_the_trip_count_of_a_loop_is_read_from_its_condition(first, count, step):
    module = written(first, first + count * step, step)
    assert times(module, "custom-call") == [count]
    assert hlo.unknown_loops(module) == []


def test_nested_loops_multiply():
    def inner(x, _):
        return jnp.fft.fft(x).real, None

    def outer(x, _):
        return jax.lax.scan(inner, x, None, length=5)[0], None

    module = compiled(lambda x: jax.lax.scan(outer, x, None, length=3)[0], jnp.ones(64))
    assert sorted(times(module, "while")) == [1, 3]
    assert times(module, "fft") == [15]


def test_a_loop_that_depends_on_data_counts_once_and_is_reported():
    def grow(x):
        return jax.lax.while_loop(lambda x: x.sum() < 1e6, lambda x: 2 * x, x)

    module = compiled(grow, jnp.ones(8))
    assert times(module, "while") == [1]
    assert len(hlo.unknown_loops(module)) == 1


def test_of_two_branches_the_longer_one_counts():
    def either(flag, x):
        return jax.lax.cond(flag, lambda x: x, lambda x: jnp.fft.fft(x).real, x)

    module = compiled(either, True, jnp.ones(64))
    assert times(module, "fft") == [1]


@pytest.mark.parametrize(
    "dtype, bits", [("f32", 32), ("bf16", 16), ("pred", 8), ("s4", 4), ("f8e4m3fn", 8), ("token", 0)]
)
def test_bits_of_a_type(dtype, bits):
    assert hlo.bits_of(dtype) == bits
