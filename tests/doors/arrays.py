"""Broken files of NumPy."""

import io
import zipfile
from collections.abc import Iterator

import numpy as np

from tests.doors.values import texts


def arrays_of_numbers() -> Iterator[tuple[str, bytes]]:
    """Broken .npy files."""
    sound_file = npy(np.zeros((6, 24), np.float32))
    yield from texts(sound_file.decode("latin1"))
    for shape in (
        "(10**12,)",
        "(1099511627776, 2)",
        "(2147483648, 1024)",
        "(-1, 24)",
        "(6, 24.0)",
        "('6', 24)",
    ):
        yield f"shape {shape}", header_only("<f4", shape)
    for shape in ("()", "(0, 24)", "(6,)", "(" * 200 + ")" * 200, "6", "None"):
        yield f"shape {shape[:20]}", header_only("<f4", shape)
    for dtype in ("O", "<U1000000", "<i4", "|V8", "<f2", ">f4", "f99", "[('a','<f4')]"):
        yield f"type {dtype}", header_only(dtype, "(6, 24)")
    for name, value in {"NaN": np.nan, "infinity": np.inf, "1e308": 1e308}.items():
        yield name, npy(np.full((6, 24), value))
    yield "pickle", b"\x80\x04\x95\x0b\x00\x00\x00\x00\x00\x00\x00\x8c\x02os."
    yield "archive", archive({"a.npy": sound_file})
    yield "empty archive", archive({})


def npy(array: np.ndarray) -> bytes:
    """The bytes of a .npy file."""
    out = io.BytesIO()
    np.save(out, array)
    return out.getvalue()


def header_only(dtype: str, shape: str) -> bytes:
    """A .npy file whose header states a type and a shape, and that holds next to nothing."""
    text = f"{{'descr': '{dtype}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (-(len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(64)


def archive(files: dict[str, bytes], compressed: bool = True) -> bytes:
    """A .npz file."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if compressed else zipfile.ZIP_STORED) as written:
        for name, content in files.items():
            written.writestr(name, content)
    return out.getvalue()


def latents() -> Iterator[tuple[str, bytes]]:
    """Broken files of latents."""
    made, drawn = npy(np.str_("x" * 64)), npy(np.zeros((2, 4, 6, 192), np.float32))
    yield from texts(archive({"made_from_0.npy": made, "latents_0.npy": drawn}).decode("latin1"))
    yield "no member", archive({})
    yield "no array", archive({"made_from_0.npy": b"x", "latents_0.npy": b"y"})
    yield "not a .npy", archive({"made_from_0": made, "latents_0": drawn})
    yield "only made_from", archive({"made_from_0.npy": made})
    yield "a bomb of 4 GB", archive({"made_from_0.npy": made, "latents_0.npy": _bomb()})
    yield "a bomb of 4 GB in another array", archive({"made_from_0.npy": made, "other.npy": _bomb()})
    for name, content in arrays_of_numbers():
        yield f"latents {name}", archive({"made_from_0.npy": made, "latents_0.npy": content}, False)
        yield f"made_from {name}", archive({"made_from_0.npy": content, "latents_0.npy": drawn}, False)


_BOMB: list[bytes] = []


def _bomb() -> bytes:
    """A valid array of zeros of 256 MB, written once; `archive` compresses it to 256 KB."""
    if not _BOMB:
        _BOMB.append(npy(np.zeros(2**28, np.uint8)))
    return _BOMB[0]
