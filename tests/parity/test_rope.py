"""Rotary tables and positions against the reference."""

import json

import numpy as np
import pytest

from gencompositor_jax import erope
from tests.parity.conftest import FOLDER

pytestmark = pytest.mark.parity
BASE = (30, 45)
CASES = json.loads((FOLDER / "rope.json").read_text())["info"]


@pytest.mark.parametrize("tag", CASES)
def test_tables_of_both_stacks(golden, tag):
    case = golden("rope")
    info, head_dim = case.info["info"][tag], case.info["head_dim"]
    grid = (int(tag[1:]), info["h"], info["w"])
    fusion = erope.fusion_tables("released", grid, BASE, head_dim)
    plain = erope.plain_tables(grid, BASE, head_dim)
    for ours, name in ((fusion, "double"), (plain, "plain")):
        for table, part in ((ours.cos, "cos"), (ours.sin, "sin")):
            # The reference repeats each column for both halves of a pair.
            np.testing.assert_allclose(np.repeat(table, 2, axis=1), case.arrays[f"{tag}/{name}_{part}"], rtol=0, atol=2e-6)


@pytest.mark.parametrize("tag", CASES)
def test_position_of_every_token(golden, tag):
    case = golden("rope")
    info = case.info["info"][tag]
    video, foreground, _ = erope.stream_indices("released", (int(tag[1:]), info["h"], info["w"]))
    np.testing.assert_array_equal(np.concatenate([video, foreground]), case.arrays[f"{tag}/token_rope_index_thw"])


@pytest.mark.parametrize("tag", CASES)
def test_the_paper_s_layout_is_height(golden, tag):
    case = golden("rope")
    info = case.info["info"][tag]
    video, foreground, _ = erope.stream_indices("height", (int(tag[1:]), info["h"], info["w"]))
    np.testing.assert_array_equal(np.concatenate([video, foreground]), case.arrays[f"{tag}/intended_rope_index_thw"])


def test_full_size(golden):
    arrays = golden("rope_full_size_480x720").arrays
    plain = erope.plain_tables((13, 30, 45), BASE, 64)
    fusion = erope.fusion_tables("released", (13, 30, 45), BASE, 64)
    for table, name, rows in ((plain, "plain", "plain_row_index"), (fusion, "double", "row_index")):
        for part in ("cos", "sin"):
            whole = np.repeat(getattr(table, part), 2, axis=1)
            np.testing.assert_allclose(whole[arrays[rows]], arrays[f"{name}_{part}"], rtol=0, atol=2e-6)
            difference = whole.sum(dtype=np.float64) - arrays[f"{name}_{part}_sum"]
            assert abs(difference) / whole.size < 1e-7
