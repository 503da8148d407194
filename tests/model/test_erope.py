import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gencompositor_jax.model import erope

LAYOUTS = ["released", "height", "width", "time", "shared", "trajectory"]
grids = st.tuples(st.integers(1, 5), st.integers(1, 6), st.integers(1, 6))


@given(grids, st.sampled_from(LAYOUTS))
def test_only_the_ablation_shares_positions(grid, layout):
    video, foreground, extent = erope.stream_indices(layout, grid)
    both = np.concatenate([video, foreground])
    distinct = len(np.unique(both, axis=0))
    assert distinct == (len(video) if layout == "shared" else len(both))
    assert (both >= 0).all()
    assert (both < extent).all()
    assert distinct == np.prod(extent)  # every row of the table is used


@given(grids, st.sampled_from(["height", "width", "time"]))
def test_the_paper_s_shift_is_constant(grid, layout):
    video, foreground, _ = erope.stream_indices(layout, grid)
    axis = {"time": 0, "height": 1, "width": 2}[layout]
    shift = np.zeros(3, int)
    shift[axis] = grid[axis]
    np.testing.assert_array_equal(foreground - video, np.broadcast_to(shift, video.shape))


def test_tokens_are_ordered_time_row_column():
    np.testing.assert_array_equal(erope.grid_indices((2, 1, 2)), [[0, 0, 0], [0, 0, 1], [1, 0, 0], [1, 0, 1]])


def test_positions_are_whole_at_the_released_size():
    frames, rows, columns = erope.axis_positions((13, 60, 45), (60, 45))
    np.testing.assert_array_equal(frames, np.arange(13))
    np.testing.assert_array_equal(rows, np.arange(60))
    np.testing.assert_array_equal(columns, np.arange(45))


@given(st.integers(1, 40), st.integers(1, 40))
def test_positions_stay_inside_the_base_cells(rows, columns):
    _, y, x = erope.axis_positions((1, rows, columns), (30, 45))
    for positions, cells in ((y, 30), (x, 45)):
        assert positions.min() >= 0
        assert positions.max() < cells
        assert (np.diff(positions) >= 0).all()


def test_attention_scores_depend_on_relative_positions_only():
    head_dim, key = 32, jax.random.key(0)
    q, k = jax.random.normal(key, (2, 1, 1, 1, head_dim))

    def score(at_q, at_k):
        tables = [
            erope.rotary_tables(np.array([at]), (20, 20, 20), (20, 20), head_dim) for at in (at_q, at_k)
        ]
        turned = [erope.rotate(x, *t) for x, t in zip((q, k), tables, strict=True)]
        return float(jnp.sum(turned[0] * turned[1]))

    assert score((1, 2, 3), (4, 9, 5)) == pytest.approx(score((3, 5, 9), (6, 12, 11)), abs=1e-4)
    assert score((1, 2, 3), (4, 9, 5)) != pytest.approx(score((1, 2, 3), (4, 8, 5)), abs=1e-2)


@given(st.integers(0, 2**31 - 1))
def test_rotation_keeps_lengths_and_turns_pairs(seed):
    x = jax.random.normal(jax.random.key(seed), (1, 4, 2, 16))
    tables = erope.plain_tables((1, 2, 2), (2, 2), 16)
    turned = erope.rotate(x, *tables)
    pairs = lambda y: np.linalg.norm(np.asarray(y).reshape(*y.shape[:-1], -1, 2), axis=-1)  # noqa: E731
    np.testing.assert_allclose(pairs(turned), pairs(x), rtol=1e-5)
    back = erope.rotate(turned, tables.cos, -tables.sin)
    np.testing.assert_allclose(back, x, atol=1e-5)


def test_base_cells_double_along_the_doubled_axis():
    grid, head_dim = (2, 4, 6), 16
    tall = erope.fusion_tables("height", grid, (4, 6), head_dim)
    plain = erope.plain_tables(grid, (4, 6), head_dim)
    n = np.prod(grid)
    np.testing.assert_array_equal(tall.cos[:n], plain.cos)  # the video has the branch's positions
    assert not np.allclose(tall.cos[n:], plain.cos)


def test_offsets_of_zero_are_the_layout_height():
    tall = erope.fusion_tables("height", (3, 4, 6), (4, 6), 32)
    offsets = jnp.zeros((2, 3, 2), jnp.int32)
    for ours, theirs in zip(
        erope.fusion_tables("trajectory", (3, 4, 6), (4, 6), 32, offsets), tall, strict=True
    ):
        assert ours.shape == (2, *theirs.shape) and ours.dtype == jnp.float32
        np.testing.assert_allclose(ours[1], theirs, atol=1e-6)
    np.testing.assert_array_equal(erope.fusion_tables("trajectory", (3, 4, 6), (4, 6), 32).cos, tall.cos)


@given(st.integers(-3, 3), st.integers(-5, 5), st.sampled_from([(4, 6), (2, 3), (8, 12)]))
def test_foreground_tokens_have_the_positions_of_their_place_in_the_target(dy, dx, base):
    """As those of the layout `height` there: in a grid that is large enough to hold both."""
    grid, head_dim = (2, 4, 6), 32
    offsets = jnp.zeros((1, 2, 2), jnp.int32).at[0, 1].set(jnp.array([dy, dx]))
    tables = erope.fusion_tables("trajectory", grid, base, head_dim, offsets)
    tall = erope.fusion_tables("height", grid, base, head_dim)
    _, foreground, _ = erope.stream_indices("height", grid)
    n = len(foreground)
    at = {tuple(index): row for row, index in enumerate(foreground)}
    for token, (t, row, column) in enumerate(foreground):
        there = at.get((t, row + dy * t, column + dx * t))  # t is 0 or 1
        if there is not None:
            np.testing.assert_allclose(tables.cos[0, n + token], tall.cos[n + there], atol=1e-5)
            np.testing.assert_allclose(tables.sin[0, n + token], tall.sin[n + there], atol=1e-5)
    np.testing.assert_allclose(tables.cos[0, :n], tall.cos[:n], atol=1e-6)


def test_every_clip_has_its_own_rotation():
    x = jax.random.normal(jax.random.key(0), (2, 48, 2, 32))
    offsets = jnp.zeros((2, 2, 2), jnp.int32).at[1].set(2)
    tables = erope.fusion_tables("trajectory", (2, 3, 4), (3, 4), 32, offsets)
    both = erope.rotate(x, *tables)
    for row in range(2):
        alone = erope.rotate(x[row : row + 1], tables.cos[row], tables.sin[row])
        np.testing.assert_array_equal(both[row : row + 1], alone)
