"""Conversion of released folders: complete, exact, or refused with a list of all differences."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import ml_dtypes
import numpy as np
import orbax.checkpoint as ocp
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from benchmarks.convert import tensor_hashes, torch_tensors
from gencompositor_jax import arch as arch_lib
from gencompositor_jax import checkpoints
from gencompositor_jax.checkpoints import manifest, model, restore
from gencompositor_jax.cli import main
from gencompositor_jax.conversion import arrays, safetensors_io, tensor_map
from gencompositor_jax.errors import InputError
from tests.conversion.conftest import command, edit_json, read_tensors, write_tensors

BRANCH = "branch/diffusion_pytorch_model.safetensors"
VAE = "vae/diffusion_pytorch_model.safetensors"
INDEX = "transformer/diffusion_pytorch_model.safetensors.index.json"


def nothing_left(tmp_path: Path) -> bool:
    return not list(tmp_path.glob("*out*"))


def test_released_names_and_counts():
    """At full size: 1027, 71 and 436 tensors, and the published numbers of parameters."""
    found = torch_tensors(arch_lib.released())
    assert {name: len(tensors) for name, tensors in found.items()} == {
        "transformer": 1027,
        "branch": 71,
        "vae": 436,
    }
    counts = {
        name: sum(int(np.prod(s)) for key, s in tensors.items() if "pos_embedding" not in key)
        for name, tensors in found.items()
    }
    assert counts == {"transformer": 5_570_679_360, "branch": 301_568_576, "vae": 215_583_907}


def test_converted_arrays_are_exact_and_plain_orbax_reads_them(released_once, converted_once, small_arch):
    facts = checkpoints.read_metadata(converted_once)
    assert facts.arch == small_arch
    model = checkpoints.load(converted_once, dtype=None)
    found = checkpoints.named_leaves(model.arrays)
    with ocp.PyTreeCheckpointer() as plain:
        restored = checkpoints.named_leaves(plain.restore(converted_once / "arrays"))
    assert restored.keys() == found.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(np.asarray(restored[name]).view(np.uint8), array.view(np.uint8))
    weights = {
        component: {
            name: array
            for file in sorted((released_once / component).glob("*.safetensors"))
            for name, array in read_tensors(file).items()
        }
        for component in ("transformer", "branch", "vae")
    }
    for component, wanted in tensor_map.released_map(small_arch).items():
        for name, targets in wanted.items():
            for path, layer, to_jax in targets:
                ours = found[path] if layer is None else found[path][layer]
                assert ours.dtype == ml_dtypes.bfloat16
                np.testing.assert_array_equal(ours, to_jax(weights[component][name]), err_msg=name)
    np.testing.assert_array_equal(found["null_text"], np.load(released_once / "null.npy"))
    assert set(facts.provenance["sources"]["branch"]) == {Path(BRANCH).name}


def test_round_trip_gives_identical_tensors_and_configs(released_once, converted_once, tmp_path):
    command(["export", str(converted_once), "--out", str(tmp_path / "back")])
    hashes = tensor_hashes(released_once)
    assert tensor_hashes(tmp_path / "back") == hashes
    assert len(hashes) > 300
    for config in released_once.glob("*/*config.json"):
        back = tmp_path / "back" / config.relative_to(released_once)
        assert json.loads(back.read_text()) == json.loads(config.read_text())


def test_the_sizes_of_blocks_and_strips_do_not_change_the_result(
    released_once, converted_once, convert, monkeypatch
):
    """Same files and hashes when a few bytes are read and a few rows are written at a time."""
    monkeypatch.setattr(safetensors_io, "BLOCK", 1000)
    monkeypatch.setattr(arrays, "STRIP", 300)
    again = convert()
    ours, expected = (
        {name: facts for name, facts in manifest.read(folder).files.items() if name.startswith("arrays/")}
        for folder in (again, converted_once)
    )
    for name in ("_CHECKPOINT_METADATA", "commit_success.txt"):  # they hold the time and the folder
        # Orbax 0.12.0 writes no commit_success.txt.
        assert (ours.pop(f"arrays/{name}", None) is None) == (expected.pop(f"arrays/{name}", None) is None)
    assert ours == expected and len(ours) > 10
    manifest.verify(again, manifest.read(again))
    for component, files in checkpoints.read_metadata(again).provenance["sources"].items():
        for name, sha256 in files.items():
            assert manifest.hash_file(released_once / component / name).sha256 == sha256


def test_a_saved_model_is_exported_like_a_converted_one(converted_once, released_once, tmp_path):
    checkpoints.save(tmp_path / "saved", checkpoints.load(converted_once, dtype=None))
    command(["export", str(tmp_path / "saved"), "--out", str(tmp_path / "back")])
    assert tensor_hashes(tmp_path / "back") == tensor_hashes(released_once)


@pytest.mark.slow
def test_shards_on_eight_devices(released_once, tmp_path, monkeypatch):
    """Each device's shard is one file per layer and restores to the same numbers."""
    out = tmp_path / "out"
    monkeypatch.setattr(model, "MIN_SHARDED", 64)
    null = ["--null-text", str(released_once / "null.npy")]
    command(["convert", str(released_once), *null, "--shard", "8", "--out", str(out)])
    mesh = jax.make_mesh((8,), ("fsdp",))
    shardings = restore.fully_sharded(checkpoints.read_metadata(out).arch, mesh)
    whole = checkpoints.named_leaves(checkpoints.load(out, dtype=None).arrays)
    restored = checkpoints.named_leaves(restore.load_sharded(out, shardings).arrays)
    assert restored.keys() == whole.keys()
    sharded = 0
    for name, array in restored.items():
        np.testing.assert_array_equal(np.asarray(array), whole[name])
        parts = {str(shard.index): shard.data.nbytes for shard in array.addressable_shards}
        sharded += len(parts) == 8 and sum(parts.values()) == array.nbytes
    assert sharded > 90
    files = list((out / "arrays" / "backbone.params.blocks.feed_forward.up.kernel").glob("[0-9]*"))
    assert len(files) == 8 * 4  # shards times layers


