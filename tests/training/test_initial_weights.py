import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec, SingleDeviceSharding

from gencompositor_jax import arch as arch_lib
from gencompositor_jax import checkpoints
from gencompositor_jax.errors import InputError
from gencompositor_jax.model.denoiser import Denoiser
from gencompositor_jax.training.initial_weights import compare, initial_weights

POSITIONS = "buffers/patch_embed/positions"


def run(arch, init, **options):
    """`initial_weights` on one device, as {path: array}."""
    device = SingleDeviceSharding(jax.devices()[0])
    shardings = jax.tree.map(lambda _: device, jax.eval_shape(Denoiser(arch).init, jax.random.key(0)))
    variables, codec, null_text = initial_weights(arch, init, jax.random.key(3), shardings, **options)
    return checkpoints.named_leaves({**variables, "codec": codec, "null_text": null_text})


@pytest.fixture(scope="module")
def arch(small_model):
    return small_model.arch


@pytest.fixture(scope="module")
def fresh(arch):
    return run(arch, "")


@pytest.fixture(scope="module")
def stored(small_model):
    return checkpoints.named_leaves(small_model.arrays)


def test_initialised_weights_are_those_of_a_model(arch, fresh):
    shapes = checkpoints.named_leaves(checkpoints.array_shapes(arch))
    assert {n: (x.shape, x.dtype) for n, x in fresh.items()} == {
        n: (x.shape, x.dtype) for n, x in shapes.items()
    }
    assert np.std(fresh["backbone/params/blocks/attention/query/kernel"]) > 0
    assert not np.any(fresh["null_text"])


def test_a_checkpoint_that_fits_is_loaded_completely(arch, small_checkpoint, stored, capsys):
    got = run(arch, small_checkpoint)
    assert got.keys() == stored.keys()
    for name in stored:
        np.testing.assert_array_equal(got[name], stored[name])
    assert capsys.readouterr().err == ""


def test_arrays_have_the_given_dtype(arch, small_checkpoint):
    types = {leaf.dtype for leaf in run(arch, small_checkpoint, dtype=jnp.bfloat16).values()}
    assert types == {jnp.dtype(jnp.bfloat16)}


def test_positions_of_another_clip_size_are_computed(arch, small_model, small_checkpoint, stored, capsys):
    """Also if the table has the same shape, as with height and width exchanged."""
    rotated = dataclasses.replace(arch, height=48, width=32)
    got = run(rotated, small_checkpoint)
    at_size = checkpoints.named_leaves(checkpoints.at_size(small_model, height=48, width=32).arrays)
    for name in stored:
        if name.endswith(POSITIONS):
            assert got[name].shape == stored[name].shape
            np.testing.assert_array_equal(got[name][1:], at_size[name][1:])
            assert not np.any(got[name][0])  # text tokens
        else:
            np.testing.assert_array_equal(got[name], stored[name])
    assert "architecture differs: height 32, here 48; width 48, here 32" in capsys.readouterr().err


def test_arrays_that_do_not_fit_are_refused_with_the_list(arch, small_checkpoint, stored):
    deeper = dataclasses.replace(arch, backbone=dataclasses.replace(arch.backbone, num_layers=3))
    with pytest.raises(InputError) as error:
        run(deeper, small_checkpoint)
    message = str(error.value)
    assert "backbone/params/blocks/attention/query/kernel is (2, 16, 1, 16), not (3, 16, 1, 16)" in message
    assert message.count(" is (2, ") == sum(name.startswith("backbone/params/blocks/") for name in stored)
    assert "init_missing='fresh'" in message


