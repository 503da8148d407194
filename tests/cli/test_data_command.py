"""`gencompositor data`: output, errors and exit codes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from gencompositor_jax.cli import main
from tests.data_pipelines.videocomp_folder import copy, cut_short, make_folder

SIZE = ["--frames=9", "--height=64", "--width=96", "--workers=0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_folder(tmp_path_factory.mktemp("videocomp") / "data", range(3), frames=30)


def test_check_reports_a_complete_folder(folder, capsys):
    assert main(["data", "check", str(folder), "--frames=9"]) == 0
    assert "3, of which 3 are usable" in capsys.readouterr().out


def test_check_fails_with_the_list(folder, tmp_path, capsys):
    spoilt = copy(folder, tmp_path / "spoilt")
    (spoilt / "filtered_mask" / "1.mp4").unlink()
    assert main(["data", "check", str(spoilt), "--frames=9", "--json"]) == 2
    said = capsys.readouterr()
    assert json.loads(said.out)["problems"] == [
        {"kind": "missing file", "file": "filtered_mask/1.mp4", "problem": "no such file"}
    ]
    assert said.err.strip().endswith("1 problems, see the report")


def test_check_fails_if_no_row_is_usable(folder, capsys):
    assert main(["data", "check", str(folder)]) == 2  # too few for 49 frames at 8 fps
    said = capsys.readouterr()
    assert "3 have less than 49 frames" in said.out and "no row of data.csv is usable" in said.err


@pytest.mark.parametrize("format", ["arrayrecord", "tfds"])
def test_build_reports_broken_inputs_and_the_next_command(folder, tmp_path, capsys, format):
    spoilt = copy(folder, tmp_path / "spoilt")
    cut_short(spoilt / "GTs" / "1.mp4")
    words = ["data", "build", str(spoilt), f"--out={tmp_path / 'set'}", f"--format={format}", *SIZE]
    assert main([*words, "--max-broken=0.5"]) == 0
    said = capsys.readouterr().out
    assert "left out: 1.mp4@0: " in said and "GTs/1.mp4" in said and "2 clips, 1 broken" in said
    config = dict(word.split("=") for word in said.split() if word.startswith("--config"))
    assert config["--config.data.source"] == format

    import ml_collections

    from gencompositor_jax.arch import ModelArch
    from gencompositor_jax.data_pipelines.sources import open_source

    named = ml_collections.ConfigDict({"source": format, "path": config["--config.data.path"]})
    assert len(open_source(named, ModelArch(frames=9, height=64, width=96))) == 2


def test_without_tensorflow_datasets_the_extra_is_named(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.delitem(sys.modules, "gencompositor_jax.data_pipelines.tfds_builder", raising=False)
    monkeypatch.setitem(sys.modules, "tensorflow_datasets", None)
    assert main(["data", "build", str(folder), f"--out={tmp_path / 'set'}", "--format=tfds", *SIZE]) == 2
    error = capsys.readouterr().err
    assert "gencompositor-jax[tfds]" in error and error.count("\n") == 1
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], "ACTION"),
        (["build"], "SOURCE"),
        (["build", "nowhere", "--out=set"], "nowhere: no such folder"),
        (["build", "nowhere", "--out=set", "--format=hdf5"], "--format"),
        (["build", "nowhere", "--out=set", "--height=0"], "--height 0"),
        (["check", "nowhere"], "nowhere: no such folder"),
        (["check", "nowhere", "--frames=few"], "--frames"),
    ],
)
def test_bad_arguments(words, says, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["data", *words]) == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1 and says in said.err and not list(tmp_path.iterdir())


def test_it_needs_no_jax(folder, tmp_path):
    code = (
        "import sys; from gencompositor_jax.cli import main; "
        f"code = main(['data', 'check', {str(folder)!r}, '--frames=9']) "
        f"or main(['data', 'build', {str(folder)!r}, '--out', {str(tmp_path / 'set')!r}, *{SIZE!r}]); "
        "assert 'jax' not in sys.modules; sys.exit(code)"
    )
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.returncode == 0, done.stderr
    assert "3 clips, 0 broken inputs left out" in done.stdout