def test_shards_are_filled_layer_by_layer(converted_once, small_arch, monkeypatch):
    """The host holds one layer of a stacked array at a time, also if the axis of layers is sharded."""
    put, seen = restore._put, []
    monkeypatch.setattr(restore, "WHOLE_BYTES", 0)

    def watched(shard, piece, start):
        seen.append(piece.shape[0])
        return put(shard, piece, start)

    monkeypatch.setattr(restore, "_put", watched)
    mesh = jax.make_mesh((1,), ("fsdp",))
    layers = NamedSharding(mesh, PartitionSpec("fsdp"))
    shardings = {
        name: layers if checkpoints.is_stacked(name) else sharding
        for name, sharding in restore.fully_sharded(small_arch, mesh).items()
    }
    model = restore.load_sharded(converted_once, shardings, dtype=np.float32)
    stacked = [name for name in shardings if checkpoints.is_stacked(name)]
    assert set(seen) == {1} and len(seen) > 2 * len(stacked)
    whole = checkpoints.named_leaves(checkpoints.load(converted_once).arrays)
    for name, array in checkpoints.named_leaves(model.arrays).items():
        np.testing.assert_array_equal(np.asarray(array), whole[name])
    del shardings["null_text"]
    with pytest.raises(InputError, match="shardings: missing null_text"):
        restore.load_sharded(converted_once, shardings)


def test_the_documents_example_of_sharded_loading_runs(converted_once, tmp_path, monkeypatch):
    document = Path(__file__).parents[2] / "docs" / "from_pytorch.md"
    (example,) = re.findall(r"```python\n(.*?)```", document.read_text(encoding="utf-8"), flags=re.DOTALL)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "released").symlink_to(converted_once)
    monkeypatch.chdir(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(example, str(document), "exec"), names)
    assert checkpoints.array_specs(names["model"].arrays) == checkpoints.stored_specs(converted_once)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_dtype(convert, dtype):
    stored = checkpoints.stored_specs(convert("--dtype", dtype))
    assert {facts.dtype for name, facts in stored.items() if name != "null_text"} == {dtype}


