"""Extensions of griffe for the API pages: comments document fields, and one row documents several parameters.

The comment of a field ends its last line, or stands on the lines right above it:

    steps: int = 20  # of the sampler, 1 to 1000

    # background pixels per pixel of the element; several values are spread over the clip
    scale: float = 1.0

A row of `Args:` that names several parameters (`start, end: seconds of the file`) counts for each of them.
"""

import io
import re
import tokenize
from collections.abc import Sequence
from typing import Any

import griffe

FOR_TOOLS = re.compile(r"(type: ignore|noqa|fmt:|pragma:)")
GROUPED_ROW = re.compile(r"^( +)(\w+(?:, \w+)+): (.*(?:\n\1 +.*)*)", flags=re.MULTILINE)


class FieldComments(griffe.Extension):
    """Makes the comment of an attribute without a docstring its docstring."""

    def on_attribute_instance(self, *, attr: griffe.Attribute, **_: Any) -> None:
        """Called by griffe with each attribute."""
        if attr.docstring is None and attr.lineno and attr.endlineno and not isinstance(attr.filepath, list):
            comment = comment_of(attr.lines_collection[attr.filepath], attr.lineno, attr.endlineno)
            if comment:
                attr.docstring = griffe.Docstring(
                    comment, lineno=attr.lineno, endlineno=attr.endlineno, parent=attr
                )


class GroupedParameters(griffe.Extension):
    """Gives each parameter of a grouped row a row of its own."""

    def on_function_instance(self, *, func: griffe.Function, **_: Any) -> None:
        """Called by griffe with each function."""
        if func.docstring is not None:
            func.docstring.value = ungrouped(func.docstring.value)


def comment_of(lines: Sequence[str], first: int, last: int) -> str:
    """The comment of the statement in the lines `first` to `last`, counted from 1; "" without one."""
    source = io.StringIO("\n".join(lines[first - 1 : last]).lstrip())
    comments = [
        token for token in tokenize.generate_tokens(source.readline) if token.type == tokenize.COMMENT
    ]
    if comments and comments[-1].start[0] == last - first + 1:
        return _text(comments[-1].string)
    above: list[str] = []
    for line in reversed(lines[: first - 1]):
        if not line.lstrip().startswith("#"):
            break
        above.insert(0, _text(line))
    return " ".join(above)


def ungrouped(docstring: str) -> str:
    """A docstring in which each row names one parameter."""

    def rows(match: re.Match[str]) -> str:
        indent, names, text = match.groups()
        return "\n".join(f"{indent}{name}: {text}" for name in names.split(", "))

    return GROUPED_ROW.sub(rows, docstring)


def _text(comment: str) -> str:
    text = comment.strip().lstrip("#").strip()
    return "" if FOR_TOOLS.match(text) else text
