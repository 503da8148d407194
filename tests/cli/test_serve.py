"""`gencompositor serve`, up to where it would listen."""

import pytest

from gencompositor_jax.cli import main, parse, serve
from gencompositor_jax.jobs.limits import Limits

pytest.importorskip("fastapi")


def test_limits_come_from_the_command_line():
    args = parse(["serve", "--max-queue", "7", "--keep-hours", "0.5", "--max-upload-mib=3"])
    assert serve.limits_of(args) == Limits(queue=7, keep_hours=0.5, upload_mib=3)
    assert serve.limits_of(parse(["serve"])) == Limits()
    assert {field for _, field, *_ in serve.LIMITS} == set(Limits.__dataclass_fields__)


@pytest.mark.parametrize(
    ("options", "names"),
    [
        (["--max-queue", "0"], "--max-queue: 0 must be at least 1"),
        (["--keep-hours", "0"], "--keep-hours: 0 must be above 0"),
        (["--host", "0.0.0.0"], "--token-file"),
        (["--host", "::"], "--token-file"),
        (["--host", "studio.example"], "--token-file"),
        (["--host", "127.0.0.1", "--port", "99999"], "--port 99999"),
        (["--port", "-1"], "--port -1: pass 0 to 65535"),
        (["--root", "missing"], "--root missing"),
        (["--port", "0", "--folder", "short/service"], "short/service: Not a directory"),
        (["--checkpoint", "missing"], "missing: no such folder"),
        (["--token-file", "missing"], "missing"),
        (["--token-file", "short"], "16 characters"),
    ],
)
def test_what_can_t_be_served_is_refused_in_one_line(options, names, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short").write_text("secret\n")
    assert main(["serve", *options]) == 2
    said = capsys.readouterr().err
    assert names in said and said.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["short"]


def test_the_token_is_in_a_file_or_the_environment(tmp_path, monkeypatch):
    assert serve.token_of(None) is None
    monkeypatch.setenv(serve.TOKEN, "0123456789abcdef")
    assert serve.token_of(None) == "0123456789abcdef"
    (tmp_path / "token").write_text("fedcba9876543210\n")
    assert serve.token_of(str(tmp_path / "token")) == "fedcba9876543210"