def test_components_given_one_by_one(released_once, tmp_path):
    """A component may be a single file beside its config.json."""
    parts = [f"--{name}={released_once / name}" for name in ("transformer", "branch", "scheduler")]
    null = f"--null-text={released_once / 'null.npy'}"
    command(["convert", *parts, f"--vae={released_once / VAE}", null, "--out", str(tmp_path / "out")])
    assert checkpoints.stored_specs(tmp_path / "out")


def test_tiles_can_be_turned_off(convert):
    assert checkpoints.read_metadata(convert("--tiles", "none")).arch.codec.tile is None


def test_one_error_lists_all_differences(release, convert, tmp_path):
    tensors = read_tensors(release / BRANCH)
    tensors["branch_blocks.7.weight"] = tensors.pop("branch_blocks.0.weight")
    tensors["patch_embed.proj.bias"] = tensors["patch_embed.proj.bias"][:-1]
    write_tensors(release / BRANCH, tensors)
    vae = read_tensors(release / VAE)
    del vae["encoder.norm_out.weight"]
    write_tensors(release / VAE, vae)
    with pytest.raises(InputError) as error:
        convert()
    for part in (
        "4 differences",
        "unexpected tensor branch_blocks.7.weight",
        "missing tensor branch_blocks.0.weight",
        "patch_embed.proj.bias [31] doesn't fit branch/params/patch_embed/video/bias [32]",
        "missing tensor encoder.norm_out.weight",
    ):
        assert part in str(error.value)
    assert nothing_left(tmp_path)


def test_known_unused_tensors_are_reported_and_not_converted(release, convert, capsys):
    vae = read_tensors(release / VAE)
    vae["quant_conv.weight"] = np.zeros((3, 3), np.float32)
    write_tensors(release / VAE, vae)
    convert()
    assert "vae: known to be unused: quant_conv.weight" in capsys.readouterr().out


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_error_lists_all_tensors_with_nan(release, convert, tmp_path, bad):
    names = {BRANCH: "proj_out.bias", VAE: "decoder.conv_in.conv.weight"}
    for file, name in names.items():
        tensors = read_tensors(release / file)
        tensors[name] = tensors[name].copy()
        tensors[name].reshape(-1)[1] = bad
        write_tensors(release / file, tensors)
    with pytest.raises(InputError, match="in 2 tensors") as error:
        convert()
    assert all(name in str(error.value) for name in names.values())
    assert nothing_left(tmp_path)


