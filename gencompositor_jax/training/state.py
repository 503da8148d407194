"""What a run carries from step to step, how it starts, and the model that comes out of it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import optax
from jax.sharding import Mesh

from gencompositor_jax import checkpoints, sharding
from gencompositor_jax.arch import ModelArch
from gencompositor_jax.errors import InputError
from gencompositor_jax.training import lora, partition, start

STACKS = ("backbone", "branch")
LORA = "lora"  # the adapters' place beside the two stacks


class TrainState(NamedTuple):
    """What is trained, in float32, with its moving average and the optimiser's moments."""

    params: Any  # {"backbone", "branch", "lora"}: only what is trained
    ema: Any  # the same tree, or None
    optimizer: optax.OptState
    step: jax.Array  # int32: steps done
    skipped: jax.Array  # int32: steps among them whose gradients were not finite, and changed nothing


class Frozen(NamedTuple):
    """What training reads and never changes."""

    params: Any  # {"backbone", "branch"}: what isn't trained, in the compute type
    buffers: Any  # {"backbone", "branch"}
    codec: Any
    null_text: jax.Array


def make_optimizer(config: ml_collections.ConfigDict) -> optax.GradientTransformation:
    """AdamW: warm-up, one cosine cycle to zero, clipping by the global norm, decay for matrices only.

    Raises InputError where the warm-up doesn't end before the run does.
    """
    o = config.optimizer
    if o.warmup >= config.steps:
        raise InputError(f"optimizer.warmup={o.warmup}: must be below steps={config.steps}")
    schedule = optax.warmup_cosine_decay_schedule(0.0, o.learning_rate, o.warmup, config.steps)
    decay = optax.add_decayed_weights(o.weight_decay, mask=_matrices)
    return optax.chain(
        optax.clip_by_global_norm(o.clip),
        optax.scale_by_adam(o.b1, o.b2),
        decay,
        optax.scale_by_learning_rate(schedule),
    )


def _matrices(params: Any) -> Any:
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key in ("kernel", "a", "b"), params)


def shapes(
    config: ml_collections.ConfigDict, arch: ModelArch, optimizer: optax.GradientTransformation, mesh: Mesh
) -> tuple[TrainState, Frozen]:
    """What `begin` makes, as jax.ShapeDtypeStructs with their places on the mesh; takes no memory.

    `config.trainable` says what is trained; with `config.lora.rank` above 0 the adapters are as well. Places
    are those of `config.sharding.rules`, on paths such as backbone/blocks/attention/query/kernel; moments and
    average lie where their parameters do. Raises InputError where one of these doesn't fit.
    """
    key, whole = jax.random.key(0), sharding.replicated(mesh)
    known = checkpoints.array_shapes(arch)
    params = {name: known[name]["params"] for name in STACKS}
    trained, frozen = _split(params, config.trainable)
    if config.lora.rank:
        adapters = jax.eval_shape(lambda k: lora.init(k, params, config.lora.rank, config.lora.targets), key)
        trained = {**trained, LORA: adapters}
    if not trained:
        raise InputError("trainable='' with lora.rank=0: nothing would be trained; pass a regular expression")

    def placed(tree: Any, places: Any) -> Any:
        return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, places)

    def everywhere(tree: Any) -> Any:
        return placed(tree, jax.tree.map(lambda _: whole, tree))

    places = sharding.shardings(trained, mesh, config.sharding.rules)
    trained = placed(trained, places)
    moments = jax.eval_shape(optimizer.init, trained)
    of_moments = optax.tree.map_params(
        optimizer, lambda _, place: place, moments, places, transform_non_params=lambda _: whole
    )
    count = everywhere(jax.ShapeDtypeStruct((), jnp.int32))
    ema = trained if config.optimizer.ema else None
    state = TrainState(trained, ema, placed(moments, of_moments), count, count)
    frozen = jax.eval_shape(lambda tree: compute_copy(tree, config.compute_dtype), frozen)
    frozen = placed(frozen, sharding.shardings(frozen, mesh, config.sharding.rules))
    buffers = everywhere({name: known[name]["buffers"] for name in STACKS})
    return state, Frozen(frozen, buffers, everywhere(known["codec"]), everywhere(known["null_text"]))


