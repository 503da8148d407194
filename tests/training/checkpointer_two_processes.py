"""Run by test_checkpointer_two_processes.py in two processes of two devices: FOLDER MODEL and the flags that
join them. Saves, restores, finds damage and is preempted; prints the result of each.
"""

import argparse
import time
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gencompositor_jax import checkpoints, sharding
from gencompositor_jax.errors import InputError
from gencompositor_jax.training import distributed, preemption, resume
from gencompositor_jax.training.checkpointer import open_checkpointer

ROWS = 2**15  # 1 MB per array: large enough that the processes divide the hashing


def values(step):
    """The state of a step: arrays to shard, one to replicate, and a scalar."""
    rng = np.random.default_rng(step)
    sharded = {name: rng.normal(size=(ROWS, 8)).astype(np.float32) for name in ("a", "b", "c")}
    return {"params": sharded, "replicated": np.full(5, step, np.float32), "step": np.int32(step)}


def to_devices(tree, sharding_of):
    """NumPy arrays as arrays sharded over the devices of all processes."""
    return jax.tree.map(
        lambda x: jax.make_array_from_callback(x.shape, sharding_of(x.shape), lambda at: x[at]), tree
    )


def same(got, want):
    """Whether the shards of this process are exact."""
    return all(
        np.array_equal(shard.data, y[shard.index])
        for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True)
        for shard in x.addressable_shards
    )


def refused(job):
    """The message of the InputError that a job raises."""
    try:
        job()
    except InputError as error:
        return str(error)
    return "nothing"


def main():
    """See the module's docstring."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("model")
    parser.add_argument("--coordinator")
    parser.add_argument("--processes", type=int)
    parser.add_argument("--process", type=int)
    args = parser.parse_args()
    distributed.initialize(args.coordinator, args.processes, args.process, 900.0)
    mesh = sharding.make_mesh({"data": 2, "fsdp": 2, "context": 1, "tensor": 1})
    other = Mesh(np.array(jax.devices()), ("x",))
    with distributed.exit_together(), jax.set_mesh(mesh):
        run(args, mesh, other)


def run(args, mesh, other):
    """Save, restore, damage, export, and stop on preemption."""
    first = jax.process_index() == 0
    folder = args.folder / "run"

    def by_rows(shape):
        return NamedSharding(mesh, PartitionSpec(("fsdp", "data")) if len(shape) == 2 else PartitionSpec())

    def by_columns(shape):
        return NamedSharding(other, PartitionSpec(None, "x") if len(shape) == 2 else PartitionSpec())

    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=by_columns(x.shape)), values(0)
    )
    with open_checkpointer(folder, keep_last=2) as checkpointer:
        for step in (10, 20, 30):
            checkpointer.save(step, to_devices(values(step), by_rows), {"next_batch": step, "unreported": []})
        got = checkpointer.restore(like)
        print(f"restored {got.step} {got.data['next_batch']} {same(got.state, values(30))}")

        # One byte of one file, which only one process verifies.
        files = sorted((folder / "30" / "state").glob("ocdbt.process_1/d/*"), key=lambda f: f.stat().st_size)
        if first:
            data = bytearray(files[-1].read_bytes())
            data[len(data) // 2] ^= 1
            files[-1].write_bytes(data)
        multihost_utils.sync_global_devices("damaged")
        got = checkpointer.restore(like)
        print(f"fell back to {got.step} {same(got.state, values(20))} {resume.saved_steps(folder)}")

        # A model.
        model = checkpoints.load(args.model)
        arrays = to_devices(model.arrays, lambda shape: by_rows(shape if shape[:1] == (ROWS,) else ()))
        rows = NamedSharding(other, PartitionSpec("x"))
        arrays = jax.tree.map(lambda x: jax.device_put(x, rows) if divides(x.shape) else x, arrays)
        arrays["null_text"] = model.arrays["null_text"]  # not sharded: the first process writes it
        sharded = checkpoints.Model(model.arch, arrays, {"from": "two processes"})
        checkpoints.save(args.folder / "model", sharded, dtype="bfloat16")
        print(f"model there: {(args.folder / 'model' / 'manifest.json').exists()}")
        print("again:", refused(lambda: checkpoints.save(args.folder / "model", sharded)))
        own = args.folder / f"own{jax.process_index()}"
        print("own folder:", refused(lambda: open_checkpointer(own, keep_last=1)))

        # Preemption.
        with preemption.Notice() as notice:
            for step in range(31, 20_000):
                time.sleep(0.02)
                multihost_utils.sync_global_devices("step")
                if step == 35:
                    print("running")
                if notice.should_stop(step):
                    checkpointer.save(
                        step, to_devices(values(step), by_rows), {"next_batch": step, "unreported": []}
                    )
                    checkpointer.wait()
                    print(f"stopped at {step}: {resume.saved_steps(folder)}")
                    return


def divides(shape):
    """Whether four devices can share the first axis of an array."""
    return len(shape) > 0 and shape[0] % 4 == 0


if __name__ == "__main__":
    main()
