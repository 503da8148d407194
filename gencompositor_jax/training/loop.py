"""The training loop, top to bottom: devices, state, data, step; then the steps, with what is told and saved
between them.

With several processes all of them run this, each with its own rows of every batch.
"""

import json
import time
from collections import deque
from collections.abc import Generator
from contextlib import ExitStack, closing
from pathlib import Path

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from gencompositor_jax import arch as arch_lib
from gencompositor_jax import checkpoints, sharding
from gencompositor_jax.data_pipelines.broken import Broken
from gencompositor_jax.data_pipelines.pipeline import Augmentation, batches
from gencompositor_jax.data_pipelines.source import ClipSource
from gencompositor_jax.data_pipelines.sources import open_source
from gencompositor_jax.errors import InputError
from gencompositor_jax.model.denoiser import Denoiser
from gencompositor_jax.perf import flops, hardware
from gencompositor_jax.training import metrics as metrics_lib
from gencompositor_jax.training import moments, preemption
from gencompositor_jax.training import state as state_lib
from gencompositor_jax.training.checkpoints import open_checkpoints
from gencompositor_jax.training.goodput import Goodput
from gencompositor_jax.training.profiling import Window
from gencompositor_jax.training.step import make_step
from gencompositor_jax.training.validation import Validation


def train(config: ml_collections.ConfigDict, workdir: Path, minutes: float | None = None) -> Path | None:
    """Trains to `config.steps`, for `minutes`, or until SIGTERM, whichever comes first; a later call goes on
    from the last checkpoint, on any mesh.

    Writes `workdir`/config.json, checkpoints/ (to go on from), metrics.jsonl and tensorboard/, sheets/,
    goodput.json, and at the end model/ (the averaged weights, for --checkpoint). Returns model/, or None
    after SIGTERM, when there is time for the checkpoint only. Raises InputError where the config contradicts
    the devices, the data or what lies in `workdir`.
    """
    began = time.monotonic()

    # ---- Devices, and what can be refused before any work.
    mesh = sharding.make_mesh(config.mesh)
    sharding.check_batch(config.batch_size, config.optimizer.accumulate, mesh)
    arch = arch_lib.preset(config.arch, config.arch_changes.to_dict())
    optimizer = state_lib.make_optimizer(config)
    source = open_source(config.data, arch)
    broken = Broken(source, config.data.max_broken)
    make_folder(workdir)

    with ExitStack() as stack:
        stack.enter_context(jax.set_mesh(mesh))
        goodput = stack.enter_context(Goodput(workdir))
        keep = config.checkpoint
        kept = stack.enter_context(
            open_checkpoints(workdir / "checkpoints", keep_last=keep.keep_last, keep_every=keep.keep_every)
        )

        # ---- State: fresh, or where the last checkpoint stands.
        restored = kept.restore(state_lib.shapes(config, arch, optimizer, mesh)[0])
        write_config(workdir, config)  # now that it fits what is there
        before = restored.state if restored is not None else None
        state, frozen = state_lib.begin(config, arch, optimizer, mesh, before)
        moments.check(source, frozen.codec)
        start, unreported = (restored.step, restored.data["unreported"]) if restored is not None else (0, [])
        del restored, before
        trained = sum(x.size for x in jax.tree.leaves(state.params))
        share = trained / (trained + sum(x.size for x in jax.tree.leaves(frozen.params)))
        say(f"{trained:,} parameters are trained ({share:.0%}); step {start} of {config.steps}")
        say(f"{len(mesh.devices.flat)} x {mesh.devices.flat[0].device_kind}: {dict(mesh.shape)}")

        # ---- Data: this process's rows of each batch, a batch ahead on the devices.
        feed = stack.enter_context(closing(on_devices(source, config, mesh, start)))

        # ---- Step.
        denoiser = Denoiser(arch, jnp.dtype(config.compute_dtype), config.remat)
        step_fn = make_step(config, denoiser, optimizer, state, mesh)
        work = flops.train_step(arch, config.batch_size, share)
        peak = hardware.peak_flops(mesh.devices.flat[0].device_kind, config.compute_dtype)

        # ---- What is told of it.
        writer = stack.enter_context(metrics_lib.Writer(workdir, start))
        validation = Validation(config, arch, source) if config.validation.every else None
        window = stack.enter_context(Window(workdir, config.profile.first, config.profile.steps))
        notice = stack.enter_context(preemption.watch())
        pending: deque[dict[str, jax.Array]] = deque()  # dispatched, not fetched yet

        def save(step: int) -> None:
            unreported.extend(metrics_lib.plain(jax.device_get(m)) for m in pending)
            pending.clear()
            with goodput.spent("checkpoint"):
                kept.save(step, state, {"next_batch": step, "unreported": unreported})

        # ---- Steps.
        step, preempted = start, False
        stop = start >= config.steps
        while not stop:
            with goodput.spent("data wait"):
                batch, indices = next(feed)
            broken.see(indices)
            with window.step(step + 1, state.step):
                state, told = step_fn(state, frozen, batch)
            step += 1
            goodput.stepped(step, told)
            pending.append(told)

            # Numbers are fetched once the next step is on its way: the device never waits for us.
            while len(pending) > (step < config.steps):
                unreported.append(metrics_lib.plain(jax.device_get(pending.popleft())))
            if step % config.log_every == 0 and unreported:
                rate, left = goodput.rate(), goodput.seconds_left(config.steps - step)
                mfu = None if rate is None or peak is None else work * rate / (peak * mesh.size)
                row = metrics_lib.summarize(unreported, steps_per_second=rate, mfu=mfu)
                unreported.clear()
                writer.scalars(step, row)
                say(metrics_lib.console_line(step, config.steps, row, left))
                goodput.save()
            if validation is not None and (step % config.validation.every == 0 or step == config.steps):
                with goodput.spent("validation"):
                    arrays = state_lib.as_arrays(state_lib.averaged(state), frozen, config.lora.alpha)
                    sheet, scores = validation.sample(arrays)
                writer.image(step, "sheets", sheet)
                writer.scalars(step, scores)

            preempted = notice.reached(step)
            stop = step >= config.steps or preempted or out_of_time(began, minutes, step, config.log_every)
            if stop or step % config.checkpoint.every == 0:
                save(step)

        # ---- The model that people use.
        kept.wait()
        say(f"step {step} of {config.steps} saved in {workdir}")
        model = None
        if not preempted:
            told_of = {
                "trained_by": "gencompositor train",
                "step": step,
                "config": json.loads(as_json(config)),
            }
            arrays = state_lib.as_arrays(state_lib.averaged(state), frozen, config.lora.alpha)
            whole = checkpoints.Model(arch, arrays, told_of)
            checkpoints.save(workdir / "model", whole, dtype=jnp.bfloat16, overwrite=True)
            model = workdir / "model"
    say(goodput.summary())
    return model


