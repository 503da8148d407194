"""Where the weights of a run begin: fresh, or those of a model checkpoint that fit.

Every array is made or read where it will live: no process holds more of it than its own devices' shares.
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
    """How a checkpoint's arrays fit an architecture."""

    taken: tuple[str, ...]  # paths of arrays to read
    fresh: tuple[str, ...]  # paths of arrays that the checkpoint can't fill
    problems: tuple[str, ...]  # what doesn't fit, for people: one line per array
    differences: tuple[str, ...]  # the architectures' fields that differ, for people


def begin(
    arch: ModelArch,
    init: str,
    key: jax.Array,
    shardings: Any,
    dtype: Any = jnp.float32,
    missing: str = "error",
) -> tuple[Any, Any, jax.Array]:
    """The variables, the codec's parameters and the null text that a run starts from.

    Args:
        arch: of the run.
        init: folder of a model checkpoint, or "" for fresh weights.
        key: of fresh weights; the same on every process.
        shardings: of the variables: a tree like that of `Denoiser(arch).init`. Codec and null text get a
            copy on every device of the first one's mesh.
        dtype: of all arrays.
        missing: "error", or "fresh": network arrays that the checkpoint lacks or has in another shape start
            fresh, and a line on stderr lists them.

    Position tables come from the checkpoint where it has the run's token grid and layout, and are computed
    otherwise. Facts of the checkpoint that differ from the run's are told on stderr.

    Returns:
        ({"backbone": ..., "branch": ...}, codec parameters, null text [L, D]).

    Raises:
        InputError: the checkpoint doesn't fit (with the list of arrays) or can't be read.
    """
    shapes = checkpoints.named_leaves(checkpoints.array_shapes(arch))
    if not init:
        fit = Fit((), tuple(shapes), (), ())
    else:
        fit = fitting(arch, Path(init))
        _judge(init, fit, missing)
    where = partition.flatten(shardings)
    everywhere = _everywhere(next(iter(where.values())))
    where |= dict.fromkeys((name for name in shapes if name not in where), everywhere)
    arrays = _make(arch, fit.fresh, key, where, dtype)
    arrays |= {name: _read(Path(init), name, where[name], dtype) for name in fit.taken}
    tree = {"codec": {}, **partition.unflatten(arrays)}
    return {name: tree[name] for name in ("backbone", "branch")}, tree["codec"], tree["null_text"]


def fitting(arch: ModelArch, folder: Path) -> Fit:
    """Compares a checkpoint with an architecture, reading no array. Raises InputError for what is none."""
    facts, stored = checkpoints.checked(folder)
    shapes = {
        name: tuple(leaf.shape)
        for name, leaf in checkpoints.named_leaves(checkpoints.array_shapes(arch)).items()
    }
    computed = set() if _same_positions(facts.arch, arch) else {n for n in shapes if "/buffers/" in n}
    problems = {}
    for name, shape in shapes.items():
        if name not in computed and name not in stored:
            problems[name] = f"missing {name} {shape}"
        elif name not in computed and stored[name].shape != shape:
            problems[name] = f"{name} is {stored[name].shape}, not {shape}"
    surplus = sorted(name for name in stored.keys() - shapes.keys() if not name.startswith("prompts/"))
    unused = [f"{name} {stored[name].shape} has no place" for name in surplus]
    fresh = computed | problems.keys()
    return Fit(
        tuple(name for name in shapes if name not in fresh),
        tuple(name for name in shapes if name in fresh),
        (*problems.values(), *unused),
        tuple(_differences(facts.arch, arch)),
    )


def _judge(init: str, fit: Fit, missing: str) -> None:
    """Raises InputError unless the run may start from what fits; says what doesn't."""
    if missing not in ("error", "fresh"):
        raise InputError(f"init_missing={missing!r}: pass 'error' or 'fresh'")
    listed = "; ".join(fit.problems)
    if fit.problems and missing == "error":
        raise InputError(
            f"init={init}: arrays do not fit this run's architecture: {listed}; pass another "
            "checkpoint, or init_missing='fresh' to start these afresh"
        )
    if any(name.startswith("codec/") for name in fit.fresh):
        raise InputError(f"init={init}: the codec isn't trained, so all of it must fit: {listed}")
    if jax.process_index() == 0:
        for what, lines in (
            ("starts afresh or isn't used", fit.problems),
            ("was trained otherwise", fit.differences),
        ):
            if lines:
                print(f"init={init}: {what}: {'; '.join(lines)}", file=sys.stderr, flush=True)


def _same_positions(a: ModelArch, b: ModelArch) -> bool:
    """Whether both have one table of added positions; tables of equal shape may be of another grid."""

    def facts(arch: ModelArch) -> tuple[Any, ...]:
        stacks = [(stack.width, stack.text_tokens) for stack in (arch.backbone, arch.branch)]
        return arch.token_grid, arch.layout, arch.position_scale, stacks

    return facts(a) == facts(b)


def _differences(theirs: ModelArch, ours: ModelArch) -> list[str]:
    a, b = (partition.flatten(arch_lib.to_json(arch)) for arch in (theirs, ours))
    return [f"{name} {a.get(name)}, here {b[name]}" for name in b if a.get(name) != b[name]]


def _everywhere(sharding: Sharding) -> Sharding:
    """A whole copy for each device of the mesh that a sharding is on."""
    if isinstance(sharding, NamedSharding):
        return NamedSharding(sharding.mesh, PartitionSpec())
    return sharding


def _make(
    arch: ModelArch, names: tuple[str, ...], key: jax.Array, where: dict[str, Sharding], dtype: Any
) -> dict[str, jax.Array]:
    """Fresh arrays by their paths; what isn't asked for is never computed."""

    def make(key: jax.Array) -> dict[str, jax.Array]:
        for_network, for_codec = jax.random.split(key)
        stack = arch.backbone
        everything = {
            **partition.flatten(Denoiser(arch).init(for_network)),
            **partition.flatten({"codec": codec.init_codec(for_codec, arch.codec)}),
            "null_text": jnp.zeros((stack.text_tokens, stack.text_dim)),
        }
        return {name: everything[name].astype(dtype) for name in names}

    if not names:
        return {}
    made: dict[str, jax.Array] = jax.jit(make, out_shardings={name: where[name] for name in names})(key)
    return made


def _read(folder: Path, name: str, sharding: Sharding, dtype: Any) -> jax.Array:
    try:
        return restore.read_sharded(restore.open_array(folder / "arrays", name), sharding, dtype)
    except (OSError, ValueError) as error:  # TensorStore has no error of its own for a damaged file
        raise InputError(
            f"{folder}/arrays: {name} can't be read ({error}); see `gencompositor inspect --verify`"
        ) from error
