"""The weights that a run starts from: newly initialised, or those of a model checkpoint that fit.

Every array is created or read with its final sharding: no process holds more of it than its own shards.
"""

import sys
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec, Sharding

from gencompositor_jax import arch as arch_lib
from gencompositor_jax import checkpoints, codec
from gencompositor_jax.arch import ModelArch
from gencompositor_jax.checkpoints import restore
from gencompositor_jax.errors import InputError
from gencompositor_jax.model.denoiser import Denoiser
from gencompositor_jax.training import partition


class Fit(NamedTuple):
    """How a checkpoint fits an architecture."""

    loaded: tuple[str, ...]  # paths of the arrays to read
    fresh: tuple[str, ...]  # paths of the arrays to initialise
    problems: tuple[str, ...]  # one text per array that doesn't fit
    differences: tuple[str, ...]  # one text per field in which the architectures differ


def initial_weights(
    arch: ModelArch,
    init: str,
    key: jax.Array,
    shardings: Any,
    dtype: Any = jnp.float32,
    missing: str = "error",
) -> tuple[Any, Any, jax.Array]:
    """The variables, the codec's parameters and the null text that a run starts from.

    Position tables are read from the checkpoint if it has the run's token grid and layout, else computed.
    Fields in which the checkpoint's architecture differs from the run's are printed on stderr.

    Args:
        arch: of the run.
        init: folder of a model checkpoint, or "" to initialise all weights.
        key: for the initialisation; the same on every process.
        shardings: of the variables: a tree like that of `Denoiser(arch).init`. Codec and null text are
            replicated over the mesh of its first leaf.
        dtype: of all arrays.
        missing: "error", or "fresh" to initialise network arrays that the checkpoint lacks or has in another
            shape, and list them on stderr.

    Returns:
        (variables of `ModelArch.stacks`, codec parameters, null text [L, D]).

    Raises:
        InputError: the checkpoint doesn't fit (with the list of arrays) or can't be read.
    """
    shapes = checkpoints.named_leaves(checkpoints.array_shapes(arch))
    if not init:
        fit = Fit((), tuple(shapes), (), ())
    else:
        fit = compare(arch, Path(init))
        _check(init, fit, missing)
    sharding_of = partition.flatten(shardings)
    replicated = _replicated(next(iter(sharding_of.values())))
    sharding_of |= dict.fromkeys((name for name in shapes if name not in sharding_of), replicated)
    arrays = _initialise(arch, fit.fresh, key, sharding_of, dtype)
    arrays |= {name: _read(Path(init), name, sharding_of[name], dtype) for name in fit.loaded}
    tree = {"codec": {}, **partition.unflatten(arrays)}
    return {name: tree[name] for name in arch.stacks}, tree["codec"], tree["null_text"]


def compare(arch: ModelArch, folder: Path) -> Fit:
    """Compare a checkpoint with an architecture, reading no arrays. Raises InputError if there is none."""
    metadata, stored = checkpoints.validate(folder)
    shapes = {
        name: tuple(leaf.shape)
        for name, leaf in checkpoints.named_leaves(checkpoints.array_shapes(arch)).items()
    }
    computed = set() if _same_positions(metadata.arch, arch) else {n for n in shapes if "/buffers/" in n}
    problems = {}
    for name, shape in shapes.items():
        if name not in computed and name not in stored:
            problems[name] = f"missing {name} {shape}"
        elif name not in computed and stored[name].shape != shape:
            problems[name] = f"{name} is {stored[name].shape}, not {shape}"
    surplus = sorted(name for name in stored.keys() - shapes.keys() if not name.startswith("prompts/"))
    unexpected = [f"{name} {stored[name].shape} is unexpected" for name in surplus]
    fresh = computed | problems.keys()
    return Fit(
        tuple(name for name in shapes if name not in fresh),
        tuple(name for name in shapes if name in fresh),
        (*problems.values(), *unexpected),
        tuple(_differences(metadata.arch, arch)),
    )


def _check(init: str, fit: Fit, missing: str) -> None:
    """Raise InputError unless the run may start from what fits; print what doesn't."""
    if missing not in ("error", "fresh"):
        raise InputError(f"init_missing={missing!r}: pass 'error' or 'fresh'")
    problems = "; ".join(fit.problems)
    if fit.problems and missing == "error":
        raise InputError(
            f"init={init}: arrays do not fit this run's architecture: {problems}; pass another "
            "checkpoint, or init_missing='fresh' to initialise these"
        )
    if any(name.startswith("codec/") for name in fit.fresh):
        raise InputError(f"init={init}: the codec isn't trained, so all of it must fit: {problems}")
    if jax.process_index() == 0:
        for label, lines in (
            ("initialised or not used", fit.problems),
            ("the checkpoint's architecture differs", fit.differences),
        ):
            if lines:
                print(f"init={init}: {label}: {'; '.join(lines)}", file=sys.stderr, flush=True)


def _same_positions(a: ModelArch, b: ModelArch) -> bool:
    """Whether both have the same position tables; those of different grids may have equal shapes."""

    def fields(arch: ModelArch) -> tuple[Any, ...]:
        stacks = [(stack.width, stack.text_tokens) for stack in arch.stacks.values()]
        return arch.token_grid, arch.layout, arch.fusion == "channels", arch.position_scale, stacks

    return fields(a) == fields(b)


def _differences(stored: ModelArch, wanted: ModelArch) -> list[str]:
    theirs, ours = (partition.flatten(arch_lib.to_json(arch)) for arch in (stored, wanted))
    return [
        f"{name} {theirs.get(name)}, here {ours[name]}" for name in ours if theirs.get(name) != ours[name]
    ]


def _replicated(sharding: Sharding) -> Sharding:
    """The sharding that replicates an array over the mesh of another one."""
    if isinstance(sharding, NamedSharding):
        return NamedSharding(sharding.mesh, PartitionSpec())
    return sharding


def _initialise(
    arch: ModelArch, names: tuple[str, ...], key: jax.Array, sharding_of: dict[str, Sharding], dtype: Any
) -> dict[str, jax.Array]:
    """New arrays by their paths; under jit, what isn't asked for is never computed."""

    def init(key: jax.Array) -> dict[str, jax.Array]:
        network_key, codec_key = jax.random.split(key)
        stack = arch.backbone
        arrays = {
            **partition.flatten(Denoiser(arch).init(network_key)),
            **partition.flatten({"codec": codec.init_codec(codec_key, arch.codec)}),
            "null_text": jnp.zeros((stack.text_tokens, stack.text_dim)),
        }
        return {name: arrays[name].astype(dtype) for name in names}

    if not names:
        return {}
    out_shardings = {name: sharding_of[name] for name in names}
    arrays: dict[str, jax.Array] = jax.jit(init, out_shardings=out_shardings)(key)
    return arrays


def _read(folder: Path, name: str, sharding: Sharding, dtype: Any) -> jax.Array:
    try:
        return restore.read_sharded(restore.open_array(folder / "arrays", name), sharding, dtype)
    except (OSError, ValueError) as error:  # TensorStore has no error class of its own for a damaged file
        raise InputError(
            f"{folder}/arrays: {name} can't be read ({error}); see `gencompositor inspect --verify`"
        ) from error
