"""Names of uploaded files: what a person can recognise, and nothing that a file system or a URL could."""

import re
import unicodedata
from typing import Any

MAX_STEM = 60  # characters
_OTHERS = re.compile(r"[^\w .()+-]")
_LAST_NUMBER: Any = re.compile(r"[_.-]?[0-9]{0,18}$")  # matches always
_NUMBERS = re.compile(r"[\d_.# -]*$")


def safe_name(name: str) -> str:
    """A file name of letters, digits and `. _ - ( ) +`, of one ending and at most 80 characters.

    Folders before it, dots at its beginning and all other characters are left out. A long name keeps the
    number at its end, by which the images of a sequence differ.
    """
    name = unicodedata.normalize("NFC", name.replace("\\", "/").rpartition("/")[2])
    name = _OTHERS.sub("_", name).strip(" .")
    stem, dot, suffix = name.rpartition(".")
    if not dot or not suffix.isalnum() or len(suffix) > 8:
        stem, suffix = name, ""
    stem = stem.lstrip("-+(). ").rstrip(" .") or "clip"
    number = _LAST_NUMBER.search(stem)[0]
    stem = stem[: min(len(stem), MAX_STEM) - len(number)].rstrip(" .")
    while len(stem.encode()) > 150 - len(number):
        stem = stem[:-1]
    stem += number
    return f"{stem}.{suffix}" if suffix else stem


def of_sequence(names: list[str]) -> str:
    """The name of a sequence of images: what theirs begin with, without the numbers."""
    stem = names[0].rpartition(".")[0]
    for name in names:
        while not name.startswith(stem):
            stem = stem[:-1]
    return _NUMBERS.sub("", stem) or "images"


def unused(name: str, taken: set[str]) -> str:
    """The name, or with a number before its ending where it is taken; case doesn't distinguish names."""
    stem, dot, suffix = name.rpartition(".") if "." in name else (name, "", "")
    lower, found, number = {each.lower() for each in taken}, name, 1
    while found.lower() in lower:
        number += 1
        found = f"{stem}-{number}{dot}{suffix}"
    return found
