"""Colour tags: the matrix, the transfer function and the primaries of a video, and what untagged ones have.

The numbers are those of ITU-T H.273, which containers (NCLC, NCLX) and bitstreams (VUI) share.
"""

from typing import Literal, NamedTuple

Transfer = Literal["sdr", "hlg", "pq"]
Primaries = Literal["bt709", "bt2020", "p3"]

UNSPECIFIED = (0, 2, 3)  # reserved values too; 0 is a matrix (RGB), see `colour_of`
_RGB, _BT709, _FCC, _BT470BG, _BT601, _SMPTE240M, _BT2020, _BT2020_CONSTANT = 0, 1, 4, 5, 6, 7, 9, 10
_MATRICES = (_BT709, _FCC, _BT470BG, _BT601, _SMPTE240M, _BT2020)  # those that swscale converts
_TRANSFERS: dict[int, Transfer] = {16: "pq", 18: "hlg"}
_PRIMARIES: dict[int, Primaries] = {9: "bt2020", 11: "p3", 12: "p3"}
_MATRIX_OF_PRIMARIES = {1: _BT709, 5: _BT470BG, 6: _BT601, 7: _SMPTE240M, 9: _BT2020}


class Tags(NamedTuple):
    """What a container or a frame states, in H.273's numbers; 2 is "unspecified"."""

    matrix: int
    transfer: int
    primaries: int


class Colour(NamedTuple):
    """How the values of a video are to be read."""

    matrix: int  # of YCbCr to RGB: a number of H.273 that is also swscale's
    transfer: Transfer
    primaries: Primaries

    @property
    def is_working_space(self) -> bool:
        """Whether R'G'B' needs no further conversion: SDR with BT.709's primaries."""
        return self.transfer == "sdr" and self.primaries == "bt709"

    @property
    def notes(self) -> tuple[str, ...]:
        """How values are converted to the working space, for the user; empty if they aren't."""
        if self.transfer != "sdr":
            return (f"is HDR ({self.transfer.upper()}) and is read tone-mapped to SDR",)
        if self.primaries != "bt709":
            return (f"has {self.primaries.upper()} colours and is read as BT.709",)
        return ()


def colour_of(tags: Tags, fallback: Tags, width: int, height: int) -> Colour | None:
    """The colour of a video; None if its matrix can't be converted (YCgCo, ICtCp, constant luminance).

    `tags`: the first frame's. `fallback`: the container's, for each that the frame leaves open. Without a
    matrix that of the primaries is taken, and without those BT.709 from 1280 columns or 577 rows on, else
    BT.601, as players do.
    """
    matrix, transfer, primaries = (
        own if own not in UNSPECIFIED else other for own, other in zip(tags, fallback, strict=True)
    )
    hdr = _TRANSFERS.get(transfer, "sdr")
    if hdr != "sdr" and primaries in UNSPECIFIED:
        primaries = 9
    if matrix in UNSPECIFIED:
        untagged = _BT709 if width >= 1280 or height > 576 else _BT601
        matrix = _MATRIX_OF_PRIMARIES.get(primaries, untagged)
    if matrix not in _MATRICES:
        return None
    return Colour(matrix, hdr, _PRIMARIES.get(primaries, "bt709"))
