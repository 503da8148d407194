"""What two processes of two devices do together: checkpoints_together.py FOLDER MODEL, and who they are.

Saves, reads, finds damage and is told to stop, step by step; each step is printed with what came of it.
"""

import argparse
import time
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gencompositor_jax import sharding
from gencompositor_jax.errors import InputError
from gencompositor_jax.training import distributed, preemption, resume
from gencompositor_jax.training.checkpoints import open_checkpoints

ROWS = 2**15  # 1 MB an array: files large enough for each process to hash its own share of them


def values(step):
    """The state of a step: arrays that are cut, one that all devices have, and a number."""
    rng = np.random.default_rng(step)
    cut = {name: rng.normal(size=(ROWS, 8)).astype(np.float32) for name in ("a", "b", "c")}
    return {"params": cut, "shared": np.full(5, step, np.float32), "step": np.int32(step)}


def place(tree, sharding_of):
    """NumPy arrays as arrays of all processes."""
    return jax.tree.map(
        lambda x: jax.make_array_from_callback(x.shape, sharding_of(x.shape), lambda at: x[at]), tree
    )


def same(got, want):
    """Whether the shares that this process holds are right."""
    return all(
        np.array_equal(share.data, y[share.index])
        for x, y in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True)
        for share in x.addressable_shards
    )


def refused(job):
    """The text of the InputError that a job raises."""
    try:
        job()
    except InputError as error:
        return str(error)
    return "nothing"


def main():
    """See the module."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("model")
    parser.add_argument("--coordinator")
    parser.add_argument("--processes", type=int)
    parser.add_argument("--process", type=int)
    args = parser.parse_args()
    distributed.start(args.coordinator, args.processes, args.process, 60.0)
    mesh = sharding.make_mesh({"data": 2, "fsdp": 2, "context": 1, "tensor": 1})
    other = Mesh(np.array(jax.devices()), ("x",))
    with distributed.together(), jax.set_mesh(mesh):
        run(args, mesh, other)


def run(args, mesh, other):
    """The steps."""
    first = jax.process_index() == 0
    folder = args.folder / "run"

    def by_rows(shape):
        return NamedSharding(mesh, PartitionSpec(("fsdp", "data")) if len(shape) == 2 else PartitionSpec())

    def by_columns(shape):
        return NamedSharding(other, PartitionSpec(None, "x") if len(shape) == 2 else PartitionSpec())

    like = jax.tree.map(
        lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=by_columns(x.shape)), values(0)
    )
    with open_checkpoints(folder, keep_last=2) as checkpoints:
        for step in (10, 20, 30):
            checkpoints.save(step, place(values(step), by_rows), {"next": step})
        got = checkpoints.restore(like)
        print(f"restored {got.step} {got.data['next']} {same(got.state, values(30))}")

        # One byte of one file, which one process alone looks at.
        files = sorted((folder / "30" / "state").glob("ocdbt.process_1/d/*"), key=lambda f: f.stat().st_size)
        if first:
            data = bytearray(files[-1].read_bytes())
            data[len(data) // 2] ^= 1
            files[-1].write_bytes(data)
        multihost_utils.sync_global_devices("damaged")
        got = checkpoints.restore(like)
        print(f"fell back to {got.step} {same(got.state, values(20))} {resume.steps(folder)}")
        taken = resume.partial(folder, place(values(1), by_columns), "params/b")
        want = values(1)
        want["params"]["b"] = values(20)["params"]["b"]
        print(f"taken {same(taken, want)}")

        # A model.
        model = checkpoints.load(args.model)
        arrays = place(model.arrays, lambda shape: by_rows(shape if shape[:1] == (ROWS,) else ()))
        cut = NamedSharding(other, PartitionSpec("x"))
        arrays = jax.tree.map(lambda x: jax.device_put(x, cut) if divides(x.shape) else x, arrays)
        arrays["null_text"] = model.arrays["null_text"]  # the same on every host: the first writes it
        spread = checkpoints.Model(model.arch, arrays, {"from": "two processes"})
        checkpoints.save(args.folder / "model", spread, dtype="bfloat16")
        print(f"model there: {(args.folder / 'model' / 'manifest.json').exists()}")
        print("again:", refused(lambda: checkpoints.save(args.folder / "model", spread)))
        own = args.folder / f"own{jax.process_index()}"
        print("own folder:", refused(lambda: open_checkpoints(own, keep_last=1)))

        # Notice.
        with preemption.watch() as notice:
            for step in range(31, 1000):
                time.sleep(0.02)
                multihost_utils.sync_global_devices("step")
                if step == 35:
                    print("running")
                if notice.reached(step):
                    checkpoints.save(step, place(values(step), by_rows), {"next": step})
                    checkpoints.wait()
                    print(f"stopped at {step}: {resume.steps(folder)}")
                    return


def divides(shape):
    """Whether an array can be cut in four along its first axis."""
    return len(shape) > 0 and shape[0] % 4 == 0


if __name__ == "__main__":
    main()
