import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gencompositor_jax import arch as arch_lib
from gencompositor_jax.diffusion import approximations
from gencompositor_jax.diffusion.approximations import Approximations
from gencompositor_jax.errors import InputError

TINY = arch_lib.tiny()  # 3 x 4 x 6 tokens of 16 x 16 pixels
CELL = 16


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        (None, Approximations()),
        ("drop-blank", Approximations(drop_blank=True)),
        ("cache:3", Approximations(cache=3)),
        ("cache:10, drop-blank", Approximations(True, 10)),
    ],
)
def test_approximations_are_parsed_from_their_text(text, meant):
    assert approximations.parse(text) == meant
    assert approximations.parse(str(meant) or None) == meant


@pytest.mark.parametrize(
    "text",
    [
        "",
        "drop",
        "drop-blank:2",
        "cache",
        "cache:1",
        "cache:11",
        "cache:-2",
        "cache:2.5",
        "cache:2,cache:3",
        ",",
    ],
)
def test_anything_else_is_refused(text):
    with pytest.raises(InputError, match="--fast.*drop-blank"):
        approximations.parse(text, "--fast")


@given(st.integers(1, 200), st.integers(1, 10))
def test_first_and_last_steps_are_computed_and_gaps_are_even(steps, every):
    computed = approximations.computed_steps(steps, every)
    where = np.flatnonzero(computed)
    assert computed.shape == (steps,) and where[0] == 0 and where[-1] == steps - 1
    assert (np.diff(where)[:-1] == every).all() and (np.diff(where) <= every).all()
    assert computed.all() or every > 1


def test_too_few_steps_to_skip_one_are_refused():
    Approximations(cache=2).check(3)
    Approximations(drop_blank=True).check(1)
    for steps, every in ((1, 2), (2, 2), (2, 10)):
        with pytest.raises(InputError, match=f"{steps} steps has none to skip"):
            Approximations(cache=every).check(steps)


def white(arch=TINY, clips=1):
    return np.ones((clips, arch.frames, arch.height, arch.width, 3), np.float32)


cells = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 63), st.integers(0, 95)), max_size=12)


@given(cells)
def test_every_token_that_is_not_blank_is_kept_in_all_frames(pixels):
    foreground = white()
    for pixel in pixels:
        foreground[(0, *pixel)][1] = 0.5
    kept = approximations.kept_tokens(foreground, TINY)
    t, rows, columns = TINY.token_grid
    shown = {y // CELL * columns + x // CELL for _, y, x in pixels}
    size = 24 if kept is None else len(kept) // t
    assert size in [24 * k // 8 for k in range(1, 9)] and size >= len(shown)
    assert size - len(shown) < 3 or (not shown and size == 3)  # rounded up to the next eighth
    if kept is not None:
        assert kept.dtype == np.int32 and (np.diff(kept) > 0).all() and kept[-1] < t * rows * columns
        by_frame = kept.reshape(t, -1)
        assert shown <= set(by_frame[0].tolist())
        np.testing.assert_array_equal(
            by_frame - by_frame[:1], np.arange(t)[:, None] * rows * columns + 0 * by_frame
        )


def test_a_batch_keeps_the_tokens_of_all_its_clips():
    both = white(clips=2)
    both[0, 0, 0, 0] = both[1, -1, -1, -1] = 0
    kept = approximations.kept_tokens(both, TINY)
    assert kept is not None and {0, 23} <= set(kept[:3].tolist())


def test_a_vae_s_neighbouring_cells_are_kept():
    vae = dataclasses.replace(TINY, codec=arch_lib.VAEArch(), frames=9)
    foreground = white(vae)
    foreground[0, :, 20, 20] = 0  # cell (1, 1)
    kept = approximations.kept_tokens(foreground, vae)
    assert kept is not None
    around = {row * 6 + column for row in (0, 1, 2) for column in (0, 1, 2)}
    assert set(kept[: len(kept) // 3].tolist()) == around
