from collections import Counter

import pytest

from gencompositor_jax.data_pipelines.echo import SPREAD, batch_of, count, echoed, oldest

STEPS = 200


@pytest.mark.parametrize("echo", [1, 2, 5])
def test_a_batch_is_used_so_many_times_far_apart(echo):
    used = [batch_of(step, echo) for step in range(STEPS)]
    full = SPREAD * echo  # from here on enough batches are read
    times = Counter(used[full * echo :])
    assert all(times[n] == echo for n in range(full, STEPS // echo - full))
    for step in range(full * echo, STEPS - full):
        assert used[step] not in used[step + 1 : step + SPREAD * echo + 1]


@pytest.mark.parametrize("echo", [1, 2, 5])
def test_only_batches_that_are_read_are_used_and_held(echo):
    for step in range(STEPS):
        assert oldest(step, echo) <= batch_of(step, echo) <= step // echo
        assert oldest(step, echo) <= oldest(step + 1, echo)


@pytest.mark.parametrize("start", [0, 3, 60])
@pytest.mark.parametrize("echo", [1, 3])
def test_it_reads_what_it_uses_and_no_more(start, echo):
    unread = iter(range(oldest(start, echo), count(100, echo)))
    assert list(echoed(unread, start, 100, echo)) == [batch_of(step, echo) for step in range(start, 100)]
    assert next(unread, None) is None


def test_without_echo_every_step_has_its_batch():
    assert [batch_of(step, 1) for step in range(9)] == list(range(9)) and oldest(7, 1) == 7


@pytest.mark.parametrize("echo", [2, 5])
def test_at_first_the_batches_that_are_there_take_their_turns(echo):
    times = Counter(batch_of(step, echo) for step in range(400 * echo))
    assert max(times.values()) <= 4 * echo
