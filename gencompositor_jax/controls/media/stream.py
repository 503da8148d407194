"""What one video file holds, from its packets and first frames: size, times, alpha, colours, truncation."""

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import av
import numpy as np
from av.container import InputContainer
from av.video.stream import VideoStream

from gencompositor_jax.controls.media.container import opened, picture
from gencompositor_jax.controls.media.display import Display
from gencompositor_jax.controls.media.first_frames import read_display
from gencompositor_jax.controls.media.inputs import DEFAULT_FPS, check_size
from gencompositor_jax.errors import InputError

MISSING = 0.05  # fraction of the frames; a file with more missing is refused
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}  # FFmpeg's own decoders drop WebM's alpha

# Containers without presentation time stamps: frames can only be counted from the start.
_UNTIMED = {"avi", "h264", "hevc", "m4v", "mpegvideo", "cavsvideo", "vc1", "obu"}
_JOINABLE = {"mpegts", "mpeg"}  # files of these may be joined byte by byte; then frames are counted too
_TICKS = 90_000  # a second in their time stamps
_STATE_DURATION = {"matroska", "webm", "asf", "flv"}  # in their header; the duration of others is an estimate


@dataclass(frozen=True, eq=False)
class PictureStream:
    """The picture stream of a file: T frames, in order of presentation."""

    path: Path
    container: frozenset[str]  # FFmpeg's names of the format
    codec: str  # FFmpeg's name
    pixel_format: str  # FFmpeg's name; empty if unknown
    display: Display  # from decoded frames to those that are shown
    interlaced: bool
    fps: float  # the average where the rate varies
    times: np.ndarray  # float [T]: when each frame appears, in seconds from the first one
    end: float  # when the last frame disappears, in seconds
    pts: np.ndarray | None  # int [T]: presentation time stamps; None if the container has none
    coded: np.ndarray | None  # int [T]: which decoded frame is shown; None: each once, in their order
    keys: np.ndarray  # int [K]: the stamps of keyframes, where decoding can start; some may be hidden
    has_alpha: bool
    has_audio: bool

    first: int = 0  # number of the first frame
    step: int = 1  # from frame to frame

    @property
    def frames(self) -> int:
        """T, the number of frames."""
        return len(self.times)

    @property
    def width(self) -> int:
        """Pixels as shown."""
        return self.display.size[0]

    @property
    def height(self) -> int:
        """Pixels as shown."""
        return self.display.size[1]

    @property
    def varies(self) -> bool:
        """Whether a frame appears more than half a frame from where a constant rate has it."""
        return bool(np.abs(self.times - np.arange(self.frames) / self.fps).max() * self.fps > 0.5)

    @property
    def notes(self) -> tuple[str, ...]:
        """How the frames that are read differ from those in the file, for the user."""
        display, found = self.display, []
        if display.square != display.coded:
            sizes = [f"{w}x{h}" for w, h in (display.coded, display.square)]
            found.append(f"its pixels aren't square: {sizes[0]} is read as {sizes[1]}")
        if self.interlaced:
            found.append("is interlaced and is read deinterlaced (bwdif)")
        found += display.colour.notes
        if self.has_audio and self.varies:
            found.append(f"its frame rate varies: it is read at {self.fps:.4g} fps, in step with its sound")
        return tuple(found)


class _Packet(NamedTuple):
    pts: int | None
    dts: int | None
    duration: int
    key: bool
    shown: bool
    whole: bool
    alpha: bool  # with an alpha picture of WebM


