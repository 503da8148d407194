"""Saves in a loop and is killed repeatedly, by SIGKILL at random moments: killed_saves.py FOLDER KILLS.

Prints a JSON object for each kill: the last step whose save was complete, the number of unfinished folders,
the restored step, and whether it is restored exactly. Processes are forked after the imports, which take most
of the time.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from gencompositor_jax.training import resume
from gencompositor_jax.training.checkpointer import open_checkpointer

SHAPE = (64, 2**14)  # 4 MB: a save takes a few hundredths of a second


def state(step):
    """A state whose every array depends on the step."""
    full = {f"part{i}": jnp.full(SHAPE, step * 10 + i, jnp.float32) for i in range(4)}
    return {**full, "step": jnp.asarray(step, jnp.int32)}


def save_for_ever(folder, pipe):
    """Write the step to the pipe before each save."""
    with open_checkpointer(folder, keep_last=2) as checkpointer:
        restored = checkpointer.restore(state(0))
        step = 0 if restored is None else restored.step
        while True:
            step += 1
            os.write(pipe, f"{step}\n".encode())
            checkpointer.save(step, state(step), {"next_batch": step, "unreported": []})
            checkpointer.wait()


def read(folder, pipe):
    """Restore, and write the result to the pipe."""
    with open_checkpointer(folder, keep_last=2) as checkpointer:
        step, got, data = checkpointer.restore(state(0))
    exact = data == {"next_batch": step, "unreported": []} and all(
        np.array_equal(got[name], want) for name, want in state(step).items()
    )
    os.write(pipe, json.dumps({"restored": step, "exact": bool(exact)}).encode())


def forked(job, folder):
    """Run a job in a forked process. Returns its id and the pipe that it writes to, opened for reading."""
    ours, theirs = os.pipe()
    if child := os.fork():
        os.close(theirs)
        return child, os.fdopen(ours)
    try:
        job(folder, theirs)
    except BaseException as error:
        print(f"{job.__name__}: {error!r}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


def main(folder, kills):
    """See the module's docstring."""
    draw = random.Random(0)
    for _ in range(kills):
        child, lines = forked(save_for_ever, folder)
        lines.readline()  # the first save of a process takes longer than others
        lines.readline()
        save_start = time.monotonic()
        started = lines.readline()
        time.sleep(draw.random() * (time.monotonic() - save_start))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        started = int((started + lines.read()).split()[-1])
        unfinished = [path.name for path in folder.iterdir() if not path.name.isdigit()]
        left = resume.saved_steps(folder)
        child, result = forked(read, folder)
        os.waitpid(child, 0)
        found = json.loads(result.read() or '{"exact": false}')
        print(json.dumps({"saved": started - 1, "left": left, "unfinished": len(unfinished), **found}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
