"""Many jobs: clips of one shape together in a call, while the next are read and the last are written.

Jobs whose programs are the same form a group, which compiles once. Threads read and place clips, and put
results back and write them; the calling thread feeds the devices. The clips of at most five calls are in
memory: of two that are read, one that is sampled, and two that are written.
"""

import collections
import dataclasses
import itertools
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np

from gencompositor_jax.arch import changed
from gencompositor_jax.compositor import Compositor
from gencompositor_jax.controls.conditions import Conditions
from gencompositor_jax.controls.footage import scene_stage
from gencompositor_jax.controls.plate.description import describe
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.controls.stage import Stage
from gencompositor_jax.errors import InputError
from gencompositor_jax.files import check_space
from gencompositor_jax.inference import rendering
from gencompositor_jax.inference.rendering import Composing, Composite
from gencompositor_jax.inference.timer import Timer
from gencompositor_jax.jobs.checking import Checker
from gencompositor_jax.jobs.groups import Group, grouped
from gencompositor_jax.jobs.manifest import Line
from gencompositor_jax.jobs.report import JobFiles, facts_of, record_of, write
from gencompositor_jax.jobs.results import Result
from gencompositor_jax.jobs.shared_clips import SharedClips

READERS = 3  # threads that read, place, put back and write clips

_log = logging.getLogger(__name__)

OnResult = Callable[[Result], None]


@dataclasses.dataclass
class _Clip:
    """A job in hand."""

    line: Line
    timer: Timer
    now: Composing
    given: Conditions


@dataclasses.dataclass
class _LongClip:
    """A job in hand whose clip is longer than the model's: made by itself, its frames as they are written."""

    line: Line
    timer: Timer
    stage: Stage


