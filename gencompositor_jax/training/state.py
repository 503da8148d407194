"""What a run carries from step to step, and how it starts, is saved and is found again."""

import shutil
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import optax
import orbax.checkpoint as ocp

from gencompositor_jax import arch as arch_lib
from gencompositor_jax import codec
from gencompositor_jax.arch import ModelArch
from gencompositor_jax.checkpoint import Model
from gencompositor_jax.denoiser import Denoiser
from gencompositor_jax.errors import InputError


class TrainState(NamedTuple):
    """Master weights in float32, their moving average, the optimiser's moments, and the steps done."""

    params: Any  # {"backbone": ..., "branch": ...}: what is trained
    ema: Any  # the same tree
    optimizer: optax.OptState
    step: jax.Array


class Frozen(NamedTuple):
    """What training reads and never changes."""

    buffers: Any  # {"backbone": ..., "branch": ...}
    codec: Any
    null_text: jax.Array


def make_optimizer(config: ml_collections.ConfigDict) -> optax.GradientTransformation:
    """AdamW: warm-up, one cosine cycle to zero, clipping by the global norm, decay for matrices only."""
    o = config.optimizer
    schedule = optax.warmup_cosine_decay_schedule(0.0, o.learning_rate, o.warmup, config.steps)
    decay = optax.add_decayed_weights(o.weight_decay, mask=_matrices)
    return optax.chain(
        optax.clip_by_global_norm(o.clip),
        optax.scale_by_adam(o.b1, o.b2),
        decay,
        optax.scale_by_learning_rate(schedule),
    )


def _matrices(params: Any) -> Any:
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key == "kernel", params)


def init(
    arch: ModelArch, optimizer: optax.GradientTransformation, key: jax.Array
) -> tuple[TrainState, Frozen]:
    """Fresh weights."""
    for_network, for_codec = jax.random.split(key)
    variables = jax.jit(Denoiser(arch).init)(for_network)
    params = {name: parts["params"] for name, parts in variables.items()}
    buffers = {name: parts["buffers"] for name, parts in variables.items()}
    null_text = jnp.zeros((arch.backbone.text_tokens, arch.backbone.text_dim))
    frozen = Frozen(buffers, codec.init_codec(for_codec, arch.codec), null_text)
    average = jax.tree.map(
        jnp.copy, params
    )  # the step gives its buffers back one by one, so they can't be shared
    return TrainState(params, average, optimizer.init(params), jnp.zeros((), jnp.int32)), frozen


def variables(params: Any, frozen: Frozen) -> Any:
    """The two stacks as `Denoiser` takes them."""
    return {name: {"params": params[name], "buffers": frozen.buffers[name]} for name in params}


def as_model(state: TrainState, frozen: Frozen, arch: ModelArch, provenance: dict[str, Any]) -> Model:
    """The averaged weights as a checkpoint for inference."""
    arrays = {**variables(state.ema, frozen), "codec": frozen.codec, "null_text": frozen.null_text}
    return Model(arch, arrays, provenance)


def save(folder: Path, state: TrainState) -> None:
    """Writes the state into `folder`, which appears whole or not at all."""
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    with ocp.StandardCheckpointer() as checkpointer:
        checkpointer.save(part.resolve(), state)
    old = folder.with_name(folder.name + ".old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.rename(old)
    part.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def restore(folder: Path, like: TrainState) -> TrainState:
    """Reads what `save` wrote, in the shapes and types of `like`."""
    if not folder.exists():  # killed between the two renames of `save`
        folder = folder.with_name(folder.name + ".old")
    with ocp.StandardCheckpointer() as checkpointer:
        return checkpointer.restore(folder.resolve(), jax.tree.map(ocp.utils.to_shape_dtype_struct, like))


def saved(folder: Path) -> bool:
    """Whether there is a state to go on from."""
    return folder.exists() or folder.with_name(folder.name + ".old").exists()


def make_arch(config: ml_collections.ConfigDict) -> ModelArch:
    """The preset that the config names. Raises InputError for a name that is none."""
    presets = {"tiny": arch_lib.tiny, "small": arch_lib.small, "released": arch_lib.released}
    if config.arch not in presets:
        raise InputError(f"--config.arch={config.arch}: known are {', '.join(presets)}")
    return presets[config.arch]()
