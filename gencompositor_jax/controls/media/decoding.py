"""The frames one asks for of a probed video file, decoded by PyAV.

PyAV interpolates chroma and reports damaged frames. decord jumps faster, but repeats chroma samples and
conceals damage: it is used only if GENCOMPOSITOR_DECODER=decord is set, for frames far apart in files from
which it returns the same bits (RGB, grey, YUV 4:4:4).
"""

import os
from collections.abc import Callable, Iterator
from typing import TypeVar

import av
import numpy as np

from gencompositor_jax.controls.media.container import frames_of, opened, picture
from gencompositor_jax.controls.media.deinterlacing import CONTEXT, deinterlaced
from gencompositor_jax.controls.media.display import pixels_of
from gencompositor_jax.controls.media.stream import ALPHA_DECODERS, MISSING, PictureStream
from gencompositor_jax.errors import InputError

T = TypeVar("T")

DECODER = "GENCOMPOSITOR_DECODER"  # the environment variable: pyav (default) or decord

_FAR = 24  # frames from one wanted to the next from which a seek is faster than decoding (measured on H.264)
# Where decord 0.6 returns PyAV's bits (measured; subsampled chroma and more than 8 bits per channel differ).
_DECORD_FORMATS = {"rgb24", "bgr0", "gbrp", "gray", "yuv444p", "yuvj444p"}
_DECORD_CONTAINERS = {"mov", "mp4", "matroska", "webm"}
_DECORD_MATRICES = (5, 6)  # BT.601's; it takes untagged HD for it


def decode(stream: PictureStream, wanted: np.ndarray, alpha: bool) -> np.ndarray:
    """The frames at the indices `wanted` [n] (increasing): uint8 [n, H, W, 3], with `alpha` 4.

    `alpha` needs a stream that has it. InputError names the first damaged frame (decord reports none).
    """
    far = np.diff(wanted) >= _FAR
    if _wants_decord() and not alpha and far.size and far.all():
        frames = _by_decord(stream, wanted)
        if frames is not None:
            return frames
    out: np.ndarray = np.empty((len(wanted), stream.height, stream.width, 4 if alpha else 3), np.uint8)
    for slot, pixels in enumerate(decoded(stream, wanted, alpha)):
        out[slot] = pixels
    return out


def decoded(stream: PictureStream, wanted: np.ndarray, alpha: bool) -> Iterator[np.ndarray]:
    """`decode`, one frame at a time: uint8 [H, W, 3 or 4] for each index of `wanted`, which may repeat."""
    return _each(stream, wanted, alpha, lambda frame, index: _shown(stream, frame, index, alpha))


def decoded_as_coded(stream: PictureStream, wanted: np.ndarray) -> Iterator[av.VideoFrame]:
    """`decoded` without any conversion: the decoder's own frames."""
    return _each(stream, wanted, False, lambda frame, _: frame)


def _each(
    stream: PictureStream, wanted: np.ndarray, alpha: bool, shown: Callable[[av.VideoFrame, int], T]
) -> Iterator[T]:
    coded, repeats = np.unique(wanted if stream.coded is None else stream.coded[wanted], return_counts=True)
    for pixels, times in zip(_in_order(stream, coded, alpha, shown), repeats.tolist(), strict=True):
        for _ in range(times):
            yield pixels


def _in_order(
    stream: PictureStream, coded: np.ndarray, alpha: bool, shown: Callable[[av.VideoFrame, int], T]
) -> Iterator[T]:
    """The decoded frames of the numbers `coded` [n], increasing, with jumps to keyframes where they pay."""
    if stream.pts is None:
        yield from _by_pyav(stream, coded, alpha, None, shown)
        return
    # What deinterlacing a frame depends on is decoded too, so that it doesn't matter where decoding begins.
    first = np.maximum(coded - CONTEXT, 0) if stream.interlaced else coded
    key = stream.keys[np.searchsorted(stream.keys, stream.pts[first], side="right") - 1]
    far = np.diff(coded) >= _FAR
    seeks = np.append(key[0] > stream.keys[0], far & (key[1:] > stream.pts[coded[:-1]]))
    for run in np.split(np.arange(len(coded)), np.flatnonzero(seeks[1:]) + 1):
        done = 0
        if seeks[run[0]]:
            try:
                for pixels in _by_pyav(stream, coded[run], alpha, key[run[0]], shown):
                    yield pixels
                    done += 1
            except InputError:
                pass  # a keyframe may lack what a decoder needs: only what fails from the start is damaged
        if done < len(run):
            yield from _by_pyav(stream, coded[run[done:]], alpha, None, shown)


