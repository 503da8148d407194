"""Rendering a clip that is longer than one of the network's, in pieces: no array has all of its frames.

A layer's clips are read twice. For the network: what is shown to it, at the model's size. For the result: the
native pixels. In between, what the model saw and generated is in temporary files (`Spool`). The result of a
layer is computed where it is asked for: by the next layer, or by whoever writes it.
"""

import dataclasses
import functools
import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np

from gencompositor_jax import codec
from gencompositor_jax.arch import Inflation, ModelArch
from gencompositor_jax.checkpoints import Model
from gencompositor_jax.codec import chunks
from gencompositor_jax.controls import shot as shots
from gencompositor_jax.controls.conditions import Conditions, check_mask, network_inputs, padded
from gencompositor_jax.controls.geometry import detail
from gencompositor_jax.controls.geometry.detail import fit_piece
from gencompositor_jax.controls.geometry.light import Light, Sums, added, light_of, measure
from gencompositor_jax.controls.geometry.placement import OPAQUE
from gencompositor_jax.controls.media.frames import STEP, Computed, Frames, pieces
from gencompositor_jax.controls.media.spool import Spool
from gencompositor_jax.controls.sampling import SamplingOptions
from gencompositor_jax.controls.shot import Shot
from gencompositor_jax.controls.stage import Stage
from gencompositor_jax.diffusion import approximations
from gencompositor_jax.files import check_space
from gencompositor_jax.inference import latents_file, long_clips, pipeline, provenance
from gencompositor_jax.inference.pipeline import OnEstimate, OnStep
from gencompositor_jax.inference.programs import Run
from gencompositor_jax.inference.state_file import StateFile
from gencompositor_jax.inference.timer import Timer

PIECE = 24  # frames whose fit is computed together; with `detail.REACH` on both sides about a window
SPOOLED = 11  # bytes of a layer in temporary files, per pixel of the model's frames


