"""The files that describe the project to its hosts: what they name exists."""

from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parent.parent


def read_yaml(path: Path) -> Any:
    return yaml.load(path.read_text(encoding="utf-8"), yaml.BaseLoader)  # BaseLoader leaves `on:` a string


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
