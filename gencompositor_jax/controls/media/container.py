"""FFmpeg's containers: local files only, one picture stream, decoded in order."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import av
from av.container import InputContainer
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream

from gencompositor_jax.errors import InputError

# Demuxers whose input names other files or addresses, or is a script or text.
_REFUSED = re.compile(
    "avisynth|concatf?|dash|hls|imf|image2|lavfi|rtp|rtsp|sap|sdp|svg_pipe|tedcaptions|tty|vapoursynth"
    "|webm_dash_manifest"
)


@contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """Open the container of a local file. Files and addresses that it refers to are not opened."""
    try:
        # An absolute path is never taken for a protocol. The whitelist keeps playlists off the network while
        # FFmpeg detects the format.
        container = av.open(
            str(path.absolute()), options={"protocol_whitelist": "file"}, metadata_errors="replace"
        )
    except (av.FFmpegError, ValueError) as error:
        raise InputError(
            f"{path}: is not a video that can be read (damaged, incomplete or of an unknown format): "
            "check that it plays, and export or download it again"
        ) from error
    with container:
        if any(_REFUSED.fullmatch(name) for name in container.format.name.split(",")):
            raise InputError(f"{path}: is a playlist or text, not a video: pass the video file itself")
        yield container


def picture(container: InputContainer, path: Path) -> VideoStream:
    """The first video stream that isn't cover art. InputError if there is none, or no decoder for it."""
    pictures = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not pictures:
        what = "has only sound" if container.streams.audio else "has no video stream"
        raise InputError(f"{path}: {what}: pass a file with a video stream")
    stream = pictures[0]
    if stream.codec_context is None or stream.codec_context.codec is None:
        raise InputError(f"{path}: its codec is unknown to this FFmpeg: convert it to H.264 or ProRes")
    return stream


def frames_of(
    container: InputContainer, stream: VideoStream, alpha_decoder: str | None
) -> Iterator[av.VideoFrame]:
    """Decoded frames from the current position on, by the stream's own decoder or by `alpha_decoder`."""
    context = stream.codec_context
    if alpha_decoder is not None:
        context = cast(VideoCodecContext, av.CodecContext.create(alpha_decoder, "r"))
    if not context.is_open:  # else it is set already
        context.thread_type = "AUTO"
    for packet in container.demux(stream):
        yield from context.decode(packet)
