"""Numbers in the texts of other programs."""

import re

NUMBER = r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
LARGEST = 1e9  # no frame, pixel or degree is larger, and sums of these stay exact enough


def number_of(text: str) -> float | None:
    """The number that a text is; None for other text, and beyond `LARGEST`."""
    if not re.fullmatch(NUMBER, text):
        return None
    value = float(text)
    return value if abs(value) <= LARGEST else None