@dataclasses.dataclass(frozen=True)
class LongLayer:
    """A layer of a long clip, generated."""

    shot: Shot
    below: Frames  # uint8 native [T, H, W, 3]
    options: SamplingOptions
    token: int  # pixels of a token's side
    seen: Spool  # uint8 [T, h, w, 3]: what is below at the model's size
    paste: Spool  # uint8 [T, h, w, 4]: the placed element over it
    inside: Spool  # bool [T, h, w]: what was generated
    generated: Spool  # uint8 [T, h, w, 3]
    shares: np.ndarray  # float [2, T]: alpha of the element's own pixels, and all; negative: not known yet

    @property
    def frames(self) -> Frames:
        """The result, uint8 native [T, H, W, 3]; without paste-back the model's own frames."""
        return self.over(self.below) if self.options.paste_back else self.generated

    def over(self, below: Frames) -> Frames:
        """The layer over other pixels of the same background: uint8, or float32 in the same levels."""

        def make(first: int, stop: int) -> np.ndarray:
            out = np.empty((stop - first, *below.shape[1:]), below.dtype)
            for t in range(first, stop):
                out[t - first] = self._pasted(below, t)
            return out

        kind = below.dtype.type
        return Computed(below.shape, make, kind, step=STEP if kind is np.uint8 else 1)

    @property
    def mask(self) -> Frames:
        """What was generated: bool, of the size of `frames`."""
        height, width = self.below.shape[1:3]
        bare = dataclasses.replace(self.shot, element=None, removed=None)  # whose clips needn't be read

        def make(first: int, stop: int) -> np.ndarray:
            part = shots.piece(bare, slice(first, stop))
            return shots.mask_in_background(part, self.inside[first:stop], (height, width))

        return Computed(self.below.shape[:3], make, bool) if self.options.paste_back else self.inside

    @property
    def foreground(self) -> Frames:
        """What the network was shown of the element: uint8 [T, h, w, 3]."""
        return Computed(
            self.seen.shape,
            lambda first, stop: shots.piece(self.shot, slice(first, stop)).foreground,
        )

    def transferred(self) -> float:
        """Share of the element that has its own pixels, 0 to 1; computes the frames that nobody has read."""
        if self._light is None:
            return 0.0
        for first, stop in _ranges(0, len(self.seen)):
            if (self.shares[:, first:stop] < 0).any():
                self._fit(self._light, first, stop)
        own, alpha = self.shares.sum(axis=1)
        return float(own / alpha)

    @functools.cached_property
    def _light(self) -> Light | None:
        """The light of the whole clip; None where nothing is transferred."""
        if self.shot.element is None or self.options.detail == "model" or not self.options.paste_back:
            return None
        sums: Sums | None = None
        for first, stop in _ranges(0, len(self.seen)):
            around, within = _around(first, stop)
            found = measure(*self._model_frames(around), self.token, within)
            sums = found if sums is None else added(sums, found)
        assert sums is not None, "a clip has frames"
        return light_of(sums, self.token)

    def _pasted(self, below: Frames, t: int) -> np.ndarray:
        """Frame t of the result."""
        at = slice(t, t + 1)
        fit = None if self._light is None else fit_piece(self._fit_around(t // PIECE), _within(at, PIECE))
        given = self.generated[at], self.inside[at], self.options.feather, fit
        placed = shots.piece(dataclasses.replace(self.shot, removed=None), at)  # what was removed isn't read
        return shots.pasted_over(placed, below[at], *given)[0]

    @functools.cached_property
    def _fit_around(self) -> Callable[[int], detail.Fit]:
        """The fit of a piece by its number; the last one is kept, since frames are asked for in order."""

        def fit(number: int) -> detail.Fit:
            assert self._light is not None
            first = number * PIECE
            return self._fit(self._light, first, min(first + PIECE, len(self.seen)))

        return functools.lru_cache(maxsize=1)(fit)

    def _fit(self, light: Light, first: int, stop: int) -> detail.Fit:
        around, within = _around(first, stop)
        fit = detail.fit(*self._model_frames(around), self.token, light)
        assert fit is not None, "a clip with light has an element"
        fit = fit_piece(fit, within)
        if self.options.detail != "auto":
            fit = fit._replace(trust=np.ones_like(fit.trust))
        alpha = self.paste[first:stop][..., 3] * self.inside[first:stop].astype(np.float64)
        self.shares[:, first:stop] = (fit.trust * alpha).sum(axis=(1, 2)), alpha.sum(axis=(1, 2))
        return fit

    def _model_frames(self, part: slice) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The first four arguments of `detail.fit`."""
        return self.seen[part], self.paste[part], self.generated[part], self.inside[part]


def generate_layers(
    model: Model,
    stage: Stage,
    options: SamplingOptions,
    run: Run,
    timer: Timer,
    latents: Path | None = None,
    progress: OnStep | None = None,
    on_estimate: OnEstimate | None = None,
) -> list[LongLayer]:
    """The layers of a stage, each over the result of those below; see `rendering.render`."""
    below, found = stage.background.frames, list[LongLayer]()
    folder = Path(tempfile.gettempdir()) if latents is None else latents.parent
    pixels = len(below) * stage.arch.height * stage.arch.width
    check_space(folder, SPOOLED * pixels * len(stage.shots))
    for number, shot in enumerate(stage.shots):
        seen_by_model = found[-1].generated if found and not options.paste_back else None
        layer = _empty(shot, below, stage.arch, options, folder)
        reports = progress, on_estimate
        _generate(model, layer, number, len(stage.shots), seen_by_model, run, timer, latents, *reports)
        found.append(layer)
        below = layer.frames if options.paste_back else below
    return found


def _empty(shot: Shot, below: Frames, arch: ModelArch, options: SamplingOptions, folder: Path) -> LongLayer:
    frames = len(below)
    size = frames, arch.height, arch.width
    return LongLayer(
        shot=shot,
        below=below,
        options=options,
        token=arch.cell[1],
        seen=Spool((*size, 3), np.uint8, folder),
        paste=Spool((*size, 4), np.uint8, folder),
        inside=Spool(size, bool, folder),
        generated=Spool((*size, 3), np.uint8, folder),
        shares=np.full((2, frames), -1.0),
    )


def _generate(
    model: Model,
    layer: LongLayer,
    number: int,
    layers: int,
    seen_by_model: Frames | None,
    run: Run,
    timer: Timer,
    latents: Path | None,
    progress: OnStep | None,
    on_estimate: OnEstimate | None,
) -> None:
    """Fills a layer's spools."""
    options, frames = layer.options, len(layer.below)
    inflation = model.arch.inflation
    # Masks come inflated: programs don't depend on the inflation.
    model = dataclasses.replace(model, arch=dataclasses.replace(model.arch, inflation=Inflation()))
    arch, length = model.arch, codec.padded_frames(model.arch.codec, frames)
    made_from = latents_file.Fingerprint(provenance.facts(model, number, options))
    shown = np.zeros(arch.token_grid[1:], bool)

    def given() -> Iterator[Conditions]:
        for part in _network_inputs(layer, seen_by_model, inflation, arch, length):
            for array in (part.mask, part.masked_background, part.foreground):
                made_from.add(array)
            np.logical_or(shown, approximations.shown_cells(part.foreground[None], arch), out=shown)
            yield part

    with timer("encode"):
        keys, _ = run(pipeline.start, np.uint32(options.seed), np.array([number], np.int32), arch=arch)
        offsets = layer.shot.offsets
        encoded = long_clips.encode_clip(model, given(), length, offsets, keys, run)
        check_mask(any(part.any() for part in pieces(layer.inside)))
    if offsets is not None:
        made_from.add(offsets)
    store = kept_state = None
    if latents is not None:
        store = latents_file.LayerLatents(latents, number, made_from.digest())
        kept_state = StateFile(latents.with_suffix(".state.npz"), made_from.digest())
    sampled = None if store is None else store.read()
    if sampled is None:
        fast = approximations.parse(options.fast)
        kept = approximations.tokens_of(shown, arch) if fast.drop_blank else None
        with timer("sample"):
            on_step = None if progress is None else _over_layers(progress, number, layers)
            reports = on_step, on_estimate
            sampled = long_clips.sample_clip(model, encoded, keys, options, kept, run, *reports, kept_state)
        if store is not None:
            store.write(sampled)
    if kept_state is not None:
        kept_state.remove()
    with timer("decode"), pipeline.enough_memory_to_decode(store):
        first = 0
        for part in long_clips.decode_clip(model, sampled, run):
            layer.generated.append(part[: frames - first])
            first += len(part)


def _network_inputs(
    layer: LongLayer,
    seen_by_model: Frames | None,
    inflation: Inflation,
    arch: ModelArch,
    length: int,
) -> Iterator[Conditions]:
    """The chunks that `long_clips.encode_clip` takes, `length` frames in all: the last one is held.

    seen_by_model: uint8 [T, h, w, 3]; None is the view of what is below. Fills seen, paste and inside.
    """
    sizes = chunks.chunk_sizes(length, chunks.frames_per_chunk(arch.codec))
    source, first = layer.below if seen_by_model is None else seen_by_model, 0
    for background, size in zip(_in_sizes(source, sizes), sizes, strict=True):
        part = shots.piece(layer.shot, slice(first, first + len(background)))
        seen = shots.shown(part, background) if seen_by_model is None else background
        if part.element is None:
            paste, target = np.zeros((*seen.shape[:3], 4), np.uint8), part.target_mask
        else:
            paste = part.paste(part.view)
            target = paste[..., 3] >= OPAQUE
        inputs = network_inputs(seen, target, part.foreground, inflation)
        layer.seen.append(seen)
        layer.paste.append(paste)
        layer.inside.append(inputs.mask[..., 0] > 0)
        first += len(background)
        yield padded(inputs, size)


def _in_sizes(frames: Frames, sizes: Iterable[int]) -> Iterator[np.ndarray]:
    """Consecutive frames in arrays of these lengths, the last one shorter where frames are missing.

    They are read in the steps of `frames`.
    """
    waiting, parts = np.empty((0, *frames.shape[1:]), frames.dtype), pieces(frames)
    for size in sizes:
        while len(waiting) < size and (part := next(parts, None)) is not None:
            waiting = np.concatenate([waiting, part])
        yield waiting[:size]
        waiting = waiting[size:]


def _ranges(first: int, stop: int) -> Iterator[tuple[int, int]]:
    """(first, stop) of pieces."""
    for start in range(first, stop, PIECE):
        yield start, min(start + PIECE, stop)


def _around(first: int, stop: int) -> tuple[slice, slice]:
    """A piece with what smoothing along time sees around it, and the piece within that."""
    start = max(0, first - detail.REACH)
    return slice(start, stop + detail.REACH), slice(first - start, stop - start)


def _within(part: slice, length: int) -> slice:
    """Frames of the clip as frames of the piece that has them."""
    first = part.start % length
    return slice(first, first + part.stop - part.start)


def _over_layers(progress: OnStep, number: int, layers: int) -> OnStep:
    """Progress over all layers, which have as many evaluations each, from the progress within one."""
    return lambda done, in_all: progress(number * in_all + done, layers * in_all)
