"""Video out: H.264 with the background's sound, or a folder of PNG images."""

from collections import deque
from collections.abc import Sequence
from contextlib import ExitStack
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
from av.container import OutputContainer
from av.video.reformatter import ColorRange
from av.video.stream import VideoStream
from PIL import Image

from gencompositor_jax.controls.media.codecs import CONTAINERS, X264
from gencompositor_jax.controls.media.frames import Frames
from gencompositor_jax.controls.media.sound import copied_sound
from gencompositor_jax.errors import InputError
from gencompositor_jax.files import PathLike, atomic_folder, atomic_write, check_output

CRF = 14  # x264's constant rate factor: visually lossless, about a tenth of a lossless file
_BT709 = 1  # H.264's code for the primaries, the transfer function and the matrix
# RGB to YCbCr of ITU-R BT.709, luma in 16..235 and chroma in 16..240; the last column is the offset.
_KR, _KB = 0.2126, 0.0722
_LUMA = np.array([_KR, 1 - _KR - _KB, _KB])
_BLUE, _RED = (np.eye(3)[2] - _LUMA) / (2 - 2 * _KB), (np.eye(3)[0] - _LUMA) / (2 - 2 * _KR)
_BT709_LIMITED = np.column_stack(
    [np.stack([219 * _LUMA, 224 * _BLUE, 224 * _RED]) / 255, [16, 128, 128]]
).astype(np.float32)


def check_video_output(path: PathLike, overwrite: bool) -> None:
    """`check_output` for a video; InputError if the name doesn't end in .mp4, .mov or .mkv."""
    if Path(path).suffix.lower() not in CONTAINERS:
        raise InputError(f"{path}: not a video format that is written; use {', '.join(CONTAINERS)}")
    check_output(path, overwrite)


def write_video(
    path: PathLike,
    frames: Frames,
    fps: float,
    *,
    audio_from: PathLike | None = None,
    audio_start: float = 0.0,
    crf: int = CRF,
    overwrite: bool = False,
) -> None:
    """Write uint8 RGB frames [T, H, W, 3] as H.264, 8-bit 4:2:0, BT.709, which every player supports.

    4:2:0 needs even sizes: an odd width or height is padded with a copy of the last column or row.
    (`write_image_folder` keeps size and values.)

    `audio_from`: a video whose first sound stream, if any, is copied without re-encoding, from `audio_start`
    seconds on for the duration of the frames, to the precision of its packets (about 20 ms). Sound that the
    container doesn't support is dropped with a warning in the log; .mkv supports nearly all codecs.

    The file is written atomically. InputError: see `check_video_output`, and if the disk is full.
    """
    _check_frames(frames, (3,))
    check_video_output(path, overwrite)
    rate = Fraction(fps).limit_denominator(1001)
    if not 0 < rate <= 1000:
        raise InputError(f"fps {fps:g}: the frame rate must lie above 0 and be at most 1000")
    options = {"fflags": "+bitexact"}  # Matroska would write random numbers
    if Path(path).suffix.lower() != ".mkv":
        options["movflags"] = "+faststart"
    with atomic_write(path, overwrite) as part, ExitStack() as stack:
        output = stack.enter_context(
            av.open(str(part.absolute()), "w", format=CONTAINERS[Path(path).suffix.lower()], options=options)
        )
        stream = _add_picture(output, frames, rate, crf)
        sound: deque[tuple[float, av.Packet]] = deque()
        if audio_from is not None:
            sound = copied_sound(stack, output, audio_from, audio_start, float(len(frames) / rate))
        for index, frame in enumerate(frames):
            for packet in stream.encode(_picture(frame, index, rate)):
                output.mux(packet)
            while sound and sound[0][0] <= index / rate:  # interleaved, for players
                output.mux(sound.popleft()[1])
        for packet in stream.encode(None):
            output.mux(packet)
        output.mux([packet for _, packet in sound])


def write_image_folder(path: PathLike, frames: Frames, overwrite: bool = False) -> None:
    """Write uint8 frames [T, H, W, 3 or 4] as 00000.png, 00001.png, ... in a new folder, losslessly.

    The folder is written atomically. `overwrite` replaces a folder that contains only numbered PNG images.
    InputError: see `check_output`.
    """
    _check_frames(frames, (3, 4))
    check_output(path, overwrite)
    with atomic_folder(path, overwrite) as part:
        for index, frame in enumerate(frames):
            Image.fromarray(frame).save(part / f"{index:05d}.png", compress_level=4)


def _check_frames(frames: Frames, channels: Sequence[int]) -> None:
    shape = frames.shape
    if frames.dtype != np.uint8 or len(shape) != 4 or shape[-1] not in channels or 0 in shape:
        wanted = " or ".join(map(str, channels))
        raise ValueError(f"frames must be uint8 [T, H, W, {wanted}], not {frames.dtype} {frames.shape}")


def _add_picture(output: OutputContainer, frames: Frames, rate: Fraction, crf: int) -> VideoStream:
    _, height, width, _ = frames.shape
    stream = output.add_stream("libx264", rate=rate, options={"crf": str(crf), **X264})
    stream.width, stream.height, stream.pix_fmt = width + width % 2, height + height % 2, "yuv420p"
    context = stream.codec_context
    # Tagged in the file: without tags players guess, most of them from the height.
    context.colorspace = context.color_primaries = context.color_trc = _BT709
    context.color_range = ColorRange.MPEG
    return stream


def _picture(frame: np.ndarray, index: int, rate: Fraction) -> av.VideoFrame:
    """RGB [H, W, 3] as frame `index` of a 4:2:0 stream, padded to even sizes."""
    height, width, _ = frame.shape
    even = np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
    picture = av.VideoFrame.from_ndarray(_yuv420(even), "yuv420p")
    picture.pts, picture.time_base = index, 1 / rate
    return picture


def _yuv420(frame: np.ndarray) -> np.ndarray:
    """RGB [H, W, 3], H and W even, to the planes Y, U, V [3 H / 2, W] that FFmpeg calls yuv420p.

    A chroma sample covers 2x2 pixels and is sited at their left edge (the default of ITU-T H.264, annex E):
    it is filtered with [1 2 1] / 4 over the columns and averaged over the two rows. swscale sites it in the
    centre, which would shift colours by half a pixel in each generation.
    """
    planes = cv2.transform(frame.astype(np.float32), _BT709_LIMITED)
    rows = planes[0::2, :, 1:] + planes[1::2, :, 1:]
    left = np.concatenate([rows[:, :1], rows[:, 1:-1:2]], axis=1)
    chroma = (left + 2 * rows[:, 0::2] + rows[:, 1::2]) / 8
    height, width = frame.shape[:2]
    flat = [planes[..., 0].ravel(), chroma[..., 0].ravel(), chroma[..., 1].ravel()]
    return np.rint(np.concatenate(flat)).astype(np.uint8).reshape(height * 3 // 2, width)
