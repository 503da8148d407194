"""The frames one asks for of a surveyed video file.

PyAV decodes runs of frames: it tells when a frame is damaged, and it interpolates colour. decord, which
conceals damage and repeats colour samples but is quicker to jump, fetches frames that lie far apart, where it
can be imported. Streams with alpha, and containers other than MP4, MOV, MKV and WebM, are always PyAV's.
"""

import av
import numpy as np

from gencompositor_jax.controls.media.container import frames_of, opened, picture, pixels_of
from gencompositor_jax.controls.media.stream import ALPHA_DECODERS, MISSING, PictureStream
from gencompositor_jax.errors import InputError

_DECORD_READS = {"mov", "mp4", "matroska", "webm"}
_SPREAD = 24  # frames from one wanted to the next, on average, from which on jumping pays (measured on H.264)


def decode(stream: PictureStream, wanted: np.ndarray, alpha: bool) -> np.ndarray:
    """The frames at the indices `wanted` [n] (increasing, no repeats): uint8 [n, H, W, 3], with `alpha` 4.

    `alpha` needs a stream that has it. InputError names the first damaged frame, except where frames lie far
    apart (see the module's docstring).
    """
    if not alpha and (frames := _by_decord(stream, wanted)) is not None:
        return frames
    key = None
    if stream.pts is not None:
        key = int(stream.keys[np.searchsorted(stream.keys, stream.pts[wanted[0]], side="right") - 1])
    if key is not None and key > stream.keys[0]:
        try:
            return _by_pyav(stream, wanted, alpha, key)
        except InputError:
            pass  # a keyframe may lack what a decoder needs; damaged is what fails from the start
    return _by_pyav(stream, wanted, alpha, None)


def _by_pyav(stream: PictureStream, wanted: np.ndarray, alpha: bool, key: int | None) -> np.ndarray:
    """Decodes from the keyframe with stamp `key` (None: from the start) to the last wanted frame."""
    out: np.ndarray = np.empty((len(wanted), stream.height, stream.width, 4 if alpha else 3), np.uint8)
    slots = {int(index): slot for slot, index in enumerate(wanted)}
    indices = None if stream.pts is None else {int(p): i for i, p in enumerate(stream.pts)}
    filled = np.zeros(len(wanted), bool)
    index = -1
    with opened(stream.path) as container:
        video = picture(container, stream.path)
        if key is not None:
            container.seek(key, stream=video)
        try:
            for frame in frames_of(container, video, ALPHA_DECODERS.get(stream.codec) if alpha else None):
                if indices is not None:
                    if frame.pts not in indices or (key is not None and frame.pts < key):
                        continue
                    index = indices[frame.pts]
                else:
                    index += 1
                if frame.is_corrupt:
                    raise _damaged(stream, index)
                if (slot := slots.get(index)) is not None:
                    pixels = np.rot90(pixels_of(frame, alpha), stream.turns)
                    if pixels.shape != out.shape[1:]:
                        raise InputError(
                            f"{stream.path}: the frame size changes from {stream.width}x{stream.height} to "
                            f"{pixels.shape[1]}x{pixels.shape[0]} at frame {index}: export it with one size"
                        )
                    out[slot], filled[slot] = pixels, True
                if index >= wanted[-1]:
                    break
        except av.FFmpegError as error:
            raise _damaged(stream, index + 1) from error
    # After a jump nothing may lack: in some containers it lands behind the keyframe.
    tolerated = max(1, MISSING * len(wanted)) if key is None else 0
    if np.count_nonzero(~filled) > tolerated or not filled.any():
        raise _damaged(stream, int(wanted[np.argmin(filled)]))
    for slot in np.flatnonzero(~filled).tolist():  # a dropped frame: what was on screen stays
        out[slot] = out[slot - 1] if slot else out[np.argmax(filled)]
    return out


def _by_decord(stream: PictureStream, wanted: np.ndarray) -> np.ndarray | None:
    """The frames by decord's random access; None where PyAV must or had better read them."""
    if len(wanted) < 2 or wanted[-1] - wanted[0] < _SPREAD * (len(wanted) - 1):
        return None
    if stream.pts is None or stream.has_alpha or _DECORD_READS.isdisjoint(stream.container):
        return None
    try:
        import decord
    except (ImportError, OSError):  # no wheel for this machine, or one whose libraries don't load
        return None
    decord.logging.set_level(decord.logging.QUIET)
    try:
        reader = decord.VideoReader(str(stream.path.absolute()), ctx=decord.cpu(0), num_threads=1)
        if len(reader) != len(stream.times):  # it counts frames that an edit list hides
            return None
        times = reader.get_frame_timestamp(wanted.tolist())[:, 0]
        frames: np.ndarray = reader.get_batch(wanted.tolist()).asnumpy()
    except decord.DECORDError:
        return None  # PyAV finds out what is wrong
    agrees = np.allclose(
        times - times[0], stream.times[wanted] - stream.times[wanted[0]], atol=0.5 / stream.fps
    )
    return frames if agrees and frames.shape[1:] == (stream.height, stream.width, 3) else None


def _damaged(stream: PictureStream, index: int) -> InputError:
    index = min(index, len(stream.times) - 1)
    stop = f", or stop before it with --frames {index}" if index else ""
    return InputError(
        f"{stream.path}: damaged at frame {index} of {len(stream.times)} ({stream.times[index]:.2f} s): "
        f"export or download it again{stop}"
    )
