"""The training step on one device, on meshes, in microbatches, and with gradients that are not finite."""

import dataclasses
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gencompositor_jax import arch as arch_lib
from gencompositor_jax import checkpoints, sharding
from gencompositor_jax.arch import VAEArch
from gencompositor_jax.errors import InputError
from gencompositor_jax.model.denoiser import Denoiser
from gencompositor_jax.training import partition
from gencompositor_jax.training import state as state_lib
from gencompositor_jax.training.config import load_config
from gencompositor_jax.training.step import make_step

CONFIGS = Path(__file__).parents[2] / "configs"
STACK = dataclasses.replace(
    arch_lib.tiny().backbone, num_layers=2, num_heads=4, head_dim=16, time_embed_dim=16
)
ARCH = dataclasses.replace(
    arch_lib.tiny(),
    frames=5,
    height=32,
    width=48,
    base_grid=(2, 3),
    backbone=STACK,
    branch=dataclasses.replace(STACK, num_layers=1),
)
# The same network with the smallest VAE, which is sharded over rows of pixels.
WITH_VAE = dataclasses.replace(
    ARCH,
    frames=9,
    height=64,
    width=64,
    base_grid=(4, 4),
    codec=VAEArch(block_widths=(8, 8, 8, 8), layers_per_block=1, latent_channels=4, norm_groups=4),
)
MESHES = [
    {"data": 1, "fsdp": 2, "context": 2, "tensor": 2},
    {"data": 8},
    {"fsdp": 8},
    {"data": 2, "context": 4},
    {"data": 2, "tensor": 4},
]


@pytest.fixture(scope="module")
def config():
    config = load_config(f"{CONFIGS}/gencompositor_6b.py:runlocal")
    with config.unlocked():
        config = config.copy_and_resolve_references()
    config.batch_size, config.optimizer.warmup, config.optimizer.learning_rate = 8, 1, 1e-2
    return config


def batch_of(arch, config, seed=0):
    rng = np.random.default_rng(seed)
    shape = (config.batch_size, arch.frames, arch.height, arch.width)
    frames = {
        name: rng.integers(0, 256, (*shape, 3), dtype=np.uint8)
        for name in ("target", "masked_background", "foreground")
    }
    mask = np.zeros(shape, bool)
    for i in range(len(mask)):
        mask[i, :, : 8 + 2 * i, 16:32] = True
    return {**frames, "mask": mask}


def run(config, arch, sizes, steps=3, batch=batch_of, count=None):
    """Losses, the last metrics, state and frozen arrays after some steps on a mesh of the first devices."""
    count = count or int(np.prod(list(sizes.values()) or [1]))
    mesh = sharding.make_mesh(sizes, jax.devices()[:count])
    optimizer = state_lib.make_optimizer(config)
    with jax.set_mesh(mesh):
        state, frozen = state_lib.initial_state(config, arch, optimizer, mesh)
        step = make_step(config, Denoiser(arch, remat=config.remat), optimizer, state, mesh)
        losses = []
        for i in range(steps):
            rows = sharding.rows_here(mesh, config.batch_size)
            on_devices = sharding.to_devices(batch(arch, config, i), rows, config.batch_size, mesh)
            state, metrics = step(state, frozen, on_devices)
            losses.append(float(metrics["loss"]))
    return losses, jax.device_get(metrics), state, frozen


@pytest.fixture(scope="module")
def one_device(config):
    return run(config, ARCH, {})


@pytest.mark.slow
@pytest.mark.parametrize("sizes", MESHES, ids=str)
def test_losses_are_those_of_one_device(config, one_device, sizes):
    losses, metrics, state, _ = run(config, ARCH, sizes)
    np.testing.assert_allclose(losses, one_device[0], rtol=2e-5)
    np.testing.assert_allclose(metrics["bucket_sum"], one_device[1]["bucket_sum"], rtol=2e-4, atol=1e-6)
    assert losses[0] != losses[1]
    kernel = state.params["backbone"]["blocks"]["feed_forward"]["up"]["kernel"]
    shards = sizes.get("fsdp", 1) * sizes.get("tensor", 1)
    assert kernel.addressable_shards[0].data.size * shards == kernel.size
    for copy in (state.ema, state.optimizer[1].mu, state.optimizer[1].nu):
        assert copy["backbone"]["blocks"]["feed_forward"]["up"]["kernel"].sharding == kernel.sharding


@pytest.mark.slow
@pytest.mark.parametrize("sizes", [{"data": 2, "context": 2}], ids=str)
def test_losses_are_those_of_one_device_with_a_vae_sharded_over_rows_of_pixels(config, sizes):
    config = config.copy_and_resolve_references()
    config.batch_size = 2
    expected = run(config, WITH_VAE, {}, steps=2)[0]
    np.testing.assert_allclose(run(config, WITH_VAE, sizes, steps=2)[0], expected, rtol=1e-4)


