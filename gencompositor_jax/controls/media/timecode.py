"""Time codes of SMPTE ST 12-1, drop-frame too: "hh:mm:ss:ff", or "hh:mm:ss;ff".

Drop-frame leaves out the numbers of the first two frames (four at 59.94 frames per second) of each minute but
every tenth, so that 29.97 frames per second keep up with the clock.
"""

import re
from pathlib import Path

from gencompositor_jax.controls.media.container import opened

_FORM = re.compile(r"(\d+):(\d+):(\d+)([:;.])(\d+)")


def timecode_of(path: Path, frames: int, fps: float) -> str | None:
    """The time code of a video's frame number `frames`; None if the file has none."""
    if not path.is_file():
        return None
    with opened(path) as container:
        tags = [container.metadata, *(stream.metadata for stream in container.streams)]
    named = [{key.lower(): value for key, value in each.items()} for each in tags]
    return later(next((each["timecode"] for each in named if "timecode" in each), ""), frames, fps)


def later(timecode: str, frames: int, fps: float) -> str | None:
    """A time code so many frames later; None if the text is none."""
    found = _FORM.fullmatch(timecode)
    if found is None:
        return None
    hours, minutes, seconds, rest = (int(found[group]) for group in (1, 2, 3, 5))
    base, drop = round(fps), found[4] != ":"
    dropped = base // 15 if drop else 0  # numbers that a minute lacks: 2 of 30, 4 of 60
    minute, ten = base * 60 - dropped, base * 600 - 9 * dropped
    total = ((hours * 60 + minutes) * 60 + seconds) * base + rest
    total -= dropped * (hours * 60 + minutes - (hours * 60 + minutes) // 10)
    total = (total + frames) % (144 * ten)
    tens, within = divmod(total, ten)
    if dropped and within >= base * 60:
        minutes_after = 1 + (within - base * 60) // minute
        within += dropped * minutes_after
    count = tens * base * 600 + within
    seconds, rest = divmod(count, base)
    mark = ";" if drop else ":"
    return f"{seconds // 3600 % 24:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{mark}{rest:02}"
