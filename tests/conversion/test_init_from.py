"""Initial weights for a training, from plain CogVideoX-I2V."""

import json

import numpy as np
import pytest

from gencompositor_jax import checkpoints
from gencompositor_jax.errors import InputError
from gencompositor_jax.model import erope
from tests.conversion.conftest import command, edit_json, read_tensors, write_tensors

FILE = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def base(release):
    """The release turned into plain CogVideoX-I2V: no branch, no foreground projection, other positions."""
    transformer = release / "transformer"
    tensors = {n: a for f in sorted(transformer.glob("*.safetensors")) for n, a in read_tensors(f).items()}
    for file in transformer.glob("*.safetensors*"):
        file.unlink()
    tensors = {name: array for name, array in tensors.items() if "fg_proj" not in name}
    positions = read_tensors(release / "branch" / FILE)["patch_embed.pos_embedding"]
    tensors["patch_embed.pos_embedding"] = positions
    write_tensors(transformer / FILE, tensors)
    edit_json(transformer / "config.json", _class_name="CogVideoXTransformer3DModel")
    for file in (release / "branch").iterdir():
        file.unlink()
    (release / "branch").rmdir()
    return release


def run(base, out, *more):
    command(
        ["convert", "--init-from", str(base), "--null-text", str(base / "null.npy"), "--out", str(out), *more]
    )
    return checkpoints.load(out, dtype=None)


def test_all_that_fits_is_copied_and_the_rest_is_listed(base, tmp_path, capsys):
    model = run(base, tmp_path / "out", "--layout", "height")
    printed = capsys.readouterr().out
    source = read_tensors(base / "transformer" / FILE)
    backbone, branch = (model.arrays[name]["params"] for name in ("backbone", "branch"))
    c = model.arch.codec.latent_channels
    proj = source["patch_embed.proj.weight"]

    def patches(x):
        return x.transpose(2, 3, 1, 0).reshape(-1, len(x))

    same = np.testing.assert_array_equal
    same(backbone["patch_embed"]["video"]["kernel"], patches(proj))
    same(backbone["patch_embed"]["foreground"]["kernel"], patches(proj[:, :c]))
    same(backbone["patch_embed"]["foreground"]["bias"], source["patch_embed.proj.bias"])
    for name in ("norm_final", "norm_out"):
        same(backbone[name]["scale"], source[f"{name}{'.norm' * (name == 'norm_out')}.weight"])
    for tree in (backbone, branch):
        same(tree["patch_embed"]["text"]["kernel"], source["patch_embed.text_proj.weight"].T)
        for i, kernel in enumerate(tree["blocks"]["feed_forward"]["up"]["kernel"]):
            same(kernel, source[f"transformer_blocks.{i}.ff.net.0.proj.weight"].T)
    kernel = np.asarray(branch["patch_embed"]["video"]["kernel"], np.float32).reshape(4, 2 * c + 1, -1)
    same(kernel[:, :c], kernel[:, c : 2 * c])
    assert kernel[:, :c].any() and not kernel[:, -1].any()
    assert not any(np.asarray(leaf).any() for leaf in branch["residual"].values())
    arch = model.arch
    video, foreground, _ = erope.stream_indices("height", arch.token_grid)
    table = erope.added_positions(
        np.concatenate([video, foreground]), arch.backbone.width, arch.position_scale
    )
    positions = model.arrays["backbone"]["buffers"]["patch_embed"]["positions"]
    same(positions[arch.backbone.text_tokens :], table.astype(positions.dtype))
    positions = model.arrays["branch"]["buffers"]["patch_embed"]["positions"]
    same(positions, source["patch_embed.pos_embedding"][0])
    for line in (
        "branch/params/residual/kernel",
        "branch/params/unused/embed/kernel",
        "not in the base; zero",
    ):
        assert line in printed
    assert "computed for layout 'height'" in printed
    assert model.provenance["init_from"] == printed.splitlines()[:-1]


def test_missing_weights_are_an_error(base, tmp_path):
    tensors = read_tensors(base / "transformer" / FILE)
    del tensors["norm_out.linear.bias"]
    write_tensors(base / "transformer" / FILE, tensors)
    with pytest.raises(InputError, match=r"missing tensor norm_out\.linear\.bias"):
        run(base, tmp_path / "out")


def test_text_to_video_models_are_refused(base, tmp_path):
    edit_json(base / "transformer" / "config.json", in_channels=4)
    with pytest.raises(InputError, match=r"config\.json: in_channels=4: expected 8"):
        run(base, tmp_path / "out")


def test_the_release_itself_is_refused(release, tmp_path):
    assert "sep" in json.loads((release / "transformer" / "config.json").read_text())["_class_name"]
    with pytest.raises(InputError, match="_class_name.*plain CogVideoX-I2V"):
        run(release, tmp_path / "out")
