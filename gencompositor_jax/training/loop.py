"""The training loop, top to bottom: devices, state, data, step, logging; then the steps, with what is logged
and saved between them.

With several processes all of them run this, each with its own rows of every batch.
"""

import json
import time
from collections import deque
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from gencompositor_jax import arch as arch_lib
from gencompositor_jax import checkpoints, sharding
from gencompositor_jax.data_pipelines import echo
from gencompositor_jax.data_pipelines.broken import Broken
from gencompositor_jax.data_pipelines.pipeline import Augmentation, batches
from gencompositor_jax.data_pipelines.source import ClipSource
from gencompositor_jax.data_pipelines.sources import open_source
from gencompositor_jax.errors import InputError
from gencompositor_jax.files import atomic_write_text, check_local
from gencompositor_jax.model.denoiser import Denoiser
from gencompositor_jax.multihost import CompiledTogether
from gencompositor_jax.perf import flops, hardware
from gencompositor_jax.training import distillation, preemption, token_choice, vae_moments
from gencompositor_jax.training import state as state_lib
from gencompositor_jax.training.checkpointer import open_checkpointer
from gencompositor_jax.training.codec_basis import codec_basis
from gencompositor_jax.training.goodput import Goodput
from gencompositor_jax.training.metric_writer import MetricWriter, console_line, summarize, to_python
from gencompositor_jax.training.profiling import StepProfiler
from gencompositor_jax.training.step import make_step
from gencompositor_jax.training.validation import Validation


