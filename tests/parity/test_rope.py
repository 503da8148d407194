"""Rotary tables and positions against the reference."""

import numpy as np
import pytest

from gencompositor_jax import arch
from gencompositor_jax.model import erope
from tests.parity.released import assert_near
from tests.recordings import explain

pytestmark = pytest.mark.parity
TOLERANCE = 2e-6
CASES = explain("rope")["info"]
BASE = arch.released().base_grid


@pytest.fixture(params=CASES)
def case(request, golden):
    """(arrays of one number of frames without their prefix, grid, head_dim)."""
    rope = golden("rope")
    own = {
        k.removeprefix(f"{request.param}/"): x
        for k, x in rope.arrays.items()
        if k.startswith(request.param + "/")
    }
    sides = CASES[request.param]
    return own, (len(own["plain_axis_t"]), sides["h"], sides["w"]), rope.info["head_dim"]


def both(layout, grid):
    video, foreground, _ = erope.stream_indices(layout, grid)
    return np.concatenate([video, foreground])


def test_tables_of_both_stacks(case):
    recorded, grid, head_dim = case
    fusion = erope.fusion_tables("released", grid, BASE, head_dim)
    plain = erope.plain_tables(grid, BASE, head_dim)
    for tables, name in ((fusion, "double"), (plain, "plain")):
        for table, part in ((tables.cos, "cos"), (tables.sin, "sin")):
            # The reference repeats each column for both halves of a pair.
            assert_near(np.repeat(table, 2, axis=1), recorded[f"{name}_{part}"], TOLERANCE, f"{name} {part}")


def test_positions_along_each_axis(case):
    recorded, grid, _ = case
    plain = erope.axis_positions(grid, BASE)
    for ours, axis in zip(plain, "thw", strict=True):
        np.testing.assert_allclose(ours, recorded[f"plain_axis_{axis}"], rtol=0, atol=TOLERANCE * max(BASE))
    double = erope.axis_positions((grid[0], 2 * grid[1], grid[2]), (2 * BASE[0], BASE[1]))
    for ours, axis in zip(double[1:], "hw", strict=True):
        np.testing.assert_allclose(ours, recorded[f"double_axis_{axis}"], rtol=0, atol=TOLERANCE * max(BASE))


def test_position_of_every_token(case):
    recorded, grid, _ = case
    np.testing.assert_array_equal(both("released", grid), recorded["token_rope_index_thw"])
    np.testing.assert_array_equal(erope.grid_indices(grid), recorded["plain_row_index_thw"])
    doubled = (grid[0], 2 * grid[1], grid[2])
    np.testing.assert_array_equal(erope.grid_indices(doubled), recorded["double_row_index_thw"])
    # The released layout applies the doubled grid's positions row by row.
    np.testing.assert_array_equal(both("released", grid), recorded["double_row_index_thw"])


def test_the_paper_s_layout_is_height(case):
    recorded, grid, _ = case
    np.testing.assert_array_equal(both("height", grid), recorded["intended_rope_index_thw"])
    stream, tokens = recorded["token_thw"][:, 0], recorded["token_thw"][:, 1:]
    for number, ours in enumerate(erope.stream_indices("shared", grid)[:2]):
        np.testing.assert_array_equal(ours, tokens[stream == number])


def test_full_size(golden):
    full, arrays = arch.released(), golden("rope_full_size_480x720").arrays
    head_dim = arrays["plain_cos"].shape[1]
    plain = erope.plain_tables(full.token_grid, BASE, head_dim)
    fusion = erope.fusion_tables("released", full.token_grid, BASE, head_dim)
    for tables, name, rows in ((plain, "plain", "plain_row_index"), (fusion, "double", "row_index")):
        for part in ("cos", "sin"):
            whole = np.repeat(getattr(tables, part), 2, axis=1)
            assert_near(whole[arrays[rows]], arrays[f"{name}_{part}"], TOLERANCE)
            number = np.arange(len(whole))[:, None]
            for sum_name, weight in (("sum", 1), ("abs_weighted", number), ("weighted", number)):
                recorded = arrays.get(f"{name}_{part}_{sum_name}")
                if recorded is not None:
                    ours = (whole.astype(np.float64) * weight).sum()
                    assert abs(ours - recorded) < 1e-7 * whole.size * np.max(weight), (
                        f"{name}_{part}_{sum_name}"
                    )
