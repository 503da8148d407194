"""Atomic writes: complete or absent, whatever happens to the writer."""

import codecs
import errno
import os
import signal
import subprocess
import sys
from collections import namedtuple
from pathlib import Path

import pytest

from gencompositor_jax import files
from gencompositor_jax.errors import InputError
from gencompositor_jax.files import atomic_folder, atomic_write, atomic_write_text

WRITER = """
import sys, time
from gencompositor_jax.files import atomic_folder, atomic_write
write = atomic_folder if sys.argv[2] == "folder" else atomic_write
with write(sys.argv[1]) as part:
    (part / "a" if sys.argv[2] == "folder" else part).touch()
    print("writing", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir])
@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, InputError])
def test_after_an_error_nothing_is_left(tmp_path, make, error):
    with pytest.raises(error), atomic_write(tmp_path / "a") as part:
        make(part)
        assert part.parent == tmp_path  # a rename works within one file system only
        raise error
    assert not os.listdir(tmp_path)


def test_a_file_and_a_folder_replace_each_other(tmp_path):
    target = tmp_path / "a"
    for _ in range(2):
        with atomic_folder(target, overwrite=True) as part:
            (part / "inside").touch()
        assert os.listdir(target) == ["inside"]
    with pytest.raises(InputError, match=r"a: can't be written \(Is a directory\)"):
        atomic_write_text(target, "text")
    assert os.listdir(target) == ["inside"]
    atomic_write_text(tmp_path / "b", "first")
    atomic_write_text(tmp_path / "b", "second")
    assert (tmp_path / "b").read_text() == "second"
    with atomic_folder(tmp_path / "b", overwrite=True):
        pass
    assert (tmp_path / "b").is_dir()
    assert sorted(os.listdir(tmp_path)) == ["a", "b"]


def test_nothing_is_replaced_without_overwrite(tmp_path):
    (tmp_path / "a").symlink_to("nowhere")
    for write in (atomic_write, atomic_folder):
        with pytest.raises(InputError, match="a: exists: pass --overwrite"), write(tmp_path / "a"):
            pytest.fail("the block was run")


def test_parents_are_created_for_a_folder_but_not_for_a_file(tmp_path):
    with atomic_folder(tmp_path / "x" / "y"):
        pass
    assert (tmp_path / "x" / "y").is_dir()
    with pytest.raises(InputError, match=r"y: can't be written \(No such file or directory\)"):
        atomic_write_text(tmp_path / "z" / "y", "text")


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (
            OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)),
            r"a: the disk is full \(No space left on device\)",
        ),
        (OSError(errno.EIO, os.strerror(errno.EIO)), r"a: can't be written \(Input/output error\)"),
        (ValueError("writing d/1: No space left on device [os_error_code=28]"), "a: the disk is full"),
    ],
)
def test_errors_of_the_operating_system_name_the_path(tmp_path, error, message):
    with pytest.raises(InputError, match=message), atomic_write(tmp_path / "a"):
        raise error


@pytest.mark.multiprocess
@pytest.mark.parametrize("kind", ["file", "folder"])
def test_leftovers_of_killed_writers_are_removed_and_those_of_running_ones_kept(tmp_path, kind):
    target = tmp_path / "a"
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, str(target), kind], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    try:
        for writer in writers:
            assert writer.stdout.readline() == b"writing\n"
        assert len(os.listdir(tmp_path)) == 2
        writers[0].send_signal(signal.SIGKILL)
        writers[0].wait()
        with (atomic_folder if kind == "folder" else atomic_write)(target) as part:
            if kind == "file":
                part.touch()
        assert target.exists() and len(os.listdir(tmp_path)) == 2
        assert f"-{writers[1].pid}.part" in "".join(os.listdir(tmp_path))
    finally:
        for writer in writers:
            writer.kill()
            writer.wait()
            writer.stdout.close()


def test_leftovers_of_other_hosts_and_other_paths_are_kept(tmp_path, monkeypatch):
    dead = 2**22 + 1  # above the largest process id of Linux
    kept = [f".a.deadbeef-{dead}.part", f".ab.{files._host()}-{dead}.part", f".a.{files._host()}-x.part"]
    for name in [*kept, f".a.{files._host()}-{dead}.part", f".a.{files._host()}-{os.getpid()}.old"]:
        (tmp_path / name).touch()
    atomic_write_text(tmp_path / "a", "text")
    assert sorted(os.listdir(tmp_path)) == sorted([*kept, "a"])


def test_space_is_checked_on_the_disk_of_a_path_that_does_not_exist(tmp_path, monkeypatch):
    usage, asked = namedtuple("usage", "free"), []
    monkeypatch.setattr(files.shutil, "disk_usage", lambda path: asked.append(path) or usage(10**9))
    files.check_space(tmp_path / "x" / "y", 9 * 10**8)
    with pytest.raises(InputError, match=r"y: 1\.1 GB needed, 1\.0 GB free"):
        files.check_space(tmp_path / "x" / "y", 10**9)
    assert asked == [tmp_path, tmp_path]


def test_a_writer_killed_between_its_renames_loses_nothing(tmp_path):
    """The next writer restores the target first, so that it is there even if that writer fails."""
    dead = 2**22 + 1
    old = tmp_path / f".a.{files._host()}-{dead}.old"
    old.mkdir()
    (old / "1").write_text("kept")
    with pytest.raises(InputError, match="can't be written"), atomic_folder(tmp_path / "a", overwrite=True):
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    assert (tmp_path / "a" / "1").read_text() == "kept" and os.listdir(tmp_path) == ["a"]


@pytest.mark.parametrize("kind", ["fifo", "device", "folder", "missing", "loop", "link to a device"])
def test_only_regular_files_are_opened(tmp_path, kind):
    path = tmp_path / "x"
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind != "missing":
        path.symlink_to(path if kind == "loop" else "/dev/zero")
    for read in (files.open_regular, files.check_regular, files.read_text, files.read_json):
        with pytest.raises(InputError, match="not a regular file|no such file|can't be opened"):
            read(path)
    if kind in ("fifo", "link to a device"):
        with pytest.raises(InputError, match="x: is a device, pipe or socket"):
            files.check_regular_below(tmp_path)


def test_the_limit_holds_while_a_file_is_read(tmp_path):
    (tmp_path / "x").write_bytes(b"1" * 11)
    assert files.read_bytes(tmp_path / "x", 11) == b"1" * 11
    with pytest.raises(InputError, match="11 bytes, where a text of at most 10"):
        files.read_bytes(tmp_path / "x", 10)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Größe".encode("utf-16"), "is UTF-16 or UTF-32 text: save it as UTF-8"),
        ("Größe".encode("utf-32"), "is UTF-16 or UTF-32 text: save it as UTF-8"),
        (codecs.BOM_UTF32_BE + "Größe".encode("utf-32-be"), "is UTF-16 or UTF-32 text: save it as UTF-8"),
        (b"a\xe4b", "not UTF-8 text .byte 1"),
    ],
)
def test_text_in_another_encoding_is_refused_with_the_remedy(tmp_path, content, message):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(InputError, match=message):
        files.read_text(tmp_path / "x")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[1,", "f: line 1, column 4"),
        ("[NaN]", "f: NaN is not a number"),
        ('{"a": 1, "b": 2, "a": 3}', "f: field 'a' stands twice"),
        ("[" * 100_000, "f: nested too deeply"),
        ("9" * 5000, "f: "),
        (b"\xff\xfe", "f: "),
    ],
)
def test_json_that_is_refused(text, message):
    with pytest.raises(InputError, match=f"^{message}"):
        files.parse_json(text, "f")


@pytest.mark.parametrize(
    "path", ["gs://bucket/run", "s3://x", "gs:/bucket", "http://host/a.mp4", "a\0b", "  "]
)
def test_what_no_local_file_is_called(path):
    for check in (files.check_local, lambda p: files.check_new_folder(Path(p), False, "model.json")):
        with pytest.raises(InputError, match="is an address|is not the name"):
            check(path)
    files.check_local("C:/clips/a.mp4")
    files.check_local("a:b.mp4")


def test_what_another_run_has_written_meanwhile_stays(tmp_path):
    target = tmp_path / "a"
    with pytest.raises(InputError, match="a: exists"), atomic_write(target) as part:
        part.write_text("mine")
        target.write_text("another's")
    assert target.read_text() == "another's" and [path.name for path in tmp_path.iterdir()] == ["a"]


def test_only_folders_of_the_same_kind_are_overwritten(tmp_path):
    clips, empty, file = tmp_path / "clips", tmp_path / "empty", tmp_path / "street.mp4"
    clips.mkdir()
    empty.mkdir()
    file.touch()
    (clips / "street.mp4").touch()
    for path in (clips, file):
        with pytest.raises(InputError, match=r"has no model\.json"):
            files.check_new_folder(path, True, "model.json")
    (clips / "model.json").touch()
    for path in (clips, empty, tmp_path / "new"):
        files.check_new_folder(path, True, "model.json")