def train(config: ml_collections.ConfigDict, workdir: Path, minutes: float | None = None) -> Path | None:
    """Train to `config.steps`, for `minutes`, or until SIGTERM, whichever comes first.

    A later call resumes from the last checkpoint, on any mesh.
    Writes `workdir`/config.json, codec.npz (the basis of a linear codec), checkpoints/, metrics.jsonl,
    tensorboard/, sheets/, goodput.json, and at the end model/ (the EMA weights, for --checkpoint); with
    `config.checkpoint.model` at every checkpoint, too.

    Returns:
        model/, or None after SIGTERM, when there may be time for a checkpoint only.

    Raises:
        InputError: the config contradicts the devices, the data or the files in `workdir`.
    """
    start_time = time.monotonic()

    # ---- Devices, and the checks that need no other work.
    mesh = sharding.make_mesh(config.mesh)
    sharding.check_batch(config.batch_size, config.optimizer.accumulate, mesh)
    arch = arch_lib.preset(config.arch, config.arch_changes.to_dict())
    distillation.check(config, arch.diffusion)
    optimizer = state_lib.make_optimizer(config)
    source = open_source(config.data, arch)
    broken = Broken(source, config.data.max_broken)
    make_folder(workdir)

    with ExitStack() as stack:
        stack.enter_context(jax.set_mesh(mesh))
        goodput = stack.enter_context(Goodput(workdir))
        keep_last, keep_every = config.checkpoint.keep_last, config.checkpoint.keep_every
        checkpointer = stack.enter_context(
            open_checkpointer(workdir / "checkpoints", keep_last=keep_last, keep_every=keep_every)
        )

        # ---- State: that of the last checkpoint, or a new one.
        restored = checkpointer.restore(state_lib.shapes(config, arch, optimizer, mesh)[0])
        basis = codec_basis(config, arch, source, workdir)
        if restored is None:
            first_step, unreported = 0, []
        else:
            first_step, unreported = restored.step, restored.data["unreported"]
            check_place(workdir, restored.data, config)
        write_config(workdir, config)  # only now: a config that doesn't fit is refused above
        known = None if restored is None else restored.state
        state, frozen = state_lib.initial_state(config, arch, optimizer, mesh, known, basis)
        del restored, known  # their arrays are donated to the first step
        vae_moments.check(source, frozen.codec)
        trained = sum(x.size for x in jax.tree.leaves(state.params))
        fraction = trained / (trained + sum(x.size for x in jax.tree.leaves(frozen.params)))
        log(f"{trained:,} parameters are trained ({fraction:.0%}); step {first_step} of {config.steps}")
        log(f"{len(mesh.devices.flat)} x {mesh.devices.flat[0].device_kind}: {dict(mesh.shape)}")

        # ---- Data: this process's rows of each batch, one batch ahead on the devices.
        loader = stack.enter_context(closing(on_devices(source, config, mesh, first_step)))

        # ---- Step.
        denoiser = Denoiser(arch, jnp.dtype(config.compute_dtype), config.remat)
        train_step, run = make_step(config, denoiser, optimizer, state, mesh), CompiledTogether()
        kept = token_choice.counts(arch, config.tokens)
        flops_per_step = flops.train_step(arch, config.batch_size, fraction, kept)
        if config.distill.intervals:
            flops_per_step += 2 * config.batch_size * flops.forward(arch, kept)
        peak = hardware.peak_flops(mesh.devices.flat[0].device_kind, config.compute_dtype)

        # ---- Logging.
        writer = stack.enter_context(MetricWriter(workdir, first_step))
        validation = Validation(config, arch, source) if config.validation.every else None
        profiler = stack.enter_context(StepProfiler(workdir, config.profile.first, config.profile.steps))
        notice = stack.enter_context(preemption.Notice())
        pending: deque[dict[str, jax.Array]] = deque()  # metrics of dispatched steps, on the devices

        def save(step: int) -> None:
            unreported.extend(to_python(jax.device_get(metrics)) for metrics in pending)
            pending.clear()
            with goodput.waiting("checkpoint"):
                place = {"next_batch": step, "batch_size": config.batch_size, "echo": config.data.echo}
                data = {**place, "unreported": unreported}
                checkpointer.save(step, state, data)

        def save_model(step: int) -> None:
            arrays = state_lib.model_arrays(state_lib.model_params(state), frozen, config.lora.alpha)
            provenance = {
                "trained_by": "gencompositor train",
                "step": step,
                "config": json.loads(as_json(config)),
            }
            model = checkpoints.Model(arch, arrays, provenance)
            checkpoints.save(workdir / "model", model, dtype=jnp.bfloat16, overwrite=True)

        # ---- Steps.
        step, preempted = first_step, False
        stop = first_step >= config.steps
        while not stop:
            with goodput.waiting("data wait"):
                batch, indices = next(loader)
            broken.see(indices)
            with profiler.step(step + 1, state.step):
                state, metrics = run(train_step, state, frozen, batch)
            step += 1
            goodput.dispatched(step, metrics)
            pending.append(metrics)

            # Metrics are fetched once the next step is dispatched, so the device never waits for the host.
            while len(pending) > (step < config.steps):
                unreported.append(to_python(jax.device_get(pending.popleft())))
            if step % config.log_every == 0 and unreported:
                rate, left = goodput.rate(), goodput.seconds_left(config.steps - step)
                mfu = None if rate is None or peak is None else flops_per_step * rate / (peak * mesh.size)
                row = summarize(unreported, steps_per_second=rate, mfu=mfu)
                unreported.clear()
                writer.scalars(step, row)
                log(console_line(step, config.steps, row, left))
                goodput.save()
            if validation is not None and (step % config.validation.every == 0 or step == config.steps):
                with goodput.waiting("validation"):
                    params = state_lib.model_params(state)
                    arrays = state_lib.model_arrays(params, frozen, config.lora.alpha)
                    sheet, scores = validation.sample(arrays, run)
                writer.image(step, "sheets", sheet)
                writer.scalars(step, scores)

            preempted = notice.should_stop(step)
            timed_out = out_of_time(start_time, minutes, step, config.log_every)
            stop = step >= config.steps or preempted or timed_out
            if stop or step % config.checkpoint.every == 0:
                save(step)
                if config.checkpoint.model and not stop:
                    with goodput.waiting("checkpoint"):
                        save_model(step)

        # ---- The model.
        checkpointer.wait()
        log(f"step {step} of {config.steps} saved in {workdir}")
        if not preempted:
            save_model(step)
    log(goodput.summary())
    return None if preempted else workdir / "model"


