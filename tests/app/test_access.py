"""Who may use the studio, what its pages may load, and where it keeps its files."""

import fcntl
import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from gencompositor_jax.app import folder as folders
from gencompositor_jax.app.access import COOKIE, HEADERS
from gencompositor_jax.app.folder import PREFIX, studio_folder
from gencompositor_jax.cli import main
from gencompositor_jax.errors import InputError
from gencompositor_jax.jobs.limits import Limits
from tests.app.conftest import serving

TOKEN = "0123456789abcdef"


@pytest.mark.parametrize(
    "path", ["/", "/app/state", "/app/clips", "/static/none.js", "/nowhere", "/app/clips/x"]
)
def test_every_answer_has_the_security_headers(studio, path):
    answer = studio("GET", path)
    assert {name: answer.headers.get(name.lower()) for name in HEADERS} == HEADERS
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    if path.startswith(("/app", "/nowhere")) and answer.status >= 400:
        assert answer.json["detail"]


def test_other_pages_are_refused(studio):
    host = "{}:{}".format(*studio.address)
    mine, other = {"Origin": f"http://{host}"}, {"Origin": "http://localhost:3000"}
    assert studio.post("/app/project/check", {}, mine).status == 422
    for headers in (
        other,
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://["},
        {"Host": "evil.example"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
    ):
        refused = studio.post("/app/project/check", {}, headers)
        assert refused.status == 403 and refused.json["detail"].split(":")[0] in ("Origin", "Host"), headers
    link = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert studio("GET", "/", headers=link).status == 200  # a link may lead here
    plain = {"Content-Type": "text/plain"}  # what a form of another page can send
    assert studio("POST", "/app/project/check", b"{}", plain).status == 415


def test_static_files_are_revalidated_and_nothing_else_is_read(studio):
    page = studio("GET", "/")
    assert page.status == 200 and page.headers["content-type"].startswith("text/html")
    assert page.headers["cache-control"] == "no-cache"
    again = studio("GET", "/", headers={"If-None-Match": page.headers["etag"]})
    assert again.status == 304 and not again.body
    script = studio("GET", "/static/js/main.js", headers={"Accept-Encoding": "gzip"})
    assert script.headers["content-encoding"] == "gzip" and "javascript" in script.headers["content-type"]
    (studio.folder / "secret.txt").write_text("secret")
    for path in (
        "/static/../studio.py",
        "/static/..%2fstudio.py",
        "/static/%2e%2e/studio.py",
        "/static//etc/passwd",
        "/static/%00",
        f"/static/{studio.folder}/secret.txt",
        "/docs",
        "/openapi.json",
    ):
        assert studio("GET", path).status in (400, 404), path


def test_a_token_is_kept_in_a_cookie_that_scripts_can_not_read(tmp_path):
    with serving(tmp_path, Limits(), TOKEN) as studio:
        studio.headers.clear()
        state = studio("GET", "/app/state").json
        assert state["needs_token"] and not state["signed_in"] and studio("GET", "/").status == 200
        for path in ("/app/clips", "/app/model", "/v1/jobs", "/app/clips/x/frames/0"):
            assert studio("GET", path).status == 401
        assert studio.post("/app/login", {"token": "wrong"}).status == 401
        assert studio.post("/app/login", {"token": "wröng"}).status == 401
        assert studio.post("/app/login", {"tok": 1}).status == 422
        signed = studio.post("/app/login", {"token": TOKEN})
        cookie = signed.headers["set-cookie"]
        assert signed.status == 204 and "HttpOnly" in cookie and "SameSite=strict" in cookie
        assert cookie.startswith(f"{COOKIE}={TOKEN}")
        studio.headers["Cookie"] = f"{COOKIE}={TOKEN}"
        assert studio("GET", "/app/clips").json == [] and studio("GET", "/app/state").json["signed_in"]
        studio.headers["Cookie"] = f"{COOKIE}=other"
        assert studio("GET", "/app/clips").status == 401
        assert studio.post("/app/logout", {}).status == 204


def test_a_private_folder_is_removed_at_the_end_and_after_a_kill(tmp_path, monkeypatch):
    monkeypatch.setattr(folders.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(folders.tempfile, "tempdir", str(tmp_path))
    killed = tmp_path / f"{PREFIX}killed"
    killed.mkdir()
    (killed / "lock").touch()
    (tmp_path / f"{PREFIX}file").touch()
    living = tmp_path / f"{PREFIX}living"
    living.mkdir()
    lock = (living / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    with studio_folder(None) as made:
        assert made.parent == tmp_path.resolve() and stat.S_IMODE(made.stat().st_mode) == 0o700
        assert not killed.exists() and (tmp_path / f"{PREFIX}file").exists() and living.exists()
        (made / "clips").mkdir()
    lock.close()
    assert not made.exists()
    with studio_folder(str(tmp_path / "kept")) as made:
        assert stat.S_IMODE(os.stat(made).st_mode) == 0o700
    assert made.is_dir()
    with pytest.raises(InputError, match="--folder"), studio_folder(f"{tmp_path}/{PREFIX}file/x"):
        pass


def test_clips_and_runs_outlive_the_process_in_a_kept_folder(tmp_path, street):
    with serving(tmp_path, Limits()) as studio:
        clip = studio.upload(("street.mp4", street)).json
    with serving(tmp_path, Limits()) as studio:
        assert studio("GET", "/app/clips").json == [clip]
    rows = json.loads((tmp_path / "clips.json").read_text())
    (tmp_path / "clips" / "street.mp4").unlink()
    with serving(tmp_path, Limits()) as studio:
        assert rows and studio("GET", "/app/clips").json == []


def test_the_first_page_needs_neither_jax_nor_scipy(tmp_path):
    """They take longer to import than all else."""
    made = "studio.create_app(studio.make_studio(Path(sys.argv[1]), Limits(), Models()), None)"
    check = f"""
import sys
from pathlib import Path
from gencompositor_jax.app import studio
from gencompositor_jax.jobs.limits import Limits
from gencompositor_jax.jobs.models import Models
{made}
print({{"jax", "flax", "orbax", "tensorstore", "grain", "scipy"}} & set(sys.modules))
"""
    words = [sys.executable, "-c", check, str(tmp_path / "studio")]
    (tmp_path / "studio").mkdir()
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_other_hosts_need_a_token(capsys, monkeypatch):
    monkeypatch.delenv("GENCOMPOSITOR_TOKEN", raising=False)
    assert main(["app", "--host", "0.0.0.0"]) == 2
    assert "--token-file" in capsys.readouterr().err
    assert main(["app", "--port", "99999"]) == 2
    assert "--port" in capsys.readouterr().err


def test_old_clips_are_swept(tmp_path, street, monkeypatch):
    from gencompositor_jax.app import context

    with serving(tmp_path, Limits(keep_hours=1)) as studio:
        studio.upload(("street.mp4", street))
        app = studio.studio
        app.sweep()
        assert len(app.clips.all()) == 1
        now = context.time.time()
        monkeypatch.setattr(context.time, "time", lambda: now + 3700)
        app.sweep()
        assert app.clips.all() == [] and not list(Path(tmp_path, "clips").iterdir())