@pytest.mark.slow
def test_microbatches_give_the_losses_of_the_whole_batch(config, one_device):
    config = config.copy_and_resolve_references()
    config.optimizer.accumulate = 4
    losses, metrics, *_ = run(config, ARCH, {"data": 2})
    np.testing.assert_allclose(losses, one_device[0], rtol=2e-5)
    np.testing.assert_allclose(metrics["bucket_count"], one_device[1]["bucket_count"])
    assert metrics["bucket_count"].sum() == 8


def test_a_step_that_is_not_finite_changes_nothing_and_is_counted(config):
    mesh = sharding.make_mesh({}, jax.devices()[:1])
    optimizer = state_lib.make_optimizer(config)
    with jax.set_mesh(mesh):
        state, frozen = state_lib.initial_state(config, ARCH, optimizer, mesh)
        step = make_step(config, Denoiser(ARCH, remat=config.remat), optimizer, state, mesh)
        state, good = step(state, frozen, batch_of(ARCH, config))
        before = jax.device_get(state)
        poisoned = frozen._replace(null_text=jnp.full_like(frozen.null_text, jnp.nan))
        state, bad = step(state, poisoned, batch_of(ARCH, config))
    assert np.isfinite(good["loss"]) and not np.isfinite(bad["loss"])
    assert (int(good["skipped"]), int(bad["skipped"])) == (0, 1)
    assert int(state.step) == 2
    for name in ("params", "ema", "optimizer"):
        jax.tree.map(np.testing.assert_array_equal, getattr(state, name), getattr(before, name))


def shapes_of(config):
    mesh = sharding.make_mesh({}, jax.devices()[:1])
    return state_lib.shapes(config, ARCH, state_lib.make_optimizer(config), mesh)


def test_frozen_parameters_have_no_moments(config):
    config = config.copy_and_resolve_references()
    config.trainable = "^backbone/blocks/"
    state, frozen = shapes_of(config)
    assert set(state.params) == {"backbone"} and set(state.params["backbone"]) == {"blocks"}
    trained = sum(x.size for x in jax.tree.leaves(state.params))
    held = sum(x.size for x in jax.tree.leaves(state.optimizer))
    assert held <= 2 * trained + 2  # two moments, and counters
    assert set(frozen.params) == {"backbone", "branch"}


def test_without_an_ema_the_weights_are_exported(config):
    config = config.copy_and_resolve_references()
    config.optimizer.ema = 0.0
    state, _ = shapes_of(config)
    assert state.ema is None and state_lib.model_params(state) is state.params


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory):
    """A checkpoint without zeros: the zero gates of initialised weights make most gradients zero."""
    rng = np.random.default_rng(0)
    arrays = jax.tree.map(
        lambda leaf: (0.1 * rng.standard_normal(leaf.shape)).astype(leaf.dtype),
        checkpoints.array_shapes(ARCH),
    )
    folder = tmp_path_factory.mktemp("model") / "random"
    checkpoints.save(folder, checkpoints.Model(ARCH, arrays))
    return str(folder)


def test_adapters_alone_are_trained_and_merged_on_export(config, random_weights):
    config = config.copy_and_resolve_references()
    config.trainable, config.lora.rank, config.init = "", 2, random_weights
    _, _, state, frozen = run(config, ARCH, {"data": 2, "fsdp": 2}, steps=2)
    assert set(state.params) == {"lora"}
    arrays = state_lib.model_arrays(state_lib.model_params(state), frozen, config.lora.alpha)
    before, after = (
        partition.flatten(tree)
        for tree in (frozen.params, {name: arrays[name]["params"] for name in ARCH.stacks})
    )
    assert before.keys() == after.keys()
    changed = {name for name in before if (np.asarray(before[name]) != np.asarray(after[name])).any()}
    assert changed == {f"backbone/blocks/attention/{x}/kernel" for x in ("query", "key", "value", "out")}


def test_a_config_that_trains_nothing_is_refused(config):
    config = config.copy_and_resolve_references()
    config.trainable = ""
    with pytest.raises(InputError, match="nothing would be trained"):
        shapes_of(config)


@pytest.mark.slow
def test_bfloat16_steps_keep_float32_master_weights(config, one_device):
    config = config.copy_and_resolve_references()
    config.compute_dtype = "bfloat16"
    mesh = sharding.make_mesh({}, jax.devices()[:1])
    optimizer = state_lib.make_optimizer(config)
    with jax.set_mesh(mesh):
        state, frozen = state_lib.initial_state(config, ARCH, optimizer, mesh)
        denoiser = Denoiser(ARCH, jnp.bfloat16, remat="blocks")
        step = make_step(config, denoiser, optimizer, state, mesh)
        state, metrics = step(state, frozen, batch_of(ARCH, config))
    assert float(metrics["loss"]) == pytest.approx(one_device[0][0], rel=2e-2)
    assert {x.dtype for x in jax.tree.leaves(state.params)} == {jnp.dtype("float32")}