def check_place(workdir: Path, data: Mapping[str, Any], config: ml_collections.ConfigDict) -> None:
    """Raise InputError where a run resumes with batches of another size, or used another number of times.

    Step n reads examples n * batch_size and following: some would be repeated, or left out.
    data: of the checkpoint; those of earlier versions don't have the two.
    """
    now = {"batch_size": config.batch_size, "echo": config.data.echo}
    for key, name in (("batch_size", "batch_size"), ("echo", "data.echo")):
        if (before := data.get(key)) not in (None, now[key]):
            raise InputError(
                f"config.{name}={now[key]}: the run in {workdir} has {before}, which counts its place in the "
                f"data; pass --config.{name}={before}, or another --workdir"
            )


def make_folder(workdir: Path) -> None:
    """Create the folder of a run. Raises InputError if that fails."""
    check_local(workdir, "--workdir")
    try:
        workdir.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"--workdir {workdir}: can't be created ({error.strerror}); pass another") from error


def write_config(workdir: Path, config: ml_collections.ConfigDict) -> None:
    """Write the resolved config beside the checkpoints, atomically, on the first process."""
    if jax.process_index() == 0:
        atomic_write_text(workdir / "config.json", as_json(config) + "\n")


def as_json(config: ml_collections.ConfigDict) -> str:
    """The resolved config as JSON."""
    text: str = config.to_json_best_effort(indent=2)
    return text


def on_devices(
    source: ClipSource, config: ml_collections.ConfigDict, mesh: Mesh, start: int
) -> Generator[tuple[dict[str, jax.Array], np.ndarray], None, None]:
    """Batches from step `start` on, on the devices, each with the indices of its unreadable records.

    The next batch is being transferred while one is used.
    """
    data = config.data
    augmentation = augmentation_of(data)
    rows = sharding.rows_here(mesh, config.batch_size)
    loader = batches(
        source,
        augmentation,
        seed=config.seed,
        batch_size=config.batch_size,
        rows=rows,
        start=echo.oldest(start, data.echo),
        stop=echo.count(config.steps, data.echo),
        workers=data.workers,
        prefetch=data.prefetch,
    )

    def placed() -> Iterator[tuple[dict[str, jax.Array], np.ndarray]]:
        for batch in loader:
            indices = batch.pop("broken")
            yield sharding.to_devices(batch, rows, config.batch_size, mesh), indices

    ahead: deque[tuple[dict[str, jax.Array], np.ndarray]] = deque()
    with closing(loader):
        for batch in echo.echoed(placed(), start, config.steps, data.echo):
            ahead.append(batch)
            if len(ahead) > 1:
                yield ahead.popleft()
        yield from ahead


def augmentation_of(data: ml_collections.ConfigDict) -> Augmentation:
    """What a config's `data` says of the augmentation."""
    return Augmentation(
        gamma=data.gamma,
        removal=data.removal,
        mask_shapes=data.mask_shapes,
        flip=data.flip,
        colour_cast=data.colour_cast,
    )


def out_of_time(start_time: float, minutes: float | None, step: int, every: int) -> bool:
    """Whether `minutes` have passed since `start_time`.

    Checked after every step by a single process; with several, every `every` steps by the first one's clock.
    """
    if minutes is None:
        return False
    over = time.monotonic() - start_time > 60 * minutes
    if jax.process_count() == 1:
        return over
    return step % every == 0 and bool(multihost_utils.broadcast_one_to_all(np.int32(over)))


def log(line: str) -> None:
    """Print a line on the first process."""
    if jax.process_index() == 0:
        print(line, flush=True)