def _by_pyav(
    stream: PictureStream,
    coded: np.ndarray,
    alpha: bool,
    key: int | None,
    shown: Callable[[av.VideoFrame, int], T],
) -> Iterator[T]:
    """Decodes from the keyframe with stamp `key` (None: from the start) to the last frame of `coded` [n].

    A dropped frame is filled by the one before it, which stays on screen.
    """
    wanted = coded.tolist()
    slots = set(wanted)
    early: dict[int, T] = {}  # frames whose stamps are out of order wait for those before
    before: T | None = None
    # After a seek every frame must be there: in some containers it ends behind the keyframe.
    tolerated, position = max(1, MISSING * len(wanted)) if key is None else 0, 0
    for index, frame in _numbered(stream, key, alpha):
        if index in slots:
            early[index] = shown(frame, index)
        while position < len(wanted) and wanted[position] in early:
            before = early.pop(wanted[position])
            yield before
            position += 1
        if index >= wanted[-1]:
            break
    for number in wanted[position:]:
        if number not in early:
            tolerated -= 1
        before = early.get(number, before if before is not None else next(iter(early.values()), None))
        if tolerated < 0 or before is None:
            raise _damaged(stream, number)
        yield before


def _numbered(stream: PictureStream, key: int | None, alpha: bool) -> Iterator[tuple[int, av.VideoFrame]]:
    """Decoded frames with their numbers, from the keyframe with stamp `key` on (None: from the start)."""
    indices = None if stream.pts is None else {int(p): i for i, p in enumerate(stream.pts)}
    index = -1
    with opened(stream.path) as container:
        video = picture(container, stream.path)
        if key is not None:
            container.seek(int(key), stream=video)
        frames = frames_of(container, video, ALPHA_DECODERS.get(stream.codec) if alpha else None)
        if stream.interlaced:
            frames = deinterlaced(frames, video)
        try:
            for frame in frames:
                if indices is not None:
                    if frame.pts not in indices or (key is not None and frame.pts < key):
                        continue
                    index = indices[frame.pts]
                else:
                    index += 1
                if frame.is_corrupt:
                    raise _damaged(stream, index)
                yield index, frame
        except av.FFmpegError as error:
            raise _damaged(stream, index + 1) from error


def _shown(stream: PictureStream, frame: av.VideoFrame, index: int, alpha: bool) -> np.ndarray:
    if (frame.width, frame.height) != stream.display.coded:
        width, height = stream.display.orientation.size(frame.width, frame.height)
        raise InputError(
            f"{stream.path}: the frame size changes from {stream.width}x{stream.height} to {width}x{height} "
            f"at frame {index}: export it with one size"
        )
    return pixels_of(frame, stream.display, alpha)


def _wants_decord() -> bool:
    decoder = os.environ.get(DECODER) or "pyav"
    if decoder not in ("pyav", "decord"):
        raise InputError(f"{DECODER}={decoder}: unknown; set pyav or decord")
    return decoder == "decord"


def _by_decord(stream: PictureStream, wanted: np.ndarray) -> np.ndarray | None:
    """The frames by decord's random access; None if it can't read the file or returns other bits."""
    display = stream.display
    if stream.pts is None or not display.is_plain or stream.interlaced:
        return None
    if stream.pixel_format not in _DECORD_FORMATS:
        return None
    if stream.pixel_format.startswith("yuv") and display.colour.matrix not in _DECORD_MATRICES:
        return None
    if _DECORD_CONTAINERS.isdisjoint(stream.container):
        return None
    try:
        import decord
    except (ImportError, OSError) as error:  # OSError: its libraries don't load
        raise InputError(
            f"{DECODER}=decord: decord can't be imported ({error}); "
            "pip install 'gencompositor-jax[decord]', or unset it"
        ) from error
    decord.logging.set_level(decord.logging.QUIET)
    try:
        reader = decord.VideoReader(str(stream.path.absolute()), ctx=decord.cpu(0), num_threads=1)
        if len(reader) != stream.frames:  # it counts frames that an edit list hides
            return None
        times = reader.get_frame_timestamp(wanted.tolist())[:, 0]
        frames: np.ndarray = reader.get_batch(wanted.tolist()).asnumpy()
    except decord.DECORDError:
        return None  # PyAV finds out what is wrong
    agrees = np.allclose(
        times - times[0], stream.times[wanted] - stream.times[wanted[0]], atol=0.5 / stream.fps
    )
    return frames if agrees and frames.shape[1:] == (stream.height, stream.width, 3) else None


def _damaged(stream: PictureStream, number: int) -> InputError:
    """The error for a decoded frame, by where it is shown."""
    index = number if stream.coded is None else int(np.searchsorted(stream.coded, number))
    index = min(index, stream.frames - 1)
    remedy = f", or stop before it with --frames {index}" if index else ""
    return InputError(
        f"{stream.path}: damaged at frame {index} of {stream.frames} ({stream.times[index]:.2f} s): "
        f"export or download it again{remedy}"
    )