class Batch:
    """The jobs of one process. `run` returns once all are done or failed, or once it is stopped.

    checker: with which the lines were checked. mesh: sizes of its axes; None is chosen by each group. clips:
    in a call; None is chosen by the size of the clips. on_result: called with each result, from any thread.
    stop: set it to finish what is in hand and leave the rest.
    """

    def __init__(
        self,
        lines: Sequence[Line],
        checker: Checker,
        on_result: OnResult,
        mesh: Mapping[str, int] | None = None,
        clips: int | None = None,
        stop: threading.Event | None = None,
    ) -> None:
        self._lines, self._checker, self._on_result = lines, checker, on_result
        self._mesh, self._clips = mesh, clips
        self._stop = stop or threading.Event()
        self._loaded: tuple[object, Compositor] | None = None
        jobs = (line.job for line in lines if line.job is not None)
        self._clips_read = SharedClips(clip for job in jobs for clip in job.scene.clips)

    def run(self) -> None:
        """Makes the jobs, group by group.

        Raises InputError where the mesh doesn't fit, before anything is made, or where results can't be
        recorded.
        """
        groups = grouped(self._lines, self._checker, self._mesh, self._clips)
        with ThreadPoolExecutor(READERS, thread_name_prefix="clips") as threads:
            try:
                for group in groups:
                    if self._stop.is_set():
                        return
                    self._run_group(group, threads)
            except BaseException:
                threads.shutdown(cancel_futures=True)
                raise

    def _run_group(self, group: Group, threads: ThreadPoolExecutor) -> None:
        try:
            compositor = self._compositor(group)
        except Exception as error:
            for line in group.lines:
                self._fail(line, error)
            return
        waiting = iter(group.lines)
        reading: list[Future[_Clip | _LongClip | None]] = []
        writing: collections.deque[list[Future[None]]] = collections.deque()
        while not self._stop.is_set():
            more = 2 * group.size - len(reading)
            reading += [threads.submit(self._read, line) for line in itertools.islice(waiting, more)]
            if not reading:
                break
            read = [future.result() for future in reading[: group.size]]
            del reading[: group.size]
            for clip in read:
                if isinstance(clip, _LongClip):
                    self._make_long(compositor, clip)
            clips = [clip for clip in read if isinstance(clip, _Clip)]
            if len(writing) > 1:
                _wait(writing.popleft())
            if clips:
                writing.append(self._make(compositor, group, clips, threads))
        for future in reading:
            future.cancel()
        for futures in writing:
            _wait(futures)

    def _compositor(self, group: Group) -> Compositor:
        """The group's model, with the weights of the last group's if they are the same."""
        scene = group.scene
        if self._loaded is None or self._loaded[0] != group.model:
            self._loaded = None  # frees the devices first
            loaded = Compositor.load(scene.checkpoint, weights=scene.weights, mesh=group.mesh)
            self._loaded = group.model, loaded
        loaded = self._loaded[1]
        model = dataclasses.replace(loaded.model, arch=changed(loaded.arch, scene.changes))
        return Compositor(model, loaded.source)

    def _read(self, line: Line) -> _Clip | _LongClip | None:
        """Reads and places a job's clips. None if that fails."""
        try:
            assert line.job is not None
            timer, scene = Timer(), line.job.scene
            with timer("read"):
                check_space(self._checker.root, 0)
                arch = self._checker.arch(scene)
                read = self._clips_read
                is_long = self._checker.frames(scene) > arch.frames
                readers = () if is_long else (read.background, read.element)
                stage = scene_stage(scene, arch, self._checker.clips(scene), *readers)
            if stage.is_long:
                return _LongClip(line, timer, stage)
            with timer("prepare"):
                now = rendering.begin(stage, scene.sampling)
                return _Clip(line, timer, now, rendering.next_conditions(now))
        except Exception as error:
            self._fail(line, error)
            return None

    def _make(
        self, compositor: Compositor, group: Group, clips: list[_Clip], threads: ThreadPoolExecutor
    ) -> list[Future[None]]:
        """Generates the layers of some clips, and has them written."""
        for layer in range(group.layers):
            frames = list(self._call(compositor, group, clips, layer))
            pairs = [(clip, raw) for clip, raw in zip(clips, frames, strict=True) if raw is not None]
            if layer == group.layers - 1:
                return [threads.submit(self._finish, clip, raw, compositor) for clip, raw in pairs]
            advanced = threads.map(lambda pair: self._put_back(*pair), pairs)
            if not (clips := [clip for clip in advanced if clip is not None]):
                break
        return []

    def _call(
        self, compositor: Compositor, group: Group, clips: Sequence[_Clip], layer: int
    ) -> Iterator[np.ndarray | None]:
        """The model's frames of each clip; None for one that fails.

        If a call of several clips fails, each gets a call of its own.
        """
        timer, sampling = Timer(), group.scene.sampling
        seeds, given = [clip.now.options.seed for clip in clips], [clip.given for clip in clips]
        try:
            frames = compositor.sample(
                group.arch, given, sampling, seeds=seeds, layer=layer, size=group.size, timer=timer
            )
        except Exception as error:
            if len(clips) == 1:
                self._fail(clips[0].line, error)
                yield None
                return
            _log.warning("a call of %d clips failed (%s); one by one", len(clips), _text(error))
            for clip in clips:
                yield from self._call(compositor, group, [clip], layer)
            return
        for clip, raw in zip(clips, frames, strict=True):
            for stage, seconds in timer.seconds.items():
                clip.timer.seconds[stage] = clip.timer.seconds.get(stage, 0.0) + seconds / len(clips)
            yield raw

    def _put_back(self, clip: _Clip, raw: np.ndarray) -> _Clip | None:
        """The clip with its next layer, and the conditions of the one after it. None if that fails."""
        try:
            with clip.timer("paste back"):
                now = rendering.with_layer(clip.now, clip.given, raw)
            with clip.timer("prepare"):
                return dataclasses.replace(clip, now=now, given=rendering.next_conditions(now))
        except Exception as error:
            self._fail(clip.line, error)
            return None

    def _finish(self, clip: _Clip, raw: np.ndarray, compositor: Compositor) -> None:
        """The last layer, and the files."""
        try:
            with clip.timer("paste back"):
                now = rendering.with_layer(clip.now, clip.given, raw)
            composite = rendering.finished(now, clip.timer.seconds)
            settings = {"checkpoint": compositor.source, **composite.settings, "weights": compositor.weights}
            composite = dataclasses.replace(composite, settings=settings)
            self._write(clip.line, now.stage, composite, now.options, compositor)
        except Exception as error:
            self._fail(clip.line, error)
            return
        self._done(clip.line, composite)

    def _make_long(self, compositor: Compositor, clip: _LongClip) -> None:
        """A long clip, from the stage to its files."""
        job = clip.line.job
        assert job is not None
        latents = JobFiles.of(job, self._checker.root).latents
        try:
            options = job.scene.sampling.settled(clip.stage.arch.diffusion)
            latents.parent.mkdir(parents=True, exist_ok=True)
            composite = compositor.render(clip.stage, options, latents=latents)
            composite = dataclasses.replace(composite, seconds=clip.timer.seconds | composite.seconds)
            self._write(clip.line, clip.stage, composite, options, compositor)
            latents.unlink(missing_ok=True)
        except Exception as error:
            self._fail(clip.line, error)
            return
        self._done(clip.line, composite)

    def _write(
        self,
        line: Line,
        stage: Stage,
        composite: Composite,
        options: SamplingOptions,
        compositor: Compositor,
    ) -> None:
        """The files; options: with which the composite was sampled."""
        job = line.job
        assert job is not None
        pixels = describe(self._checker.clips(job.scene)[job.scene.background], job.scene.plate_colour)
        delivery = self._checker.delivery(job)
        record = record_of(job.scene.checkpoint, compositor.mesh, stage, pixels, delivery)
        job = dataclasses.replace(job, scene=dataclasses.replace(job.scene, sampling=options, record=record))
        files = JobFiles.of(job, self._checker.root)
        facts = {"command": "batch", "job": line.digest, **facts_of(composite, compositor.mesh)}
        write(files, job, stage, composite, facts, delivery)

    def _done(self, line: Line, composite: Composite) -> None:
        self._on_result(Result(line.number, line.out, "done", round(sum(composite.seconds.values()), 3)))

    def _fail(self, line: Line, error: Exception) -> None:
        if not isinstance(error, InputError):
            _log.warning("line %d", line.number, exc_info=error)
        self._on_result(Result(line.number, line.out, "failed", 0.0, _text(error)))


def _wait(futures: Sequence[Future[None]]) -> None:
    """Raises what one of them raised."""
    for future in futures:
        future.result()


def _text(error: Exception) -> str:
    """An error in one line."""
    text = " ".join(str(error).split())[:1000]
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"
