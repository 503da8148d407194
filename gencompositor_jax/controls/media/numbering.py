"""Numbered files: their order, what is missing, and patterns such as `name_####.png`.

The number of a file is the last run of digits in its name. A minus before it belongs to it at the start of
the name and after `_`, `.`, `-` or a space: `f_-4` has the number -4, `shot-4` has 4.
"""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from gencompositor_jax.errors import InputError

MOST_HELD = 100_000  # missing frames; more are no gap but another numbering

_NUMBER = re.compile(r"(?:(?<![^_.\-\s])-)?\d+(?=\D*$)")
_SEPARATORS = "._- "
_PATTERN = re.compile(r"%(?:0(\d+))?d|(#+)")


class Name(NamedTuple):
    """A file's name, taken apart."""

    prefix: str
    number: int | None  # None if there are no digits
    ending: str  # after the number, without the suffix


class Sorted(NamedTuple):
    """The files of a folder as frames."""

    files: tuple[Path, ...]  # in order; a missing number repeats the file before it
    missing: str  # which numbers are missing; empty if none
    doubled: tuple[Path, ...]  # left out: another file has the same number
    first: int = 0  # number of the first frame
    step: int = 1  # from frame to frame; 0 if the numbers have no such distance


def is_pattern(name: str) -> bool:
    """Whether a file's name has a place for a number: `%04d`, `%d` or `####`."""
    return len(_PATTERN.findall(name)) == 1


def is_sequence(path: str | Path) -> bool:
    """Whether an output is numbered images, such as `comp.####.exr`, and no video or folder."""
    path = Path(path)
    return bool(path.suffix) and is_pattern(path.name)


def bare(name: str) -> str:
    """The name without number and suffix: `comp` of `comp.####.exr`."""
    return _PATTERN.sub("", Path(name).stem).rstrip(_SEPARATORS)


def numbered(pattern: Path, number: int) -> Path:
    """The file with a number, of a pattern that `is_pattern`."""

    def digits(place: re.Match[str]) -> str:
        width = len(place[2]) if place[2] else int(place[1] or 1)
        return f"{number:0{width}d}"

    return pattern.with_name(_PATTERN.sub(digits, pattern.name))


def matching(folder: Path, pattern: str) -> list[Path]:
    """The files of a folder that a pattern names; InputError if there are none."""
    place = _PATTERN.search(pattern)
    assert place is not None
    digits = int(place[1] or 1) if place[2] is None else len(place[2])
    before, after = re.escape(pattern[: place.start()]), re.escape(pattern[place.end() :])
    name = re.compile(rf"{before}-?\d{{{digits},}}{after}")
    found = [path for path in folder.iterdir() if name.fullmatch(path.name) and path.is_file()]
    if not found:
        raise InputError(f"{folder / pattern}: no file in {folder} has such a name: check the pattern")
    return found


def in_order(files: Sequence[Path]) -> Sorted:
    """Files in the order of their numbers (frame_2 before frame_10), with gaps filled.

    Gaps are filled if all names are alike but for the number and most numbers are equally far apart. Of
    several files with one number that with the most common suffix stays. InputError for gaps of more than
    `MOST_HELD` frames.
    """
    named = [(name_of(path), path) for path in sorted(files, key=order)]
    common = Counter(path.suffix.lower() for path in files)
    kept: list[tuple[Name, Path]] = []
    doubled = []
    for name, path in named:
        if not kept or name.number is None or kept[-1][0] != name:
            kept.append((name, path))
        elif common[path.suffix.lower()] > common[kept[-1][1].suffix.lower()]:
            doubled.append(kept[-1][1])
            kept[-1] = (name, path)
        else:
            doubled.append(path)
    numbers = [name.number for name, _ in kept if name.number is not None]
    alike = len(numbers) == len(kept) and len({(name.prefix, name.ending) for name, _ in kept}) == 1
    step = _step(numbers) if alike else 0
    frames, gaps = [], []
    for i, (_, path) in enumerate(kept):
        frames.append(path)
        if not step or i + 1 == len(kept) or (distance := numbers[i + 1] - numbers[i]) == step:
            continue
        if distance // step > MOST_HELD:
            raise InputError(
                f"{path}: the next number, {numbers[i + 1]}, is {distance:,} later: renumber the files, or "
                "name some of them by a pattern such as name_00##.png"
            )
        frames += [path] * (distance // step - 1)
        gaps.append((numbers[i] + step, numbers[i + 1] - step))
    if not alike:
        return Sorted(tuple(frames), _spelt(gaps), tuple(doubled))
    return Sorted(tuple(frames), _spelt(gaps), tuple(doubled), numbers[0], step if len(numbers) > 1 else 1)


def sheet_among(files: Sequence[Path]) -> Path | None:
    """The PNG that is named as a contact sheet of the other, numbered images is: see `bare`."""
    names = Counter(
        (name.prefix, name.ending) for path in files if (name := name_of(path)).number is not None
    )
    (parts, count), *_ = names.most_common(1) or [(("", ""), 0)]
    stem = "".join(parts).rstrip(_SEPARATORS) or "out"
    found = [path for path in files if path.suffix.lower() == ".png" and path.stem.lower() == stem]
    return found[0] if count > 1 and found else None


def name_of(path: Path) -> Name:
    """The parts of a file's name, in lower case."""
    stem = path.stem.lower()
    found = _NUMBER.search(stem)
    if found is None:
        return Name(stem, None, "")
    return Name(stem[: found.start()], int(found[0]), stem[found.end() :])


def order(path: Path) -> tuple[list[tuple[int, int, str]], int, str, str]:
    """Sort key of a file: frame_2 before frame_10; the digits in the prefix compare as numbers, too."""
    name = name_of(path)
    parts = [p for p in re.split(r"(\d+)", name.prefix) if p]
    prefix = [(0, int(p), "") if p.isdecimal() else (1, 0, p) for p in parts]
    return prefix, -(2**62) if name.number is None else name.number, name.ending, path.name


def _step(numbers: list[int]) -> int:
    """How far apart most numbers are; 0 if there is no such distance, or others aren't multiples of it."""
    distances = [b - a for a, b in zip(numbers, numbers[1:], strict=False)]
    if not distances:
        return 0
    step, count = Counter(distances).most_common(1)[0]
    regular = 2 * count >= len(distances) and all(d % step == 0 for d in distances)
    return step if regular else 0


def _spelt(gaps: list[tuple[int, int]]) -> str:
    """The missing numbers: "3 to 5, 9"; the first five gaps."""
    shown = [str(a) if a == b else f"{a} to {b}" for a, b in gaps[:5]]
    more = [f"and {len(gaps) - 5} more gaps"] if len(gaps) > 5 else []
    return ", ".join(shown + more)
