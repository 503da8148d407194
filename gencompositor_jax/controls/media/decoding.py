"""The frames one asks for of a probed video file, decoded by PyAV.

PyAV interpolates chroma and reports damaged frames. decord jumps faster, but repeats chroma samples and
conceals damage: it is used only if GENCOMPOSITOR_DECODER=decord is set, for frames far apart in files from
which it returns the same bits (RGB, grey, YUV 4:4:4).
"""

import os

import av
import numpy as np

from gencompositor_jax.controls.media.container import frames_of, opened, picture, pixels_of
from gencompositor_jax.controls.media.stream import ALPHA_DECODERS, MISSING, PictureStream
from gencompositor_jax.errors import InputError

DECODER = "GENCOMPOSITOR_DECODER"  # the environment variable: pyav (default) or decord

_FAR = 24  # frames from one wanted to the next from which a seek is faster than decoding (measured on H.264)
# Where decord 0.6 returns PyAV's bits (measured; subsampled chroma and more than 8 bits per channel differ).
_DECORD_FORMATS = {"rgb24", "bgr0", "gbrp", "gray", "yuv444p", "yuvj444p"}
_DECORD_CONTAINERS = {"mov", "mp4", "matroska", "webm"}


def decode(stream: PictureStream, wanted: np.ndarray, alpha: bool) -> np.ndarray:
    """The frames at the indices `wanted` [n] (increasing, no repeats): uint8 [n, H, W, 3], with `alpha` 4.

    `alpha` needs a stream that has it. InputError names the first damaged frame (decord reports none).
    """
    far = np.diff(wanted) >= _FAR
    if _wants_decord() and not alpha and far.size and far.all():
        frames = _by_decord(stream, wanted)
        if frames is not None:
            return frames
    if stream.pts is not None:
        key = stream.keys[np.searchsorted(stream.keys, stream.pts[wanted], side="right") - 1]
        seeks = np.append(key[0] > stream.keys[0], far & (key[1:] > stream.pts[wanted[:-1]]))
        if seeks.any():
            runs = np.split(np.arange(len(wanted)), np.flatnonzero(seeks[1:]) + 1)
            starts = [key[run[0]] if seeks[run[0]] else None for run in runs]
            try:
                parts = [_by_pyav(stream, wanted[r], alpha, k) for r, k in zip(runs, starts, strict=True)]
                return np.concatenate(parts)
            except InputError:
                pass  # a keyframe may lack what a decoder needs: only what fails from the start is damaged
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
            container.seek(int(key), stream=video)
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
    # After a seek every frame must be there: in some containers it ends behind the keyframe.
    tolerated = max(1, MISSING * len(wanted)) if key is None else 0
    if np.count_nonzero(~filled) > tolerated or not filled.any():
        raise _damaged(stream, int(wanted[np.argmin(filled)]))
    for slot in np.flatnonzero(~filled).tolist():  # a dropped frame: the one before it stays on screen
        out[slot] = out[slot - 1] if slot else out[np.argmax(filled)]
    return out


def _wants_decord() -> bool:
    decoder = os.environ.get(DECODER) or "pyav"
    if decoder not in ("pyav", "decord"):
        raise InputError(f"{DECODER}={decoder}: unknown; set pyav or decord")
    return decoder == "decord"


def _by_decord(stream: PictureStream, wanted: np.ndarray) -> np.ndarray | None:
    """The frames by decord's random access; None if it can't read the file or returns other bits."""
    if stream.pts is None or stream.turns or stream.pixel_format not in _DECORD_FORMATS:
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


def _damaged(stream: PictureStream, index: int) -> InputError:
    index = min(index, stream.frames - 1)
    remedy = f", or stop before it with --frames {index}" if index else ""
    return InputError(
        f"{stream.path}: damaged at frame {index} of {stream.frames} ({stream.times[index]:.2f} s): "
        f"export or download it again{remedy}"
    )
