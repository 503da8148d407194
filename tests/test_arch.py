import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gencompositor_jax import arch as arch_lib
from gencompositor_jax import codec
from gencompositor_jax.arch import LinearCodecArch, PatchCodecArch
from gencompositor_jax.checkpoints import array_shapes
from gencompositor_jax.errors import InputError


def count(tree):
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(tree))


def test_released_sizes_come_out_exactly():
    arch = arch_lib.released()
    shapes = array_shapes(arch)
    assert count(shapes["backbone"]["params"]) == 5_570_679_360
    assert count(shapes["branch"]["params"]) == 301_568_576
    assert count(shapes["backbone"]["buffers"]) == 35_326 * 3_072
    assert (
        count(jax.eval_shape(lambda key: codec.init_codec(key, arch.codec), jax.random.key(0))) == 215_583_907
    )
    assert arch.latent_shape == (13, 60, 90, 16)
    assert np.prod(arch.token_grid) == 17_550


@pytest.mark.parametrize("preset", arch_lib.PRESETS.values())
def test_json_round_trip(preset):
    arch = preset()
    arch.check()
    assert arch_lib.from_json(json.loads(json.dumps(arch_lib.to_json(arch)))) == arch


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.pop("layout"), "arch: field 'layout' is missing"),
        (lambda f: f.update(colour=1), "arch: unknown field 'colour'"),
        (lambda f: f["backbone"].pop("num_heads"), r"arch\.backbone: field 'num_heads' is missing"),
        (
            lambda f: f["codec"].update(kind="jpeg"),
            "arch: codec.kind: 'jpeg'; choose one of patch, linear, vae",
        ),
        (lambda f: f.update(frames=10), "frames=10"),
    ],
)
def test_json_that_is_not_an_architecture(change, message):
    fields = arch_lib.to_json(arch_lib.tiny())
    change(fields)
    with pytest.raises(InputError, match=message):
        arch_lib.from_json(fields)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"frames": 8}, "4k\\+1"),
        ({"height": 40}, "multiples of 16"),
        ({"width": 100}, "multiples of 16"),
        ({"codec": PatchCodecArch(space_factor=4), "height": 20}, "multiples of 8"),
        ({"codec": LinearCodecArch(latent_channels=769)}, "pass 1 to 768"),
    ],
)
def test_sizes_that_do_not_fit(changes, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(arch_lib.tiny(), **changes).check()


def test_stacks_that_do_not_fit():
    tiny = arch_lib.tiny()
    for stack, message in (
        (dataclasses.replace(tiny.branch, num_layers=7), "branch.num_layers=7"),
        (dataclasses.replace(tiny.branch, num_heads=2), "backbone's width"),
        (dataclasses.replace(tiny.branch, head_dim=24, num_heads=4), "multiple of 16"),
    ):
        with pytest.raises(InputError, match=message):
            dataclasses.replace(tiny, branch=stack).check()


def test_shapes_take_no_memory():
    leaves = jax.tree.leaves(array_shapes(arch_lib.released()))
    assert all(isinstance(leaf, jax.ShapeDtypeStruct) for leaf in leaves)
    assert all(leaf.dtype == jnp.float32 for leaf in leaves)


def test_a_user_may_change_how_masks_are_made():
    tiny = arch_lib.tiny()
    assert arch_lib.changed(tiny, {}) == tiny
    assert arch_lib.changed(tiny, {"sigma": None, "tau": None, "latent_mask": None, "tiles": None}) == tiny
    other = arch_lib.changed(tiny, {"sigma": 10.0, "tau": 1 / 255, "latent_mask": "released"})
    released = arch_lib.Inflation()
    assert (other.inflation.sigma, other.inflation.kernel, other.inflation.tau) == (
        released.sigma,
        released.kernel,
        released.tau,
    )
    assert other.latent_mask == "released"
    assert other.backbone == tiny.backbone
    with pytest.raises(InputError, match="no tiles"):
        arch_lib.changed(tiny, {"tiles": "released"})


def test_the_small_network_on_linear_latents():
    arch = arch_lib.linear()
    assert (arch.latent_shape, arch.token_grid) == ((3, 8, 12, 128), (3, 8, 12))
    assert (arch.offset_cell, arch_lib.tiny().offset_cell) == ((4, 8), None)
    shapes = array_shapes(arch)
    assert {name: x.shape for name, x in shapes["codec"].items()} == {
        "mean": (768,),
        "components": (128, 768),
        "deviations": (128,),
    }
    assert count([shapes[name]["params"] for name in ("backbone", "branch")]) == 6_369_664


def test_a_checkpoint_from_before_steps_and_solver_were_stored_is_sampled_as_then():
    stored = arch_lib.to_json(arch_lib.linear())
    assert (stored["diffusion"].pop("steps"), stored["diffusion"].pop("solver")) == (4, "ddim")
    read = arch_lib.from_json(stored).diffusion
    assert (read.steps, read.solver) == (20, "dpm")
