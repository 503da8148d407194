"""The sound of a plate, copied to a result without encoding it again."""

import io
import logging
from collections import deque
from contextlib import ExitStack

import av
from av.audio.stream import AudioStream
from av.container import OutputContainer

from gencompositor_jax.controls.media.container import opened
from gencompositor_jax.controls.media.images import is_image
from gencompositor_jax.controls.media.inputs import local_path
from gencompositor_jax.files import PathLike

_log = logging.getLogger(__name__)


def copied_sound(
    stack: ExitStack,
    output: OutputContainer,
    source: PathLike,
    start: float,
    seconds: float,
) -> deque[tuple[float, av.Packet]]:
    """(time, packet) of a file's sound from `start` on, retimed to start at 0 in a new stream of `output`.

    Empty if there is none, or none that the container supports. The stack keeps the source open.
    """
    path = local_path(source)
    kept: deque[tuple[float, av.Packet]] = deque()
    if path.is_dir() or is_image(path):
        return kept
    container = stack.enter_context(opened(path))
    if not container.streams.audio:
        return kept
    stream = container.streams.audio[0]
    if not _fits(stream, output.format.name):
        codec = stream.codec_context.name
        _log.warning("%s: its sound (%s) is not supported by this container and is dropped", path, codec)
        return kept
    copy = output.add_stream_from_template(stream)
    assert stream.time_base is not None
    base = float(stream.time_base)
    origin = start
    # Times count from the first picture, whose stamp may differ from 0.
    for video in container.streams.video[:1]:
        origin += float((video.start_time or 0) * (video.time_base or 0))
    try:
        for packet in container.demux(stream):
            if packet.pts is None:
                continue
            time = packet.pts * base - origin
            if time >= seconds:
                break
            if kept and time <= kept[-1][0]:
                _log.warning("%s: its sound starts again at %.1f s and was copied up to there", path, time)
                break
            if start <= 0 or time + (packet.duration or 0) * base > 0:  # priming samples precede 0
                packet.pts -= round(origin / base)
                packet.dts = packet.pts
                packet.stream = copy
                kept.append((time, packet))
    except av.FFmpegError:
        _log.warning("%s: its sound is damaged and was copied in part", path)
    return kept


def _fits(stream: AudioStream, kind: str) -> bool:
    """Whether a container of this kind supports the stream; writing a header is the only test."""
    try:
        with av.open(io.BytesIO(), "w", format=kind) as trial:
            trial.add_stream_from_template(stream)
            trial.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    return True