def test_arrays_that_do_not_fit_are_initialised_with_missing_fresh(arch, small_checkpoint, stored, capsys):
    wider_text = dataclasses.replace(
        arch,
        branch_heads=True,
        backbone=dataclasses.replace(arch.backbone, text_dim=24),
    )
    got = run(wider_text, small_checkpoint, missing="fresh")
    fresh = {name for name in got if name not in stored or got[name].shape != stored[name].shape}
    unused = {name for name in fresh if name.startswith("branch/params/unused/")}
    assert len(unused) > 5
    assert fresh == unused | {"backbone/params/patch_embed/text/kernel", "null_text"}
    assert np.std(got["backbone/params/patch_embed/text/kernel"]) > 0.1
    for name in got.keys() - fresh:
        np.testing.assert_array_equal(got[name], stored[name])
    printed = capsys.readouterr().err
    assert all(name in printed for name in fresh)
    assert "backbone/text_dim 16, here 24" in printed


def test_arrays_that_the_network_lacks_are_refused(arch, stored, tmp_path):
    with_heads = dataclasses.replace(arch, branch_heads=True)
    shapes = checkpoints.array_shapes(with_heads)
    arrays = jax.tree.map(lambda leaf: np.ones(leaf.shape, leaf.dtype), shapes)
    checkpoints.save(tmp_path / "heads", checkpoints.Model(with_heads, arrays))
    with pytest.raises(InputError, match=r"branch/params/unused/embed/bias \(16,\) is unexpected"):
        run(arch, str(tmp_path / "heads"))
    fit = compare(arch, tmp_path / "heads")
    assert set(fit.loaded) == set(stored) and fit.fresh == ()


def test_a_codec_is_never_initialised_beside_loaded_weights(arch, small_checkpoint):
    vae = arch_lib.VAEArch(block_widths=(4, 4), layers_per_block=1, norm_groups=2, latent_channels=4)
    other = dataclasses.replace(arch, codec=vae)
    with pytest.raises(InputError, match="the codec isn't trained.*missing codec/"):
        run(other, small_checkpoint, missing="fresh")


@pytest.mark.parametrize(
    ("init", "missing", "message"),
    [
        ("nowhere", "error", "nowhere: no such folder"),
        (str(Path(__file__).parent), "error", "not a checkpoint"),
        (None, "maybe", "init_missing='maybe': pass 'error' or 'fresh'"),
    ],
)
def test_bad_arguments_are_refused(arch, small_checkpoint, init, missing, message):
    with pytest.raises(InputError, match=message):
        run(arch, init or small_checkpoint, missing=missing)


def test_a_damaged_file_is_an_error(arch, small_model, tmp_path):
    folder = tmp_path / "damaged"
    checkpoints.save(folder, small_model)
    (folder / "manifest.json").unlink()  # with it, the damage would be found before any array is read
    largest = max((f for f in (folder / "arrays").rglob("*") if f.is_file()), key=lambda f: f.stat().st_size)
    largest.write_bytes(largest.read_bytes()[: largest.stat().st_size // 2])
    with pytest.raises(InputError, match="damaged/arrays: .* can't be read"):
        run(arch, str(folder))


@pytest.mark.slow
def test_on_a_mesh_each_device_has_its_shard_of_the_same_weights(arch, small_checkpoint, fresh, stored):
    mesh = jax.make_mesh((8,), ("fsdp",))

    def sharding_of(leaf):
        axes = [i for i, n in enumerate(leaf.shape) if n % 8 == 0]
        return NamedSharding(mesh, PartitionSpec(*(None,) * axes[-1], "fsdp") if axes else PartitionSpec())

    shardings = jax.tree.map(sharding_of, jax.eval_shape(Denoiser(arch).init, jax.random.key(0)))
    by_name = checkpoints.named_leaves(shardings)
    assert len([sharding for sharding in by_name.values() if "fsdp" in sharding.spec]) > 60
    for init, expected in (("", fresh), (small_checkpoint, stored)):
        variables, _, null_text = initial_weights(arch, init, jax.random.key(3), shardings)
        for name, array in checkpoints.named_leaves(variables).items():
            np.testing.assert_array_equal(np.asarray(array), expected[name])
            assert array.sharding == by_name[name]
        assert len(null_text.sharding.device_set) == 8 and null_text.is_fully_replicated
