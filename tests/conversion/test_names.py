"""Names of tensors: prefixes that wrappers add, and long lists of differences."""

import pytest

from gencompositor_jax import checkpoints
from gencompositor_jax.cli import main
from gencompositor_jax.conversion.prefixes import common_prefix
from gencompositor_jax.conversion.weights_folder import open_weights
from tests.conversion.conftest import read_tensors, write_tensors

BRANCH = "branch/diffusion_pytorch_model.safetensors"


@pytest.mark.parametrize(
    ("names", "prefix"),
    [
        (["proj.weight", "proj.bias"], ""),
        (["module.proj.weight", "module.proj.bias"], "module."),
        (["module._orig_mod.a", "module._orig_mod.b"], "module._orig_mod."),
        (["model.diffusion_model.a", "model.diffusion_model.b"], "model.diffusion_model."),
        (["model.a", "model.diffusion_model.b"], "model."),
        (["transformer.a"], "transformer."),
        (["transformer_blocks.0.a"], ""),
        (["module.a", "b"], ""),
        ([], ""),
    ],
)
def test_the_prefix_that_all_names_have(names, prefix):
    assert common_prefix(names) == prefix


def test_weights_with_a_prefix_are_converted(release, converted_once, tmp_path, capsys):
    tensors = read_tensors(release / BRANCH)
    write_tensors(release / BRANCH, {f"module.{name}": array for name, array in tensors.items()})
    opened = open_weights("branch", release / "branch")
    assert opened.prefix == "module." and opened.tensors.keys() == tensors.keys()
    name = next(iter(tensors))
    assert (opened.read(name) == tensors[name]).all()
    out = tmp_path / "out"
    words = ["convert", str(release), "--null-text", str(release / "null.npy"), "--out", str(out)]
    assert main(words) == 0
    assert "the prefix 'module.' of all names is left out" in capsys.readouterr().out
    arrays = [checkpoints.load(folder, dtype=None).arrays["branch"] for folder in (out, converted_once)]
    ours, theirs = (checkpoints.named_leaves(each) for each in arrays)
    assert all((ours[name] == theirs[name]).all() for name in theirs)


def test_a_long_list_of_differences_goes_to_a_file(release, tmp_path, capsys):
    tensors = read_tensors(release / BRANCH)
    write_tensors(release / BRANCH, {f"renamed.{name}": array for name, array in tensors.items()})
    words = [
        "convert",
        str(release),
        "--null-text",
        str(release / "null.npy"),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(words) == 2
    *lines, last = capsys.readouterr().err.splitlines()
    assert len(lines) == 10 and all("unexpected tensor renamed." in line for line in lines)
    file = tmp_path / "out.differences.txt"
    listed = file.read_text().splitlines()
    assert (
        len(listed) > len(tensors) and f"({len(listed)} differences): {listed[0]}; all are in {file}" in last
    )
