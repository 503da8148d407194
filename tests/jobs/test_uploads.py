import errno
import hashlib
import shutil
from pathlib import Path

import pytest

from gencompositor_jax.errors import InputError
from gencompositor_jax.jobs.inputs import Inputs
from gencompositor_jax.jobs.uploads import DiskFull, TooLarge, Uploads


def test_files_are_written_as_they_arrive_and_removed_with_the_submission(tmp_path):
    with Uploads(tmp_path, 100) as uploads:
        for name in ("street.mp4", "bird (2).mov"):
            uploads.begin(name)
            uploads.write(b"abc")
            uploads.write(b"def")
            uploads.end()
        assert (uploads.folder / "street.mp4").read_bytes() == b"abcdef"
        assert uploads.digests["bird (2).mov"] == hashlib.sha256(b"abcdef").hexdigest()
        assert uploads.size == 12
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "name",
    [
        "../x",
        "a/b",
        "a\\b",
        "/etc/passwd",
        ".hidden",
        "..",
        "",
        "x" * 101,
        "a\nb",
        "a\0",
        "end.",
        "a:b",
        "é\u202e",
    ],
)
def test_names_are_plain(tmp_path, name):
    with Uploads(tmp_path, 100) as uploads, pytest.raises(InputError, match="file name"):
        uploads.begin(name)
    assert not list(tmp_path.iterdir())


def test_names_whose_accents_are_sent_apart_and_marks_of_letters(tmp_path):
    with Uploads(tmp_path, 100) as uploads:
        for name, stored in (("cafe\u0301.mp4", "caf\u00e9.mp4"), ("\u0915\u0940.mp4", "\u0915\u0940.mp4")):
            uploads.begin(name)
            uploads.write(b"1")
            uploads.end()
            assert (uploads.folder / stored).is_file() and stored in uploads.digests
            assert Inputs(None, uploads.folder)(f"upload:{name}") == str((uploads.folder / stored).resolve())
        with pytest.raises(InputError, match="sent twice"):
            uploads.begin("caf\u00e9.mp4")


def test_all_files_together_have_a_limit(tmp_path):
    with Uploads(tmp_path, 10) as uploads:
        uploads.begin("a")
        uploads.write(b"123456")
        uploads.end()
        uploads.begin("b")
        uploads.write(b"1234")
        with pytest.raises(TooLarge):
            uploads.write(b"5")
        with pytest.raises(TooLarge):
            uploads.reserve(11)
        assert (uploads.folder / "b").stat().st_size == 4


def test_twice_the_same_name_too_many_and_empty_files_are_refused(tmp_path):
    with Uploads(tmp_path, 10, most=1) as uploads:
        uploads.begin("a")
        with pytest.raises(InputError, match="empty"):
            uploads.end()
        uploads.write(b"1")
        uploads.end()
        with pytest.raises(InputError, match="twice"):
            uploads.begin("a")
        with pytest.raises(InputError, match="more than 1"):
            uploads.begin("b")


def test_a_full_disk_is_one_clear_error(tmp_path, monkeypatch):
    with Uploads(tmp_path, 10**12) as uploads:
        uploads.begin("a")
        with pytest.raises(DiskFull, match="disk is full"):
            uploads.reserve(2 * shutil.disk_usage(tmp_path).free // 1 or 1)
        with monkeypatch.context() as patch:
            patch.setattr(Path, "open", lambda *_, **__: _fail())
            with pytest.raises(DiskFull, match="disk is full"):
                uploads.write(b"1")
    assert not list(tmp_path.iterdir())


def _fail():
    raise OSError(errno.ENOSPC, "No space left on device")
