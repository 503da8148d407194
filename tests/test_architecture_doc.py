"""docs/architecture.md names functions that exist, and every room."""

import ast
import re

import pytest

from tests.test_house import FLOORS, PACKAGE, ROOT

DOCUMENT = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
FUNCTIONS = sorted(set(re.findall(r"`([\w/]+\.py):(\w+)`", DOCUMENT)))


def definitions(path):
    tree = ast.parse((ROOT / PACKAGE / path).read_text(encoding="utf-8"))
    return {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}


@pytest.mark.parametrize(("path", "name"), FUNCTIONS, ids=lambda value: value)
def test_a_named_function_exists(path, name):
    assert name in definitions(path)


def test_the_paper_s_ideas_are_in_the_table():
    assert {name for _, name in FUNCTIONS} >= {
        "trajectory_to_mask",
        "inflate",
        "blacken",
        "BackgroundBranch",
        "inject",
        "fusion_attention",
        "stream_indices",
        "gamma_augmentation",
    }


@pytest.mark.parametrize("room", FLOORS)
def test_every_room_is_mentioned(room):
    assert f"`{room}`" in DOCUMENT


def test_the_walk_of_a_trajectory_visits_each_room_once():
    walk = DOCUMENT.split("### A trajectory")[1].split("\n## ")[0]
    visited = re.findall(r"^\| \d+ \| `(\w+)`", walk, flags=re.MULTILINE)
    assert len(visited) == len(set(visited)) >= 5
    assert set(visited) <= set(FLOORS) and visited[0] == "cli" and visited[-1] == "model"
