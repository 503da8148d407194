"""Any corruption of a checkpoint on disk is detected."""

import contextlib
import io
import json
import shutil

import numpy as np
import orbax.checkpoint as ocp
import pytest

from gencompositor_jax import checkpoints
from gencompositor_jax.checkpoints import format, manifest
from gencompositor_jax.cli import main
from gencompositor_jax.errors import InputError


@pytest.fixture
def folder(small_checkpoint, tmp_path):
    return shutil.copytree(small_checkpoint, tmp_path / "checkpoint")


def files_of(folder):
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_each_of_fifty_changed_bytes_is_detected(folder):
    """Files are drawn by their size; one byte of every file is changed as well."""
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


def test_inspect_and_load_name_the_damaged_file(folder, capsys):
    file = max(files_of(folder / "arrays"), key=lambda path: path.stat().st_size)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert main(["inspect", str(folder), "--verify"]) == 2
    assert file.name in capsys.readouterr().err
    with pytest.raises(InputError, match=file.name):
        checkpoints.load(folder)


def test_missing_truncated_and_unexpected_files_are_listed(folder, capsys):
    first, second, *_ = [path for path in files_of(folder / "arrays") if path.stat().st_size > 100]
    first.unlink()
    second.write_bytes(second.read_bytes()[:-1])
    (folder / "arrays" / "unexpected").touch()
    assert main(["inspect", str(folder)]) == 2  # without reading their contents
    error = capsys.readouterr().err
    assert f"{first.name} is missing" in error and "unexpected is not in the manifest" in error
    assert f"{second.name} has" in error


def test_only_the_small_files_of_large_checkpoints_are_hashed(folder, monkeypatch):
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


def test_sizes_are_compared_before_any_shape_is_computed(folder, monkeypatch):
    """Of a stated size, computing shapes would allocate tables."""
    facts = json.loads((folder / "model.json").read_text())
    facts["arch"]["frames"] = 9
    (folder / "model.json").write_text(json.dumps(facts))
    (folder / manifest.NAME).unlink()
    monkeypatch.setattr(format, "array_shapes", lambda *_: pytest.fail("shapes were computed"))
    with pytest.raises(InputError, match=r"do not fit the architecture: .*positions is \(25, 16\), not"):
        checkpoints.stored_specs(folder)


def test_arrays_that_their_files_cannot_hold_are_refused(folder, monkeypatch):
    monkeypatch.setattr(format, "SMALL_ARRAYS", 0)
    monkeypatch.setattr(format, "MAX_COMPRESSION", 0.5)
    with pytest.raises(InputError, match="bytes are stated, the files have"):
        checkpoints.stored_specs(folder)


@pytest.mark.parametrize("name", ["manifest.json.part", ".manifest.json.1a2b3c4d-5.part"])
def test_a_manifest_that_a_killed_writer_left_is_ignored(folder, name):
    (folder / name).write_text("{")
    checkpoints.load(folder, verify=True)


def test_type_shape_missing_and_extra_array_are_four_errors(small_model, folder):
    """Arrays that differ although all hashes match."""
    (written := manifest.read(folder)) or pytest.fail("no manifest")
    sound = small_model.arrays

    def rewritten(**changes):
        shutil.rmtree(folder / "arrays")
        with ocp.PyTreeCheckpointer() as checkpointer:
            checkpointer.save((folder / "arrays").resolve(), sound | changes)
        manifest.write(folder, written.arrays)

    null = np.asarray(sound["null_text"])
    errors = {}
    for what, changes in {
        "dtype": {"null_text": null.astype(np.float16)},
        "shape": {"null_text": null[:, :-1]},
        "extra": {"other": null},
    }.items():
        rewritten(**changes)
        with pytest.raises(InputError) as error:
            checkpoints.load(folder)
        errors[what] = str(error.value)
    sound = {name: tree for name, tree in sound.items() if name != "null_text"}
    rewritten()
    with pytest.raises(InputError) as error:
        checkpoints.load(folder)
    errors["missing"] = str(error.value)
    assert "null_text is of type float16, not float32" in errors["dtype"]
    assert "null_text is (1, 15), not (1, 16)" in errors["shape"]
    assert "unexpected other (1, 16)" in errors["extra"]
    assert "missing null_text (1, 16)" in errors["missing"]


def test_inspect_describes_a_checkpoint(folder):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(["inspect", str(folder), "--verify", "--json"]) == 0
    described = json.loads(out.getvalue())
    model = checkpoints.load(folder)
    assert described["architecture"]["frames"] == model.arch.frames
    assert sum(described["parameters"].values()) == sum(
        array.size for array in checkpoints.named_leaves(model.arrays).values()
    )
    assert described["dtypes"] == ["float32"] and described["state"].startswith("verified")
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(["inspect", str(folder)]) == 0
    assert "not verified" in out.getvalue() and "backbone" in out.getvalue()
