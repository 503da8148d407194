import types

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec as P

from gencompositor_jax import sharding
from gencompositor_jax.perf.plan import memory
from gencompositor_jax.perf.plan.workloads import Program

GIB = 2**30


def sharded(mesh, shape, *axes, dtype=jnp.float32):
    return jax.ShapeDtypeStruct(shape, dtype, sharding=jax.sharding.NamedSharding(mesh, P(*axes)))


def test_bytes_per_device_follow_the_shardings():
    mesh = sharding.make_mesh({"fsdp": 4, "tensor": 2})
    tree = {
        "sharded": sharded(mesh, (16, 8), "fsdp", "tensor"),
        "replicated": sharded(mesh, (3,), dtype=jnp.bfloat16),
        "key": sharded(mesh, (4,), ("data", "fsdp"), dtype=jax.random.key(0).dtype),
    }
    assert memory.bytes_per_device(tree) == 16 * 8 * 4 // 8 + 3 * 2 + 8


def test_a_program_holds_its_arguments_waiting_arrays_and_xlas_own():
    mesh = sharding.make_mesh({"fsdp": -1})
    w, x = sharded(mesh, (512, 512)), sharded(mesh, (512, 512), "fsdp")
    program = Program(
        "p", lambda: jax.jit(lambda w, x: jnp.sin(x @ w) @ w).lower(w, x), {"w": w, "x": x}, {"next": x}
    )
    found = memory.of(program, program.lower().compile())
    whole, shard = 512 * 512 * 4, 512 * 512 * 4 // 8
    assert (found.kinds["w"], found.kinds["x"], found.kinds["next"]) == (whole, shard, shard)
    assert found.outputs == shard and found.temporaries > 0
    assert found.total == sum(found.kinds.values()) >= whole + 3 * shard


def test_offloaded_arrays_are_not_part_of_the_device():
    """By the figures of a compiler that can offload; the CPU's can't."""
    mesh = sharding.make_mesh({"fsdp": -1})
    x = sharded(mesh, (512, 512), "fsdp")
    stats = types.SimpleNamespace(
        argument_size_in_bytes=memory.bytes_per_device(x),
        output_size_in_bytes=0,
        alias_size_in_bytes=0,
        temp_size_in_bytes=7,
        generated_code_size_in_bytes=0,
        host_temp_size_in_bytes=5 * GIB,
    )
    compiled = types.SimpleNamespace(memory_analysis=lambda: stats)
    found = memory.of(Program("p", lambda: None, {"x": x}), compiled)
    assert (found.host, found.total) == (5 * GIB, memory.bytes_per_device(x) + 7)


@pytest.mark.parametrize(
    "text, needed",
    [
        (
            "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries "
            "(128.00G) exceeds available HBM (31.25G).",
            128 * GIB,
        ),
        (
            "RESOURCE_EXHAUSTED: Ran out of memory in memory space hbm. Used 20.5G of 15.75G hbm.",
            int(20.5 * GIB),
        ),
        ("INVALID_ARGUMENT: something else (3.00G)", None),
    ],
)
def test_memory_needed_by_a_failed_compilation(text, needed):
    assert memory.needed_by(RuntimeError(text)) == needed
