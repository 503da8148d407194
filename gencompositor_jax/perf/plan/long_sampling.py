"""The programs of sampling a clip that is longer than the model's, in chunks and windows.

The functions are those of `inference.long_clips`, with shapes in place of their arguments.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gencompositor_jax import codec, sharding
from gencompositor_jax.arch import ModelArch
from gencompositor_jax.codec import chunks
from gencompositor_jax.diffusion import sampler
from gencompositor_jax.inference import long_clips
from gencompositor_jax.inference.windows import window_starts
from gencompositor_jax.model.denoiser import LatentConditions
from gencompositor_jax.perf import flops
from gencompositor_jax.perf.plan.workloads import Program, under_mesh, weights_of


def programs(arch: ModelArch, mesh: Mesh, frames: int, dtype: Any = jnp.bfloat16) -> list[Program]:
    """Encoding of the first chunk and of a further one, the network on a window (on as many as the mesh has
    rows), the solver on a block of latent frames, decoding of both chunks.

    dtype: of the weights, and of the network's computation. Raises InputError where the mesh doesn't divide
    the heads.
    """
    weights, fixed = weights_of(arch, mesh, dtype)
    stacks, (params, text) = weights["weights"], fixed["codec"]
    length = codec.padded_frames(arch.codec, frames)
    size, *cell = arch.latent_shape
    total = long_clips.latent_frames(arch, length)

    def encode(count: int, state: Any, first: bool) -> tuple[Any, ...]:
        made = (count - 1) // arch.codec.time_factor + 1 if first else count // arch.codec.time_factor
        return params, _host(1, count, arch.height, arch.width, 3), _host(1, made, *cell), state

    def decode(count: int, state: Any, first: bool) -> tuple[Any, ...]:
        return params, _host(1, count, *cell), state

    def chunked(name: str, program: Any, arguments: Any, sizes: Sequence[int], videos: int) -> list[Program]:
        """The programs of the first chunk and of the others, which are of one size."""
        given = arguments(sizes[0], None, True)
        with jax.set_mesh(mesh):
            state = jax.eval_shape(lambda *given: program(*given, arch=arch), *given)[1]
            state = jax.tree.map(lambda x: _sharded(x, mesh), state)
        calls = [(f"{name} first chunk", given, videos)]
        if len(sizes) > 1:
            calls.append((f"{name} chunk", arguments(sizes[1], state, False), videos * (len(sizes) - 1)))
        return [
            Program(
                name, _lower(mesh, program, given, arch), {**fixed, "chunk": given[1:]}, weights, runs=runs
            )
            for name, given, runs in calls
        ]

    rows = sharding.axis_size(mesh, sharding.ROWS)
    over_rows = sharding.by_rows(mesh)

    def windows(*shape: int, kind: Any = jnp.float32) -> Any:
        return jax.ShapeDtypeStruct((rows, size, *shape), kind, sharding=over_rows)

    offsets = None if arch.offset_cell is None else windows(2, kind=jnp.int32)
    latents = windows(*cell)
    seen = LatentConditions(latents, latents, windows(*cell[:-1], 1), offsets)
    number = jax.ShapeDtypeStruct((), jnp.int32)
    predict = stacks, text, None, seen, latents, number, None

    block = _host(1, size, *cell)
    part = jax.tree.map(
        lambda c: jax.ShapeDtypeStruct((1,), jnp.int32 if c.dtype.kind == "i" else jnp.float32),
        sampler.coefficients(arch.diffusion, arch.diffusion.steps, arch.diffusion.solver),
    )
    key = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), 1))
    keys = jax.ShapeDtypeStruct(key.shape, key.dtype, sharding=sharding.replicated(mesh))
    solve = block, sampler.SolverState(block, block), number, part, keys, number, None

    steps, groups = arch.diffusion.steps, -(-len(window_starts(total, size)) // rows)
    return [
        *chunked(
            "encode",
            long_clips.encode_chunk,
            encode,
            chunks.chunk_sizes(length, chunks.frames_per_chunk(arch.codec)),
            2,
        ),
        Program(
            "denoising step",
            _lower(mesh, long_clips.predict, predict, arch),
            {**weights, "latents": (seen, latents)},
            fixed,
            rows * flops.forward(arch),
            runs=steps * groups,
        ),
        Program(
            "solver",
            _lower(mesh, long_clips.solve, solve, arch),
            {"latents": solve[:2]},
            {**weights, **fixed},
            runs=steps * -(-total // size),
        ),
        *chunked(
            "decode",
            long_clips.decode_chunk,
            decode,
            chunks.chunk_sizes(total, chunks.latents_per_chunk(arch.codec)),
            1,
        ),
    ]


def _host(*shape: int) -> Any:
    """An array of the host, float32."""
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _sharded(x: Any, mesh: Mesh) -> Any:
    """A state between two chunks, with the sharding that `long_clips` gives it."""
    axes = () if mesh.size == 1 else sharding.fitting_spec(x.shape, *long_clips.OVER_ROWS)
    where = NamedSharding(mesh, PartitionSpec(*axes))
    return jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=where)


def _lower(
    mesh: Mesh, program: Any, given: tuple[Any, ...], arch: ModelArch
) -> Callable[[], jax.stages.Lowered]:
    return under_mesh(mesh, lambda: program.lower(*given, arch=arch))
