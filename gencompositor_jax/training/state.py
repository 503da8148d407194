"""The state that a run carries from step to step, how it is initialised, and the model made of it."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import optax
from jax.sharding import Mesh

from gencompositor_jax import checkpoints, sharding
from gencompositor_jax.arch import ModelArch
from gencompositor_jax.codec import linear
from gencompositor_jax.errors import InputError
from gencompositor_jax.training import lora, partition
from gencompositor_jax.training.initial_weights import initial_weights

LORA = "lora"  # the adapters' key beside the stacks


class TrainState(NamedTuple):
    """What is trained, in float32, with its EMA and the optimiser's moments."""

    params: Any  # of `ModelArch.stacks` and "lora": only what is trained
    ema: Any  # the same tree, or None
    optimizer: optax.OptState
    step: jax.Array  # int32: steps done
    skipped: jax.Array  # int32: steps among them that changed nothing, as their gradients were not finite


class Frozen(NamedTuple):
    """What training reads and never changes."""

    params: Any  # of `ModelArch.stacks`: what isn't trained, in the compute dtype
    buffers: Any  # of `ModelArch.stacks`
    codec: Any
    null_text: jax.Array
    teacher: Any = None  # of `ModelArch.stacks`: with `config.distill`, what the run started from


def make_optimizer(config: ml_collections.ConfigDict) -> optax.GradientTransformation:
    """AdamW: linear warm-up, one cosine cycle to zero, clipping by the global norm, weight decay of matrices.

    Raises InputError unless the warm-up ends before the run does.
    """
    o = config.optimizer
    if o.warmup >= config.steps:
        raise InputError(f"optimizer.warmup={o.warmup}: must be below steps={config.steps}")
    schedule = optax.warmup_cosine_decay_schedule(0.0, o.learning_rate, o.warmup, config.steps)
    decay = optax.add_decayed_weights(o.weight_decay, mask=_is_matrix)
    return optax.chain(
        optax.clip_by_global_norm(o.clip),
        optax.scale_by_adam(o.b1, o.b2),
        decay,
        optax.scale_by_learning_rate(schedule),
    )


def _is_matrix(params: Any) -> Any:
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key in ("kernel", "a", "b"), params)


def shapes(
    config: ml_collections.ConfigDict, arch: ModelArch, optimizer: optax.GradientTransformation, mesh: Mesh
) -> tuple[TrainState, Frozen]:
    """The state and the frozen arrays as jax.ShapeDtypeStructs with shardings; allocates nothing.

    `config.trainable` selects what is trained; with `config.lora.rank` above 0 the adapters are trained too.
    Shardings follow `config.sharding.rules`, on paths such as backbone/blocks/attention/query/kernel; moments
    and EMA are sharded as their parameters. Raises InputError if one of these doesn't fit.
    """
    key, replicated = jax.random.key(0), sharding.replicated(mesh)
    model_shapes = checkpoints.array_shapes(arch)
    params = {name: model_shapes[name]["params"] for name in arch.stacks}
    trained, frozen = _split(params, config.trainable)
    if config.lora.rank:
        adapters = jax.eval_shape(lambda k: lora.init(k, params, config.lora.rank, config.lora.targets), key)
        trained = {**trained, LORA: adapters}
    if not trained:
        raise InputError("trainable='' with lora.rank=0: nothing would be trained; pass a regular expression")

    def with_shardings(tree: Any, shardings: Any) -> Any:
        return jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), tree, shardings)

    def with_replication(tree: Any) -> Any:
        return with_shardings(tree, jax.tree.map(lambda _: replicated, tree))

    shardings = sharding.shardings(trained, mesh, config.sharding.rules)
    trained = with_shardings(trained, shardings)
    moments = jax.eval_shape(optimizer.init, trained)
    moment_shardings = optax.tree.map_params(
        optimizer, lambda _, s: s, moments, shardings, transform_non_params=lambda _: replicated
    )
    count = with_replication(jax.ShapeDtypeStruct((), jnp.int32))
    ema = trained if config.optimizer.ema else None
    state = TrainState(trained, ema, with_shardings(moments, moment_shardings), count, count)

    def held(tree: Any) -> Any:
        cast = jax.eval_shape(lambda tree: compute_copy(tree, config.compute_dtype), tree)
        return with_shardings(cast, sharding.shardings(cast, mesh, config.sharding.rules))

    frozen, teacher = held(frozen), held(params) if config.distill.intervals else None
    buffers = with_replication({name: model_shapes[name]["buffers"] for name in arch.stacks})
    return state, Frozen(
        frozen,
        buffers,
        with_replication(model_shapes["codec"]),
        with_replication(model_shapes["null_text"]),
        teacher,
    )


