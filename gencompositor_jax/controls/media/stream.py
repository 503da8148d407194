"""What one video file holds, from its packets without decoding them: size, times, alpha, truncation."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from gencompositor_jax.controls.media.container import frames_of, opened, picture
from gencompositor_jax.controls.media.inputs import DEFAULT_FPS, check_size
from gencompositor_jax.errors import InputError

MISSING = 0.05  # fraction of the frames; a file with more missing is refused
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's own decoders drop WebM's alpha

# Containers without presentation time stamps: frames can only be counted from the start.
_UNTIMED = {"avi", "h264", "hevc", "m4v", "mpegvideo", "cavsvideo", "vc1", "obu"}
_STATE_DURATION = {"matroska", "webm", "asf", "flv"}  # in their header; the duration of others is an estimate


@dataclass(frozen=True, eq=False)
class PictureStream:
    """The picture stream of a file: T frames, in order of presentation."""

    path: Path
    container: frozenset[str]  # FFmpeg's names of the format
    codec: str  # FFmpeg's name
    pixel_format: str  # FFmpeg's name; empty if unknown
    width: int  # pixels as displayed, after the rotation
    height: int
    turns: int  # quarter turns counter-clockwise that the header asks for
    fps: float  # the average where the rate varies
    times: np.ndarray  # float [T]: when each frame appears, in seconds from the first one
    end: float  # when the last frame disappears, in seconds
    pts: np.ndarray | None  # int [T]: presentation time stamps; None if the container has none
    keys: np.ndarray  # int [K]: the stamps of keyframes, where decoding can start
    has_alpha: bool
    has_audio: bool

    @property
    def frames(self) -> int:
        """T, the number of frames."""
        return len(self.times)


class _Packet(NamedTuple):
    pts: int | None
    duration: int
    key: bool
    shown: bool
    whole: bool


def read_stream(path: Path) -> PictureStream:
    """Read all packets of a file that passed `local_path`, and decode its first frame.

    InputError if it is no video, a playlist or text, has only sound or no frames, lacks more than 5 % of the
    frames that its header announces, can't be decoded, or has frames larger than the limit.
    """
    with opened(path) as container:
        stream = picture(container, path)
        check_size(path, stream.width, stream.height)
        names = frozenset(container.format.name.split(","))
        packets, end = _packets(container, stream)
        _check_whole(path, names, container, stream, packets, end)
        shown = [p for p in packets if p.shown]
        timed = _UNTIMED.isdisjoint(names) and all(p.pts is not None for p in shown)
        if timed:
            shown.sort(key=_pts)
            first = next((_pts(p) for p in shown if p.key), None)
            # Frames before the first keyframe can't be decoded.
            shown = [p for p in shown if first is not None and _pts(p) >= first]
        if not shown:
            raise InputError(f"{path}: has no frames: export it again")
        base = float(stream.time_base or 0)
        times = np.array([_pts(p) - _pts(shown[0]) for p in shown]) * base if timed else None
        fps = _rate(stream, times)
        has_alpha = _has_alpha(stream)
        pixel_format = stream.codec_context.pix_fmt or ""
        codec, has_audio = stream.codec_context.codec.canonical_name, len(container.streams.audio) > 0
    if times is None:
        times = np.arange(len(shown)) / fps
    last = shown[-1].duration * base
    width, height, turns = _first_frame(path)
    check_size(path, width, height)
    return PictureStream(
        path=path,
        container=names,
        codec=codec,
        pixel_format=pixel_format,
        width=width,
        height=height,
        turns=turns,
        fps=fps,
        times=times,
        end=float(times[-1]) + (last if timed and 0.5 < last * fps < 10 else 1 / fps),
        pts=np.array([_pts(p) for p in shown]) if timed else None,
        keys=np.array([_pts(p) for p in shown if timed and p.key], dtype=np.int64),
        has_alpha=has_alpha,
        has_audio=has_audio,
    )


def _packets(container: InputContainer, stream: VideoStream) -> tuple[list[_Packet], float]:
    """The packets of the picture stream, and when the last stream of the file ends, in seconds."""
    packets, end = [], 0.0
    vp8 = stream.codec_context.name == "vp8"
    try:
        for packet in container.demux():
            if not packet.size:
                continue
            if packet.pts is not None and packet.time_base:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream_index == stream.index:
                # VP8 has reference frames that are never shown; the fifth bit of a packet says so.
                shown = not packet.is_discard and not (vp8 and not memoryview(packet)[0] & 0x10)
                whole = not packet.is_corrupt
                packets.append(_Packet(packet.pts, packet.duration or 0, packet.is_keyframe, shown, whole))
    except av.FFmpegError:
        pass  # _check_whole counts the packets that were read
    return packets, end


def _check_whole(
    path: Path,
    names: frozenset[str],
    container: InputContainer,
    stream: VideoStream,
    packets: list[_Packet],
    end: float,
) -> None:
    """Raise InputError if more than 5 % of what the header announces is missing: an interrupted copy."""
    remedy = "it was cut short, copy or export it again"
    if stream.frames and len(packets) < stream.frames * (1 - MISSING):
        raise InputError(
            f"{path}: {len(packets)} of the {stream.frames} frames in its header are there: {remedy}"
        )
    announced = (container.duration or 0) / av.time_base
    if not _STATE_DURATION.isdisjoint(names) and end < announced * (1 - MISSING) - 0.1:
        raise InputError(
            f"{path}: {end:.1f} of the {announced:.1f} seconds in its header are there: {remedy}"
        )
    # Transport streams may lose packets on the air; damage then shows when frames are decoded.
    if "mpegts" not in names and not all(p.whole for p in packets):
        raise InputError(f"{path}: its data ends in the middle of a frame: {remedy}")


def _rate(stream: VideoStream, times: np.ndarray | None) -> float:
    """Frames per second as the stream states, or from its time stamps if they differ by more than a fifth."""
    stated = float(stream.average_rate or stream.guessed_rate or 0)
    stamped = 0.0
    if times is not None and len(times) > 2 and times[-1] > 0:
        stamped = (len(times) - 1) / float(times[-1])
    if stamped and not 0.8 < stated / stamped < 1.25:
        stated = stamped
    return stated if 0 < stated <= 1000 else DEFAULT_FPS


def _has_alpha(stream: VideoStream) -> bool:
    context = stream.codec_context
    if context.name in ALPHA_DECODERS:
        return stream.metadata.get("alpha_mode") == "1"
    return context.format is not None and any(c.is_alpha for c in context.format.components)


def _first_frame(path: Path) -> tuple[int, int, int]:
    """(width, height) as displayed, and the quarter turns counter-clockwise that a decoded frame needs."""
    with opened(path) as container:
        try:
            frame = next(frames_of(container, picture(container, path), None), None)
        except av.FFmpegError as error:
            raise InputError(f"{path}: its first frame can't be decoded: export it again") from error
        if frame is None:
            raise InputError(f"{path}: none of its frames can be decoded: export it again")
        turns = round(frame.rotation / 90) % 4
        return (frame.height, frame.width, turns) if turns % 2 else (frame.width, frame.height, turns)


def _pts(packet: _Packet) -> int:
    assert packet.pts is not None
    return packet.pts
