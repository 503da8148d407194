"""Saves in a loop and is killed again and again, by SIGKILL at random moments: killed_saves.py FOLDER KILLS.

Prints a line of JSON for each kill: the last step that was surely saved before, what was left half written,
the step that came back, and whether all its numbers are right. Processes are forked after the imports, which
take longer than all else.
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
from gencompositor_jax.training.checkpoints import open_checkpoints

SHAPE = (64, 2**14)  # 4 MB: a save takes some hundredths of a second


def state(step):
    """Every array says the step."""
    full = {f"part{i}": jnp.full(SHAPE, step * 10 + i, jnp.float32) for i in range(4)}
    return {**full, "step": jnp.asarray(step, jnp.int32)}


def save_for_ever(folder, pipe):
    """Writes a line when a save starts."""
    with open_checkpoints(folder, keep_last=2) as checkpoints:
        restored = checkpoints.restore(state(0))
        step = 0 if restored is None else restored.step
        while True:
            step += 1
            os.write(pipe, f"{step}\n".encode())
            checkpoints.save(step, state(step), {"next": step})
            checkpoints.wait()


def read(folder, pipe):
    """Writes what comes back."""
    with open_checkpoints(folder, keep_last=2) as checkpoints:
        step, got, data = checkpoints.restore(state(0))
    whole = data == {"next": step} and all(
        np.array_equal(got[name], want) for name, want in state(step).items()
    )
    os.write(pipe, json.dumps({"restored": step, "whole": bool(whole)}).encode())


def forked(job, folder):
    """The child and the end of a pipe that it writes into."""
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
    """See the module."""
    draw = random.Random(0)
    for _ in range(kills):
        child, lines = forked(save_for_ever, folder)
        lines.readline()  # the first save of a process takes longer than others
        lines.readline()
        began = time.monotonic()
        started = lines.readline()
        time.sleep(draw.random() * (time.monotonic() - began))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        started = int((started + lines.read()).split()[-1])
        unfinished = [path.name for path in folder.iterdir() if not path.name.isdigit()]
        left = resume.steps(folder)
        child, answer = forked(read, folder)
        os.waitpid(child, 0)
        found = json.loads(answer.read() or '{"whole": false}')
        print(json.dumps({"saved": started - 1, "left": left, "unfinished": len(unfinished), **found}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
