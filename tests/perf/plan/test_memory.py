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


def test_a_share_is_what_one_device_holds():
    mesh = sharding.make_mesh({"fsdp": 4, "tensor": 2})
    tree = {
        "cut": sharded(mesh, (16, 8), "fsdp", "tensor"),
        "copied": sharded(mesh, (3,), dtype=jnp.bfloat16),
        "key": sharded(mesh, (4,), ("data", "fsdp"), dtype=jax.random.key(0).dtype),
    }
    assert memory.share(tree) == 16 * 8 * 4 // 8 + 3 * 2 + 8


def test_a_program_holds_its_arguments_what_waits_and_what_xla_adds():
    mesh = sharding.make_mesh({"fsdp": -1})
    w, x = sharded(mesh, (512, 512)), sharded(mesh, (512, 512), "fsdp")
    program = Program(
        "p", lambda: jax.jit(lambda w, x: jnp.sin(x @ w) @ w).lower(w, x), {"w": w, "x": x}, {"next": x}
    )
    found = memory.of(program, program.lower().compile())
    whole, share = 512 * 512 * 4, 512 * 512 * 4 // 8
    assert (found.kinds["w"], found.kinds["x"], found.kinds["next"]) == (whole, share, share)
    assert found.outputs == share and found.temporaries > 0
    assert found.total == sum(found.kinds.values()) >= whole + 3 * share


def test_what_lies_on_the_host_is_no_part_of_the_device():
    """As a compiler says it that can offload; the CPU's doesn't."""
    mesh = sharding.make_mesh({"fsdp": -1})
    x = sharded(mesh, (512, 512), "fsdp")
    stats = types.SimpleNamespace(
        argument_size_in_bytes=memory.share(x),
        output_size_in_bytes=0,
        alias_size_in_bytes=0,
        temp_size_in_bytes=7,
        generated_code_size_in_bytes=0,
        host_temp_size_in_bytes=5 * GIB,
    )
    compiled = types.SimpleNamespace(memory_analysis=lambda: stats)
    found = memory.of(Program("p", lambda: None, {"x": x}), compiled)
    assert (found.host, found.total) == (5 * GIB, memory.share(x) + 7)


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
def test_what_a_compilation_that_gave_up_needed(text, needed):
    assert memory.told_too_large(RuntimeError(text)) == needed
