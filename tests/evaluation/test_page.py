"""The HTML page: everything in one file, and the clips that it shows."""

import dataclasses
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from gencompositor_jax import cli
from gencompositor_jax.data_pipelines import benchmark, benchmark_files
from gencompositor_jax.evaluation import page, scoring
from gencompositor_jax.evaluation.results import ResultsOptions


class Parser(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: dict[str, int] = {}

    def handle_starttag(self, tag, attrs):
        self.seen[tag] = self.seen.get(tag, 0) + 1
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmark") / "reference"
    benchmark_files.write(folder, "hyoutube", clips=3)
    return folder


def test_the_page_has_tables_and_players_and_needs_no_other_file(reference, tmp_path):
    out = tmp_path / "report.html"
    words = ["evaluate", "--protocol", "procedural", "--reference", str(reference), "--page", str(out)]
    given = [f"a<b={reference / 'Composite'}", f"truth={reference / 'Ground-truth'}"]
    assert (
        cli.main([*words, "--results", given[0], "--results", given[1], "--metrics", "fmse,target_psnr"]) == 0
    )
    text = out.read_text()
    parser = Parser()
    parser.feed(text)
    assert parser.open == []
    # Methods, differences, and a table per subset; worst, median and best of four videos each.
    assert parser.seen["table"] == 2 + len(benchmark.IDEAS) and parser.seen["video"] == 12
    assert "a&lt;b" in text and "a<b" not in text
    assert all(source.startswith("data:") for source in re.findall(r"src='([^']*)'", text))
    assert "://" not in re.sub(r"src='[^']*'", "", text)
    assert cli.main([*words, "--results", given[0]]) == 2  # exists


def test_clips_are_ranked_from_worst_to_best(reference):
    options = ResultsOptions(
        "procedural", (("paste", reference / "Composite"),), reference, metrics=("target_psnr",)
    )
    report = scoring.score(options)
    values = {name: row["target_psnr"] for name, row in report["clips"]["paste"].items()}
    chosen = list(page.picked(report).values())
    assert [values[name] for name in chosen] == sorted(values.values())
    report["columns"]["target_psnr"]["better"] = "lower"
    assert list(page.picked(report).values()) == chosen[::-1]
    without = scoring.score(dataclasses.replace(options, metrics=("clip_similarity",)))  # and no weights
    assert page.picked(without) == {} and "--weights clip=PATH" in page.document(without, {})
