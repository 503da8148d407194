"""Deinterlacing by FFmpeg's filter bwdif: whole frames from pairs of fields, at the same times."""

from collections.abc import Iterator

import av
from av.filter import Graph
from av.video.stream import VideoStream

CONTEXT = 2  # frames before and after that the filter looks at


def deinterlaced(frames: Iterator[av.VideoFrame], stream: VideoStream) -> Iterator[av.VideoFrame]:
    """The frames with what is flagged interlaced deinterlaced; sizes, times and colour tags stay.

    A frame depends on the `CONTEXT` frames before and after it.
    """
    graph: Graph | None = None
    stamps: list[int | None] = []  # frames come out in their order, one for each
    for frame in frames:
        if graph is None:
            graph = _graph(frame, stream)
        stamps.append(frame.pts)
        graph.vpush(frame)
        yield from _ready(graph, stamps)
    if graph is not None:
        graph.vpush(None)
        yield from _ready(graph, stamps)


def _graph(frame: av.VideoFrame, stream: VideoStream) -> Graph:
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format, time_base=stream.time_base
    )
    filtered = graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
    sink = graph.add("buffersink")
    graph.link_nodes(source, filtered, sink).configure()
    return graph


def _ready(graph: Graph, stamps: list[int | None]) -> Iterator[av.VideoFrame]:
    while True:
        try:
            out = graph.vpull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        out.pts = stamps.pop(0)
        yield out
