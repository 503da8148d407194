"""Damage to a checkpoint on disk is found, whatever was hit."""

import contextlib
import io
import json
import shutil

import numpy as np
import orbax.checkpoint as ocp
import pytest

from gencompositor_jax import checkpoints
from gencompositor_jax.checkpoints import manifest
from gencompositor_jax.cli import main
from gencompositor_jax.errors import InputError


@pytest.fixture
def folder(small_checkpoint, tmp_path):
    return shutil.copytree(small_checkpoint, tmp_path / "checkpoint")


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_any_of_fifty_flipped_bytes_is_caught(folder):
    """Bytes anywhere, each file's share as large as the file, and one byte in every file besides."""
    rng = np.random.default_rng(0)
    files = files_of(folder)
    sizes = np.array([path.stat().st_size for path in files])
    chosen = [(int(i), None) for i in rng.choice(len(files), 50, p=sizes / sizes.sum())]
    chosen += [(i, None) for i in range(len(files)) if sizes[i]]
    manifest.verify(folder, manifest.read(folder))
    for i, _ in chosen:
        sound = files[i].read_bytes()
        damaged = bytearray(sound)
        damaged[rng.integers(len(sound))] ^= int(rng.integers(1, 256))
        files[i].write_bytes(damaged)
        with pytest.raises(InputError, match="damaged|not readable|format|arch"):
            manifest.verify(folder, manifest.read(folder))
        files[i].write_bytes(sound)
    manifest.verify(folder, manifest.read(folder))


def test_inspect_and_load_say_which_file_is_damaged(folder, capsys):
    file = max(files_of(folder / "arrays"), key=lambda path: path.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert main(["inspect", str(folder), "--verify"]) == 2
    assert file.name in capsys.readouterr().err
    with pytest.raises(InputError, match=file.name):
        checkpoints.load(folder)


def test_missing_truncated_and_strange_files_are_listed(folder, capsys):
    first, second, *_ = [path for path in files_of(folder / "arrays") if path.stat().st_size > 100]
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])
    (folder / "arrays" / "strange").touch()
    assert main(["inspect", str(folder)]) == 2  # found without reading anything
    said = capsys.readouterr().err
    assert f"{first.name} is missing" in said and "strange is not in the manifest" in said
    assert f"{second.name} has" in said


def test_large_checkpoints_are_compared_in_sizes_and_small_files(folder, monkeypatch):
    monkeypatch.setattr(manifest, "SMALL_FOLDER", 0)
    monkeypatch.setattr(manifest, "SMALL_FILE", 2000)
    files = [path for path in files_of(folder) if path.name != manifest.NAME]
    for file in files:
        data = bytearray(file.read_bytes())
        data[-1] ^= 1
        sound = file.read_bytes()
        file.write_bytes(data)
        expectation = (
            pytest.raises(InputError, match="damaged") if len(data) <= 2000 else contextlib.nullcontext()
        )
        with expectation:
            manifest.quick_verify(folder, manifest.read(folder))
        file.write_bytes(sound)


def test_checkpoints_without_a_manifest_load_but_cannot_be_verified(folder, capsys):
    (folder / manifest.NAME).unlink()
    checkpoints.load(folder)
    assert main(["inspect", str(folder)]) == 0
    assert "no manifest" in capsys.readouterr().out
    assert main(["inspect", str(folder), "--verify"]) == 2
    with pytest.raises(InputError, match="has no manifest"):
        checkpoints.load(folder, verify=True)


def test_type_shape_missing_and_extra_array_are_four_errors(small_model, folder):
    """An array replaced by another, all hashes right."""
    (written := manifest.read(folder)) or pytest.fail("no manifest")
    sound = small_model.arrays

    def rewritten(**changes):
        shutil.rmtree(folder / "arrays")
        with ocp.PyTreeCheckpointer() as checkpointer:
            checkpointer.save((folder / "arrays").resolve(), sound | changes)
        manifest.write(folder, written.arrays)

    null = np.asarray(sound["null_text"])
    said = {}
    for what, changes in {
        "dtype": {"null_text": null.astype(np.float16)},
        "shape": {"null_text": null[:, :-1]},
        "extra": {"other": null},
    }.items():
        rewritten(**changes)
        with pytest.raises(InputError) as error:
            checkpoints.load(folder)
        said[what] = str(error.value)
    sound = {name: tree for name, tree in sound.items() if name != "null_text"}
    rewritten()
    with pytest.raises(InputError) as error:
        checkpoints.load(folder)
    said["missing"] = str(error.value)
    assert "null_text is of type float16, not float32" in said["dtype"]
    assert "null_text is (1, 15), not (1, 16)" in said["shape"]
    assert "unexpected other (1, 16)" in said["extra"]
    assert "missing null_text (1, 16)" in said["missing"]


def test_inspect_says_what_a_checkpoint_is(folder):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(["inspect", str(folder), "--verify", "--json"]) == 0
    said = json.loads(out.getvalue())
    model = checkpoints.load(folder)
    assert said["architecture"]["frames"] == model.arch.frames
    assert sum(said["parameters"].values()) == sum(
        array.size for array in checkpoints.named_leaves(model.arrays).values()
    )
    assert said["dtypes"] == ["float32"] and said["state"].startswith("verified")
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(["inspect", str(folder)]) == 0
    assert "not verified" in out.getvalue() and "backbone" in out.getvalue()