def _split(params: Any, trainable: str) -> tuple[Any, Any]:
    """What is trained and what is frozen; an empty expression freezes everything."""
    return partition.split(params, trainable) if trainable else ({}, params)


def begin(
    config: ml_collections.ConfigDict,
    arch: ModelArch,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    restored: TrainState | None = None,
) -> tuple[TrainState, Frozen]:
    """The state of step 0, or the restored one, and what it doesn't hold, each array in its place (`shapes`).

    Weights are fresh or those of the checkpoint `config.init`. Raises InputError where that doesn't fit.
    """
    state, frozen = shapes(config, arch, optimizer, mesh)
    for_weights, for_adapters = jax.random.split(jax.random.key(config.seed))
    of_params = {k: v for k, v in state.params.items() if k != LORA}
    places = jax.tree.map(lambda x: x.sharding, (partition.merge(of_params, frozen.params), frozen.buffers))
    where = {name: {"params": places[0][name], "buffers": places[1][name]} for name in STACKS}
    variables, codec, null_text = start.begin(
        arch, config.init, for_weights, where, missing=config.init_missing
    )
    params = {name: variables[name]["params"] for name in STACKS}
    trained, fixed = _split(params, config.trainable)
    if config.lora.rank:
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
        own = jax.tree.map(lambda x: x.sharding, state.params[LORA])
        fresh = jax.jit(
            lambda k: lora.init(k, like, config.lora.rank, config.lora.targets), out_shardings=own
        )
        trained = {**trained, LORA: fresh(for_adapters)}
    del params
    cast = jax.jit(compute_copy, static_argnums=1, donate_argnums=0)
    fixed = Frozen(
        cast(fixed, config.compute_dtype),
        {name: variables[name]["buffers"] for name in STACKS},
        codec,
        null_text,
    )
    if restored is not None:
        return restored, fixed
    moments = jax.jit(optimizer.init, out_shardings=jax.tree.map(lambda x: x.sharding, state.optimizer))
    # Copies: the step gives its buffers back one by one, so they can't be shared.
    ema = jax.tree.map(jnp.copy, trained) if state.ema is not None else None
    counts = (jax.device_put(jnp.zeros((), jnp.int32), state.step.sharding) for _ in range(2))
    return TrainState(trained, ema, moments(trained), *counts), fixed


def compute_copy(params: Any, dtype: Any) -> Any:
    """Matrices in the compute type, once instead of in every layer; what the network keeps in float32 (norms,
    biases, the time embedding) stays. The network's answer is the same.
    """

    def one(path: Any, x: jax.Array) -> jax.Array:
        names = [p.key for p in path]
        return x.astype(dtype) if names[-1] == "kernel" and "time_embed" not in names else x

    return jax.tree_util.tree_map_with_path(one, params)


def networks(params: Any, frozen: Frozen, alpha: float) -> Any:
    """The two stacks' variables as `Denoiser` takes them: trained and frozen together, adapters merged.

    alpha: the adapters' scale, `config.lora.alpha`.
    """
    whole = partition.merge({k: v for k, v in params.items() if k != LORA}, frozen.params)
    if LORA in params:
        whole = lora.apply(whole, params[LORA], alpha)
    return {name: {"params": whole[name], "buffers": frozen.buffers[name]} for name in frozen.buffers}


def as_arrays(params: Any, frozen: Frozen, alpha: float) -> dict[str, Any]:
    """`checkpoints.Model.arrays` of trained parameters."""
    variables = jax.jit(networks)(params, frozen, alpha)
    return {**variables, "codec": frozen.codec, "null_text": frozen.null_text}


def averaged(state: TrainState) -> Any:
    """The weights that a model is made of."""
    return state.params if state.ema is None else state.ema
