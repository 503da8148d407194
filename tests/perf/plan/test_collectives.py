import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec as P

from gencompositor_jax.perf.plan import collectives, hlo

TURNS, ROWS, COLUMNS = 5, 64, 32
SHARE = ROWS // 8 * COLUMNS * 4  # bytes of one device's rows


def sent(exchange, axes=("x",), shape=(8,)) -> dict[str, collectives.Traffic]:
    """What a device sends when `exchange` is done TURNS times on its rows."""
    mesh = jax.make_mesh(shape, axes, axis_types=(jax.sharding.AxisType.Auto,) * len(axes))

    @functools.partial(jax.shard_map, mesh=mesh, in_specs=P(axes), out_specs=P(axes), check_vma=False)
    def run(x):
        def turn(x, _):
            return jnp.sin(exchange(x)), None

        return jax.lax.scan(turn, x, None, length=TURNS)[0]

    text = jax.jit(run).lower(jax.ShapeDtypeStruct((ROWS, COLUMNS), jnp.float32)).compile().as_text()
    return {k: t for k, t in collectives.traffic(hlo.parse(text), 8).items() if t.calls}


def around(x, axis="x", n=8):
    return jax.lax.ppermute(x, axis, [(i, (i + 1) % n) for i in range(n)])


# By the shortest algorithms for eight devices, as factors of one device's rows.
EXCHANGES = {
    "all-gather": (lambda x: jax.lax.all_gather(x, "x", tiled=True).reshape(8, *x.shape).sum(0), 7),
    "reduce-scatter": (
        lambda x: jnp.tile(jax.lax.psum_scatter(x, "x", tiled=True), (8, 1)),
        7 / 8,
    ),
    "all-reduce": (lambda x: jax.lax.psum(x, "x"), 2 * 7 / 8),
    "all-to-all": (lambda x: jax.lax.all_to_all(x, "x", 0, 0, tiled=True), 7 / 8),
    "collective-permute": (around, 1),
}


@pytest.mark.parametrize("kind", EXCHANGES)
def test_every_kind_is_counted_once_per_iteration(kind):
    exchange, factor = EXCHANGES[kind]
    assert sent(exchange) == {kind: collectives.Traffic(TURNS, TURNS * round(factor * SHARE))}


def test_a_collective_along_one_axis_is_among_that_axis_devices():
    found = sent(lambda x: jax.lax.psum(x, "x"), axes=("x", "y"), shape=(2, 4))
    assert found == {"all-reduce": collectives.Traffic(TURNS, TURNS * SHARE)}  # 2 (2 - 1) / 2


@pytest.mark.parametrize(
    "attributes, size",
    [
        ("replica_groups={{0,1,2},{3,4,5}}, channel_id=1", 3),
        ("replica_groups=[2,4]<=[8]", 4),
        ("replica_groups=[4,2]<=[2,4]T(1,0), use_global_device_ids=true", 2),
        ("replica_groups={}", 8),
        ("replica_groups=mesh['x'=2,'y'=4] {'x'}, use_global_device_ids=true", 2),
        ("replica_groups=mesh['x'=2,'y'=4] {'x','y'}, use_global_device_ids=true", 8),
        ("replica_groups=mesh['x'=2,'y'=4] {'x','y':(1)2}, use_global_device_ids=true", 4),
    ],
)
def test_group_sizes_as_xla_writes_them(attributes, size):
    one = hlo.Instruction("a", "all-reduce", (), (), "", attributes)
    assert collectives.group_size(one, 8) == size


def test_one_device_sends_nothing():
    module = hlo.parse(jax.jit(lambda x: x @ x).lower(np.ones((4, 4), np.float32)).compile().as_text())
    assert not any(t.calls for t in collectives.traffic(module, 1).values())