def test_truncated_shard(release, convert, tmp_path):
    shard = sorted((release / "transformer").glob("*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(InputError, match=f"{shard.name}: truncated"):
        convert()
    shard.write_bytes(b"")
    with pytest.raises(InputError, match=f"{shard.name}: not a safetensors file, or truncated"):
        convert()
    shard.unlink()
    with pytest.raises(InputError, match=f"{shard.name} missing"):
        convert()
    assert nothing_left(tmp_path)


def test_file_that_shrinks_while_it_is_read(release, convert, tmp_path, monkeypatch):
    """After its header was checked, and while others are written."""

    def shrink(out, needed):
        os.truncate(release / BRANCH, (release / BRANCH).stat().st_size - 10)

    monkeypatch.setattr("gencompositor_jax.conversion.convert.check_space", shrink)
    with pytest.raises(InputError, match="branch.*truncated while it was read"):
        convert()
    assert nothing_left(tmp_path)


def test_index_and_files_disagree(release, convert):
    index = json.loads((release / INDEX).read_text())
    name, shard = next(iter(index["weight_map"].items()))
    del index["weight_map"][name]
    (release / INDEX).write_text(json.dumps(index))
    with pytest.raises(InputError, match=f"{name} of {shard} is not in the index"):
        convert()
    index["weight_map"][name] = next(other for other in index["weight_map"].values() if other != shard)
    (release / INDEX).write_text(json.dumps(index))
    with pytest.raises(InputError, match=f"{name} is not in"):
        convert()
    (release / INDEX).unlink()
    with pytest.raises(InputError, match="several files .* without an index"):
        convert()


@pytest.mark.parametrize(
    ("file", "field", "value"),
    [
        ("transformer/config.json", "_class_name", "FluxTransformer2DModel"),
        ("transformer/config.json", "_class_name", "CogVideoXTransformer3DModel"),
        ("transformer/config.json", "num_layers", None),
        ("transformer/config.json", "flip_sin_to_cos", False),
        ("transformer/config.json", "in_channels", 4),
        ("transformer/config.json", "attention_head_dim", 8),
        ("branch/config.json", "num_attention_heads", 3),
        ("vae/config.json", "block_out_channels", []),
        ("vae/config.json", "use_quant_conv", True),
        ("vae/config.json", "norm_eps", "small"),
        ("scheduler/scheduler_config.json", "prediction_type", "flow"),
        ("scheduler/scheduler_config.json", "timestep_spacing", "leading"),
    ],
)
def test_wrong_architecture_names_file_and_field(release, convert, tmp_path, file, field, value):
    edit_json(release / file, **{field: value})
    if value == "CogVideoXTransformer3DModel":
        tensors = {
            n: a for f in release.glob("transformer/*.safetensors") for n, a in read_tensors(f).items()
        }
        for shard in release.glob("transformer/*.safetensors*"):
            shard.unlink()
        tensors = {name: array for name, array in tensors.items() if "fg_proj" not in name}
        write_tensors(release / "transformer" / "model.safetensors", tensors)
    with pytest.raises(InputError) as error:
        convert()
    assert str(release / file) in str(error.value)
    assert field.removeprefix("attention_") in str(error.value)
    assert nothing_left(tmp_path)


def test_layers_of_the_config_and_of_the_files_differ(release, convert):
    edit_json(release / "transformer/config.json", num_layers=3)
    with pytest.raises(InputError, match=r"unexpected tensor transformer_blocks\.3\."):
        convert()


def test_missing_component(release, tmp_path, capsys):
    assert main(["convert", str(release / "vae"), "--out", str(tmp_path / "out")]) == 2
    assert capsys.readouterr().err.startswith(
        "gencompositor: no transformer folder was found; pass --transformer"
    )


@pytest.mark.parametrize("array", [np.zeros((6, 23), np.float32), np.full((6, 24), np.nan, np.float32)])
def test_bad_null_text(release, convert, tmp_path, array):
    np.save(release / "null.npy", array)
    with pytest.raises(InputError, match="null_text"):
        convert()
    assert nothing_left(tmp_path)


def test_null_text_is_no_pickle(release, convert):
    np.save(release / "null.npy", np.array([{}], object), allow_pickle=True)
    with pytest.raises(InputError, match="not readable"):
        convert()


def test_output_that_exists_is_kept(convert, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "mine").touch()
    with pytest.raises(InputError, match="--overwrite"):
        convert()
    with pytest.raises(InputError, match=r"has no model\.json"):
        convert("--overwrite")
    assert (tmp_path / "out" / "mine").exists()
    (tmp_path / "out" / "model.json").touch()
    convert("--overwrite")
    assert not (tmp_path / "out" / "mine").exists()


def test_too_little_disk_space(convert, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10**6})())
    with pytest.raises(InputError, match=r"out: 0\.1 GB needed, 0\.0 GB free"):
        convert()
    assert nothing_left(tmp_path)


def test_disk_that_fills_up(convert, tmp_path, monkeypatch):
    """Noticed only while the arrays are written."""
    from gencompositor_jax.conversion.arrays import ArrayFolder

    written = ArrayFolder._write

    def full(self, name, part):
        if len(self.hashes) > 50:
            raise OSError(28, "No space left on device")
        written(self, name, part)

    monkeypatch.setattr(ArrayFolder, "_write", full)
    with pytest.raises(InputError, match=r"out: the disk is full \(No space left on device"):
        convert()
    assert nothing_left(tmp_path)