def read_stream(path: Path) -> PictureStream:
    """Read all packets of a file that passed `local_path`, and decode its first frames.

    InputError if it is no video, a playlist or text, has only sound or no frames, lacks more than 5 % of the
    frames that its header announces, can't be decoded, has frames larger than the limit, or colours that
    can't be converted.
    """
    with opened(path) as container:
        stream = picture(container, path)
        check_size(path, stream.width, stream.height)
        names = frozenset(container.format.name.split(","))
        packets, end = _packets(container, stream)
        _check_whole(path, names, container, stream, packets, end)
        shown = [p for p in packets if p.shown]
        keys = np.array([p.pts for p in packets if p.key and p.pts is not None], dtype=np.int64)
        timed = _UNTIMED.isdisjoint(names) and all(p.pts is not None for p in shown)
        timed = timed and not (names & _JOINABLE and _starts_again(packets))
        if timed:
            # Frames before the first keyframe can't be decoded. An edit list may hide the keyframe itself.
            first = next((p.pts for p in packets if p.key), None)
            shown = sorted((p for p in shown if first is not None and _pts(p) >= first), key=_pts)
        if not shown:
            raise InputError(f"{path}: has no frames: export it again")
        base = float(stream.time_base or 0)
        times = np.array([_pts(p) - _pts(shown[0]) for p in shown]) * base if timed else None
        fps = _rate(stream, times)
        has_alpha = _has_alpha(stream, packets)
        pixel_format = stream.codec_context.pix_fmt or ""
        codec, has_audio = stream.codec_context.codec.canonical_name, len(container.streams.audio) > 0
        coded = _coded_of_slots(shown, stream.frames) if "avi" in names else None
    if times is None:
        times = np.arange(len(shown) if coded is None else len(coded)) / fps
    last = shown[-1].duration * base
    keys = np.unique(keys) if timed else keys[:0]
    display, interlaced = read_display(path, keys)
    check_size(path, *display.size)
    return PictureStream(
        path=path,
        container=names,
        codec=codec,
        pixel_format=pixel_format,
        display=display,
        interlaced=interlaced,
        fps=fps,
        times=times,
        end=float(times[-1]) + (last if timed and 0.5 < last * fps < 10 else 1 / fps),
        pts=np.array([_pts(p) for p in shown]) if timed else None,
        coded=coded,
        keys=keys,
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
                alpha = packet.has_sidedata("matroska_block_additional")
                stamps = packet.pts, packet.dts, packet.duration or 0
                packets.append(_Packet(*stamps, packet.is_keyframe, shown, whole, alpha))
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
    found = len(packets)
    if "avi" in names:  # a frame without data repeats the one before
        found = 1 + max((p.dts for p in packets if p.dts is not None), default=-1)
    if stream.frames and found < stream.frames * (1 - MISSING):
        raise InputError(f"{path}: {found} of the {stream.frames} frames in its header are there: {remedy}")
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


def _has_alpha(stream: VideoStream, packets: list[_Packet]) -> bool:
    context = stream.codec_context
    if context.name in ALPHA_DECODERS:
        # Writers spell the tag differently, and FFmpeg reads the data by it.
        tags = {name.lower(): value for name, value in stream.metadata.items()}
        return tags.get("alpha_mode") == "1" or any(p.alpha for p in packets)
    return context.format is not None and any(c.is_alpha for c in context.format.components)


def _starts_again(packets: list[_Packet]) -> bool:
    """Whether decoding times fall, or leap by more than a minute: recordings joined byte by byte."""
    stamps = np.array([p.dts for p in packets if p.dts is not None], dtype=np.int64)
    steps = np.diff(stamps)
    return bool(steps.size and (steps.min() <= 0 or steps.max() > 60 * _TICKS))


def _coded_of_slots(shown: list[_Packet], announced: int) -> np.ndarray | None:
    """AVI has slots for frames, numbered by the time stamps; an empty one repeats the frame before.

    int [T]: the number of the decoded frame in each slot; None if none is empty.
    """
    slots = sorted(p.dts for p in shown if p.dts is not None)
    if len(slots) < len(shown) or slots[0] < 0 or slots[-1] >= 2 * max(announced, len(shown)):
        return None  # not numbered by slots
    total = max(announced, slots[-1] + 1)
    if total == len(shown):
        return None
    return np.maximum(np.searchsorted(slots, np.arange(total), side="right") - 1, 0)


def _pts(packet: _Packet) -> int:
    assert packet.pts is not None
    return packet.pts
