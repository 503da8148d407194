import dataclasses

from hypothesis import given
from hypothesis import strategies as st

from gencompositor_jax.perf.hardware import Chip
from gencompositor_jax.perf.plan import roofline
from gencompositor_jax.perf.plan.collectives import Traffic
from gencompositor_jax.perf.plan.work import Operation

CHIP = Chip("chip", "kind", 1e12, 1e9, 1e8, 2**30, unit=128, float32_passes=6)
counts = st.integers(0, 10**6)


def test_each_operation_takes_what_takes_longer():
    operations = [Operation("a", 3, 2e12, 10**9), Operation("b", 1, 1e12, 5 * 10**9)]
    found = roofline.estimate(operations, {}, CHIP)
    assert found == roofline.Estimate(arithmetic=7.0, memory=8.0, interconnect=0.0, seconds=3 * 2 + 5)


def test_what_is_sent_is_hidden_up_to_the_time_of_the_rest():
    operations = [Operation("a", 1, 1e12, 0)]
    for sent, seconds in ((5 * 10**7, 1.0), (3 * 10**8, 3.0)):
        assert roofline.estimate(operations, {"all-gather": Traffic(1, sent)}, CHIP).seconds == seconds


def test_small_heads_and_float32_fill_a_matrix_unit_less():
    def seconds(**fields):
        return roofline.estimate([Operation("a", 1, 1e12, 0, **fields)], {}, CHIP).seconds

    assert seconds(inner=64) == 2 * seconds(inner=128) == 2 * seconds(inner=256) == 2.0
    assert seconds(half=False) == 6.0


@given(flops=counts, moved=counts, sent=counts, factor=st.integers(1, 100))
def test_a_faster_chip_is_never_slower(flops, moved, sent, factor):
    work = [Operation("a", 2, 1e6 * flops, moved)], {"all-reduce": Traffic(1, sent)}
    slow = roofline.estimate(*work, CHIP)
    for name in ("flops", "bandwidth", "links"):
        fast = dataclasses.replace(CHIP, **{name: factor * getattr(CHIP, name)})
        assert roofline.estimate(*work, fast).seconds <= slow.seconds


def test_no_estimate_without_peaks():
    assert roofline.estimate([], {}, dataclasses.replace(CHIP, flops=None)) is None
