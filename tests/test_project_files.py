"""The files that describe the project to its hosts: what they name exists, and versions agree."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

import gencompositor_jax
from tests.test_house import FLOORS, modules, room_of

ROOT = Path(__file__).parent.parent
MAKEFILE = (ROOT / "Makefile").read_text()
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def read_yaml(path: Path) -> Any:
    return yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)  # BaseLoader leaves `on:` a string


def steps(workflow: Path) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(job, step) of every step."""
    return [(job, step) for job in read_yaml(workflow)["jobs"].values() for step in job["steps"]]


def with_matrix(text: str, job: dict[str, Any]) -> list[str]:
    """A command with each value of the matrix keys that it uses."""
    for key, values in job.get("strategy", {}).get("matrix", {}).items():
        variable = "${{ matrix." + key + " }}"
        if variable in text:
            return [text.replace(variable, value) for value in values]
    return [text]


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_run_make_targets_that_exist(workflow):
    targets = set(re.findall(r"^([a-z][\w-]*):", MAKEFILE, flags=re.MULTILINE))
    commands = [c for job, step in steps(workflow) for c in with_matrix(step.get("run", ""), job) if c]
    assert commands
    for command in commands:
        words = command.split()
        assert words[0] == "make", f"{command!r}: run a make target, so that it can be run locally"
        assert set(words[1:]) <= targets


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_workflows_are_pinned_and_may_only_read(workflow):
    read = read_yaml(workflow)
    assert read["permissions"] == {"contents": "read"}
    assert read["concurrency"]["cancel-in-progress"] == "true"
    for _, step in steps(workflow):
        assert "uses" not in step or re.fullmatch(r"[\w/-]+@[0-9a-f]{40}", step["uses"])
    assert all("timeout-minutes" in job for job in read["jobs"].values())


def test_the_tested_versions_are_those_of_the_constraints():
    matrix = read_yaml(ROOT / ".github" / "workflows" / "ci.yml")["jobs"]["test"]["strategy"]["matrix"]
    pins = re.findall(
        r"^jax==(\d+\.\d+)\.\d+; python_version (<|>=) '3\.12'$",
        (ROOT / "constraints.txt").read_text(),
        flags=re.MULTILINE,
    )
    assert pins == [(row["jax"], "<" if row["python"] == "3.11" else ">=") for row in matrix["include"]]


def test_citation_and_changelog_have_the_version():
    version = gencompositor_jax.__version__
    assert read_yaml(ROOT / "CITATION.cff")["version"] == version
    headings = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert headings[:2] == ["Unreleased", version]


def test_citation_names_the_paper_of_the_readme():
    (paper,) = read_yaml(ROOT / "CITATION.cff")["references"]
    readme = (ROOT / "README.md").read_text(encoding="utf-8").replace("\n", " ")
    assert paper["title"] in readme and paper["url"] in readme


def test_forms_have_unique_ids_and_labels():
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert len(forms) == 2
    for form in forms:
        fields = read_yaml(form)["body"]
        assert len({field["id"] for field in fields}) == len(fields)
        assert all(field["attributes"]["label"] for field in fields)


def test_local_hooks_run_tools_that_make_installs():
    hooks = [hook for repo in read_yaml(ROOT / ".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    local = [hook["entry"].split()[0] for hook in hooks if "entry" in hook]
    assert set(local) == {".venv/bin/ruff", ".venv/bin/mypy"}


def test_contributing_has_the_floors_that_are_checked():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \|", text, flags=re.MULTILINE)
    listed = {room: int(floor) for floor, rooms in rows for room in re.findall(r"`(\w+)`", rooms)}
    rooms = {room_of(name).split(".")[0] for name, _ in modules()} - {"", "__main__"}
    assert listed == {room: FLOORS[room] for room in rooms}, "update the table in CONTRIBUTING.md"


@pytest.mark.parametrize(
    ("source", "comment"),
    [
        ("a: int = 1  # metres\n", "metres"),
        ("# the height\n# in metres\na: int = 1\n", "the height in metres"),
        ("# of all\n\na: int = 1\n", ""),
        ("a = (  # no\n    1,\n)  # yes\n", "yes"),
        ("a = '# no'\n", ""),
        ("a = 1  # type: ignore[misc]\n", ""),
    ],
)
def test_api_pages_document_fields_by_their_comments(source, comment):
    pytest.importorskip("griffe", reason="comes with the extra docs")
    from docs.griffe_extensions import comment_of

    lines = source.splitlines()
    first = next(number for number, line in enumerate(lines, 1) if line.startswith("a"))
    assert comment_of(lines, first, len(lines)) == comment


def test_api_pages_give_each_grouped_parameter_a_row():
    pytest.importorskip("griffe", reason="comes with the extra docs")
    from docs.griffe_extensions import ungrouped

    docstring = """Reads.

    Args:
        path: a file, or a folder: of images.
        start, end: seconds; None is
            the whole.
        size: in pixels.
    """
    rows = docstring.replace(
        "        start, end: seconds; None is\n            the whole.\n",
        "        start: seconds; None is\n            the whole.\n"
        "        end: seconds; None is\n            the whole.\n",
    )
    assert ungrouped(docstring) == rows