def _split(params: Any, trainable: str) -> tuple[Any, Any]:
    """(trained, frozen) parameters; an empty expression freezes all."""
    return partition.split(params, trainable) if trainable else ({}, params)


def initial_state(
    config: ml_collections.ConfigDict,
    arch: ModelArch,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    restored: TrainState | None = None,
    basis: linear.Basis | None = None,
) -> tuple[TrainState, Frozen]:
    """The state of step 0, or the restored one, and the frozen arrays, with the shardings of `shapes`.

    Weights are initialised or those of the checkpoint `config.init`. Raises InputError if that doesn't fit.
    basis: of the linear codec, NumPy, the same on every process (`codec_basis`); None keeps the codec's
    parameters.
    """
    state, frozen = shapes(config, arch, optimizer, mesh)
    weights_key, adapters_key = jax.random.split(jax.random.key(config.seed))
    stack_params = {k: v for k, v in state.params.items() if k != LORA}
    params_shardings, buffers_shardings = jax.tree.map(
        lambda x: x.sharding, (partition.merge(stack_params, frozen.params), frozen.buffers)
    )
    variables, codec, null_text = initial_weights(
        arch,
        config.init,
        weights_key,
        {
            name: {"params": params_shardings[name], "buffers": buffers_shardings[name]}
            for name in arch.stacks
        },
        missing=config.init_missing,
    )
    if basis is not None:
        codec = jax.tree.map(_everywhere, basis._asdict(), jax.tree.map(lambda x: x.sharding, codec))
    params = {name: variables[name]["params"] for name in arch.stacks}
    trained, untrained = _split(params, config.trainable)
    if config.lora.rank:
        like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), params)
        init = jax.jit(
            lambda k: lora.init(k, like, config.lora.rank, config.lora.targets),
            out_shardings=jax.tree.map(lambda x: x.sharding, state.params[LORA]),
        )
        trained = {**trained, LORA: init(adapters_key)}
    teacher = None
    if config.distill.intervals:
        copy = jax.jit(compute_copy, static_argnums=1)
        teacher = jax.tree.map(jnp.copy, copy(params, config.compute_dtype))
    del params
    cast = jax.jit(compute_copy, static_argnums=1, donate_argnums=0)
    frozen = Frozen(
        cast(untrained, config.compute_dtype),
        {name: variables[name]["buffers"] for name in arch.stacks},
        codec,
        null_text,
        teacher,
    )
    if restored is not None:
        return restored, frozen
    moments = jax.jit(optimizer.init, out_shardings=jax.tree.map(lambda x: x.sharding, state.optimizer))
    # Copies: the step donates each buffer of its state, so none may be in it twice.
    ema = jax.tree.map(jnp.copy, trained) if state.ema is not None else None
    counts = (jax.device_put(jnp.zeros((), jnp.int32), state.step.sharding) for _ in range(2))
    return TrainState(trained, ema, moments(trained), *counts), frozen


def _everywhere(x: Any, where: jax.sharding.Sharding) -> jax.Array:
    """A global array of an array that every process has."""
    return jax.make_array_from_callback(x.shape, where, lambda index: x[index])


def compute_copy(params: Any, dtype: Any) -> Any:
    """The parameters with their matrices in the compute dtype, cast once instead of in every layer.

    What the network computes in float32 (norms, biases, the time embedding) is left as it is, so the
    network's output is the same.
    """

    def cast(path: Any, x: jax.Array) -> jax.Array:
        names = [p.key for p in path]
        return x.astype(dtype) if names[-1] == "kernel" and "time_embed" not in names else x

    return jax.tree_util.tree_map_with_path(cast, params)


def network_variables(params: Any, frozen: Frozen, alpha: float) -> Any:
    """The variables that `Denoiser` takes: trained and frozen parameters together, with merged adapters.

    alpha: the adapters' scale, `config.lora.alpha`.
    """
    merged = partition.merge({k: v for k, v in params.items() if k != LORA}, frozen.params)
    if LORA in params:
        merged = lora.apply(merged, params[LORA], alpha)
    return {name: {"params": merged[name], "buffers": frozen.buffers[name]} for name in frozen.buffers}


def model_arrays(params: Any, frozen: Frozen, alpha: float) -> dict[str, Any]:
    """`checkpoints.Model.arrays` of trained parameters; see `network_variables`."""
    variables = jax.jit(network_variables)(params, frozen, alpha)
    return {**variables, "codec": frozen.codec, "null_text": frozen.null_text}


def model_params(state: TrainState) -> Any:
    """The parameters that a model is made of: the EMA if there is one."""
    return state.params if state.ema is None else state.ema
