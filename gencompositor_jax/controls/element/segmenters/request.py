"""What to cut out of a clip, as the user says it: `auto`, `point:x,y`, `box:x,y,x,y`, or words."""

import dataclasses
import re

from gencompositor_jax.errors import InputError

_NUMBER = r"\s*([-+]?\d+(?:\.\d+)?)\s*"
_POINT = re.compile(rf"point:{_NUMBER},{_NUMBER}")
_BOX = re.compile(rf"box:{_NUMBER},{_NUMBER},{_NUMBER},{_NUMBER}")
_WORDS = re.compile(r"[^\W\d_][\w' .,-]*")  # in any script
MAX_WORDS = 200  # characters


@dataclasses.dataclass(frozen=True)
class Auto:
    """Whatever is salient in the clip."""

    def __str__(self) -> str:
        return "auto"


@dataclasses.dataclass(frozen=True)
class Point:
    """The object at a pixel of the first frame, the centre of the top left one being (0, 0)."""

    x: float
    y: float

    def __str__(self) -> str:
        return f"point:{self.x:g},{self.y:g}"


@dataclasses.dataclass(frozen=True)
class Box:
    """The object in a box of the first frame, in pixels; left < right and top < bottom."""

    left: float
    top: float
    right: float
    bottom: float

    def __str__(self) -> str:
        return f"box:{self.left:g},{self.top:g},{self.right:g},{self.bottom:g}"


@dataclasses.dataclass(frozen=True)
class Words:
    """The object that some words describe, such as "a white gull"."""

    text: str

    def __str__(self) -> str:
        return repr(self.text)


Request = Auto | Point | Box | Words


def parse_segment(text: str) -> Request:
    """Raises InputError for text that is none of them."""
    given = text.strip()
    if given == "auto":
        return Auto()
    if found := _POINT.fullmatch(given):
        return Point(*map(float, found.groups()))
    if found := _BOX.fullmatch(given):
        x0, y0, x1, y1 = map(float, found.groups())
        box = Box(min(x0, x1), min(y0, y1), max(x0, x1), max(y0, y1))
        if x0 == x1 or y0 == y1:
            raise InputError(f"{text!r}: the box has no area; pass its upper left and its lower right corner")
        if box != Box(x0, y0, x1, y1):
            raise InputError(
                f"{text!r}: pass the upper left corner of the box, then the lower right one, such as {box}"
            )
        return box
    if given.startswith(("point:", "box:")) or not _WORDS.fullmatch(given) or len(given) > MAX_WORDS:
        raise InputError(f"{text[:60]!r}: pass auto, point:x,y, box:x,y,x,y, or words such as 'a white gull'")
    return Words(given)


def check_inside(request: Request, width: int, height: int, name: str) -> None:
    """Raises InputError where a point or a part of a box is outside frames of that size."""
    if isinstance(request, Point):
        inside = 0 <= request.x < width and 0 <= request.y < height
    elif isinstance(request, Box):
        inside = (
            request.left >= 0 and request.right <= width and request.top >= 0 and request.bottom <= height
        )
    else:
        return
    if not inside:
        what = "reaches beyond" if isinstance(request, Box) else "outside"
        raise InputError(
            f"segment {request}: {what} the frame; {name} has {width}x{height} pixels; pass it where the "
            "element is in the first frame"
        )
