"""Request bodies as they arrive: limited in size, and in patience."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any

import anyio.to_thread
from fastapi import HTTPException, Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from gencompositor_jax.errors import InputError
from gencompositor_jax.files import parse_json
from gencompositor_jax.jobs.uploads import TooLarge, Uploads

FIELDS_BYTES = 2**20  # of the fields of a job
OVERHEAD_BYTES = 2**20  # of a multipart body besides its files: boundaries and headers
SLOWEST = 10_000  # bytes per second that a client must reach
GRACE_S = 30.0  # that it may lag behind


Rename = Callable[[str], str]  # the name of an uploaded file -> the name that it is stored under


class Malformed(InputError):
    """A body that doesn't have the format that its header announces."""


async def read_submission(request: Request, uploads: Uploads) -> dict[str, Any]:
    """The fields of a job from a JSON body, or from the part `job` of a multipart body with files.

    The files go to `uploads`. Raises Malformed, TooLarge, DiskFull, InputError for a file's name, or an HTTP
    exception: 408 for a slow client, 415 for another type of body.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind == b"application/json":
        return await read_object(request, "job")
    if kind != b"multipart/form-data":
        raise HTTPException(415, "send application/json, or multipart/form-data with a part `job` and files")
    form = await _read_form(request, options.get(b"boundary", b""), uploads)
    if form.job is None:
        raise Malformed("multipart: the part `job` with the fields is missing")
    return _fields(bytes(form.job), "job")


async def read_files(request: Request, uploads: Uploads, rename: Rename) -> None:
    """The files of a multipart body, which go to `uploads` under the names that `rename` makes of theirs.

    Raises as `read_submission`, and Malformed where there is no file.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data":
        raise HTTPException(415, "send multipart/form-data with files")
    form = await _read_form(request, options.get(b"boundary", b""), uploads, rename)
    if form.job is not None or not uploads.digests:
        raise Malformed("multipart: send parts with a file name, and no others")


async def read_object(request: Request, where: str) -> dict[str, Any]:
    """The object in a JSON body; messages begin with `where`. Raises as `read_submission`."""
    kind, _ = parse_options_header(request.headers.get("content-type"))
    if kind != b"application/json":
        raise HTTPException(415, "send application/json")
    return _fields(b"".join([chunk async for chunk in arriving(request, FIELDS_BYTES)]), where)


async def arriving(request: Request, limit: int) -> AsyncIterator[bytes]:
    """The chunks of a body. Raises TooLarge beyond the limit, 408 for a client that sends too slowly."""
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(limit)
    size, started, stream = 0, time.monotonic(), request.stream()
    while True:
        left = GRACE_S + size / SLOWEST - (time.monotonic() - started)
        try:
            async with asyncio.timeout(max(left, 0)):
                chunk = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError as error:
            raise HTTPException(
                408, f"{size} bytes in {time.monotonic() - started:.0f} s: too slow", {"Connection": "close"}
            ) from error
        size += len(chunk)
        if size > limit:
            raise _too_large(limit)
        yield chunk


def _as_given(name: str) -> str:
    return name


async def _read_form(
    request: Request, boundary: bytes, uploads: Uploads, rename: Rename = _as_given
) -> "_Form":
    """The part `job`; the other parts are files."""
    limit = uploads.limit + FIELDS_BYTES + OVERHEAD_BYTES
    try:
        if not boundary:
            raise Malformed("multipart: the Content-Type has no boundary")
        form = _Form(uploads, rename)
        parser = MultipartParser(boundary, form.callbacks())
        async for chunk in arriving(request, limit):
            await anyio.to_thread.run_sync(parser.write, chunk)  # writes to the disk
    except FormParserError as error:
        raise Malformed(f"multipart: {error}") from error
    if not form.complete:
        raise Malformed("multipart: the body ends before its last boundary")
    return form


class _Form:
    """What a multipart parser has found so far."""

    def __init__(self, uploads: Uploads, rename: Rename) -> None:
        self.job: bytearray | None = None
        self.complete = False
        self._uploads, self._rename = uploads, rename
        self._header, self._value = bytearray(), bytearray()
        self._disposition = b""
        self._to: Callable[[bytes], None] = self._add_to_job
        self._is_file = False

    def callbacks(self) -> Any:
        """For the parser, which calls them with slices of what it is given."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": partial(self._collect, self._header),
            "on_header_value": partial(self._collect, self._value),
            "on_header_end": self._end_header,
            "on_headers_finished": self._start,
            "on_part_data": lambda data, start, end: self._to(data[start:end]),
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    @staticmethod
    def _collect(into: bytearray, data: bytes, start: int, end: int) -> None:
        into += data[start:end]

    def _begin(self) -> None:
        self._disposition = b""

    def _end_header(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = bytes(self._value)
        self._header.clear()
        self._value.clear()

    def _start(self) -> None:
        _, options = parse_options_header(self._disposition)
        name = options.get(b"name", b"").decode("utf-8", "replace")
        self._is_file = b"filename" in options
        if self._is_file:
            self._uploads.begin(self._rename(options[b"filename"].decode("utf-8", "replace")))
            self._to = self._uploads.write
        elif name == "job" and self.job is None:
            self.job = bytearray()
            self._to = self._add_to_job
        else:
            raise Malformed(f"multipart: the part {name[:40]!r} has no file name; only `job` has none")

    def _add_to_job(self, data: bytes) -> None:
        assert self.job is not None
        if len(self.job) + len(data) > FIELDS_BYTES:
            raise _too_large(FIELDS_BYTES)
        self.job += data

    def _end(self) -> None:
        if self._is_file:
            self._uploads.end()

    def _finish(self) -> None:
        self.complete = True


def _fields(text: bytes, where: str) -> dict[str, Any]:
    try:
        found = parse_json(text.decode("utf-8"), where)
    except UnicodeDecodeError as error:
        raise Malformed(f"{where}: not UTF-8 text (byte {error.start})") from error
    except InputError as error:
        raise Malformed(str(error)) from error
    try:
        json.dumps(found, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise Malformed(f"{where}: a text with half of a surrogate pair") from error
    if not isinstance(found, dict):
        raise Malformed(f'{where}: pass an object, as {{"background": ...}}')
    return found


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the body is larger than {limit / 2**20:g} MiB, the service's limit")