def test_read_only_output(release, tmp_path):
    """A path below a file, which nobody can create."""
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "out"
    with pytest.raises(InputError, match=r"file/out: can't be written"):
        command(["convert", str(release), "--null-text", str(release / "null.npy"), "--out", str(out)])


@pytest.mark.multiprocess
def test_a_killed_conversion_leaves_no_checkpoint_and_the_next_removes_its_files(release, convert, tmp_path):
    """Killed after the first arrays were written."""
    out = tmp_path / "out"
    slow = (
        "import time; from gencompositor_jax.conversion.arrays import ArrayFolder as A; w = A._write\n"
        "A._write = lambda *a: (w(*a), time.sleep(0.02))\n"
        "import sys; from gencompositor_jax.cli import main; main(sys.argv[1:])"
    )
    argv = ["convert", str(release), "--null-text", str(release / "null.npy"), "--out", str(out)]
    process = subprocess.Popen([sys.executable, "-c", slow, *argv])
    while len(list(tmp_path.glob(".out.*.part/arrays/*/0*"))) < 5:
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not out.exists()
    (left,) = tmp_path.glob(".out.*")
    with pytest.raises(InputError, match="not a checkpoint"):
        checkpoints.load(left)
    with pytest.raises(InputError, match="not a checkpoint"):
        command(["inspect", str(left)])
    command(["inspect", str(convert()), "--verify"])
    assert not left.exists()


class Canary:
    """Creates a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self):
        return (Path.touch, (self.file,))


def test_pickle_files_are_refused_and_their_code_never_runs(release, convert, tmp_path):
    import pickle

    torch = pytest.importorskip("torch", reason="reading .bin files needs torch")
    canary = tmp_path / "canary"
    vae = read_tensors(release / VAE)
    (release / VAE).unlink()
    state = {name: torch.tensor(a.view(np.int16)).view(torch.bfloat16) for name, a in vae.items()}
    torch.save({**state, "x": Canary(canary)}, release / "vae" / "model.bin")
    with pytest.raises(InputError, match=r"model\.bin: a pickle file can run any code.*--allow-pickle"):
        convert()
    with pytest.raises(InputError, match="torch refuses"):
        convert("--allow-pickle")
    (release / "vae" / "model.bin").write_bytes(pickle.dumps(Canary(canary)))
    with pytest.raises(InputError, match="torch refuses"):
        convert("--allow-pickle")
    assert not canary.exists()
    pickle.loads(pickle.dumps(Canary(canary)))
    assert canary.exists(), "unpickling would not have been noticed"
    torch.save(state, release / "vae" / "model.bin")
    model = checkpoints.load(convert("--allow-pickle"), dtype=None)
    assert model.arrays["codec"]["decoder"]["conv_in"]["bias"].dtype == ml_dtypes.bfloat16
    ours = np.asarray(model.arrays["codec"]["decoder"]["conv_in"]["bias"])
    np.testing.assert_array_equal(ours, vae["decoder.conv_in.conv.bias"])


def test_safetensors_files_are_those_of_the_safetensors_package(release, convert):
    """We read its files, and it reads ours."""
    numpy = pytest.importorskip("safetensors.numpy", reason="compares with the safetensors package")
    tensors = {name: a.astype(np.float32) for name, a in read_tensors(release / BRANCH).items()}
    numpy.save_file(tensors, release / BRANCH)
    for name, array in read_tensors(release / BRANCH).items():
        np.testing.assert_array_equal(array, tensors[name])
    write_tensors(release / BRANCH, tensors)
    theirs = numpy.load_file(release / BRANCH)
    assert theirs.keys() == tensors.keys()
    assert all(np.array_equal(theirs[name], tensors[name]) for name in theirs)