def make_folder(workdir: Path) -> None:
    """Makes the folder of a run. Raises InputError where that can't be done."""
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"--workdir {workdir}: can't be made ({error.strerror}); pass another one"
        ) from error


def write_config(workdir: Path, config: ml_collections.ConfigDict) -> None:
    """Writes the resolved config beside the checkpoints, whole or not at all; the first process does."""
    if jax.process_index() == 0:
        part = workdir / "config.json.part"
        part.write_text(as_json(config) + "\n", encoding="utf-8")
        part.replace(workdir / "config.json")


def as_json(config: ml_collections.ConfigDict) -> str:
    """The resolved config, as text."""
    text: str = config.to_json_best_effort(indent=2)
    return text


def on_devices(
    source: ClipSource, config: ml_collections.ConfigDict, mesh: Mesh, start: int
) -> Generator[tuple[dict[str, jax.Array], np.ndarray], None, None]:
    """Batches from step `start` on, on the devices, each with the indices of records that were broken.

    The next batch is on its way to the devices before this one is used.
    """
    data = config.data
    augmentation = Augmentation(
        gamma=data.gamma,
        removal=data.removal,
        mask_shapes=data.mask_shapes,
        flip=data.flip,
        colour_cast=data.colour_cast,
    )
    rows = sharding.rows_here(mesh, config.batch_size)
    read = batches(
        source,
        augmentation,
        seed=config.seed,
        batch_size=config.batch_size,
        rows=rows,
        start=start,
        stop=config.steps,
        workers=data.workers,
        prefetch=data.prefetch,
    )
    ahead: deque[tuple[dict[str, jax.Array], np.ndarray]] = deque()
    with closing(read):
        for batch in read:
            indices = batch.pop("broken")
            ahead.append((sharding.to_devices(batch, rows, config.batch_size, mesh), indices))
            if len(ahead) > 1:
                yield ahead.popleft()
        yield from ahead


def out_of_time(began: float, minutes: float | None, step: int, every: int) -> bool:
    """Whether the time is over: at every step in a single process, else every so many steps, as the first
    process's clock says.
    """
    if minutes is None:
        return False
    over = time.monotonic() - began > 60 * minutes
    if jax.process_count() == 1:
        return over
    return step % every == 0 and bool(multihost_utils.broadcast_one_to_all(np.int32(over)))


def say(line: str) -> None:
    """A line for people, from the first process."""
    if jax.process_index() == 0:
        print(line, flush=True)
