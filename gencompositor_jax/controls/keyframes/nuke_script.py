"""The syntax of Nuke's scripts (.nk): nodes with knobs, words in braces and quotes as in Tcl."""

import re
from collections.abc import Container, Iterator
from typing import NamedTuple

from gencompositor_jax.errors import InputError

_BARE = re.compile(r"[^\s{}\";]+")


class Node(NamedTuple):
    """A node: its knobs' values as they are written, without the outer braces."""

    kind: str
    knobs: dict[str, str]

    @property
    def name(self) -> str:
        """The name that the user sees."""
        return self.knobs.get("name", self.kind)


def read_nodes(text: str, kinds: Container[str]) -> list[Node]:
    """The nodes of these kinds in a script. Raises InputError where braces or quotes aren't closed."""
    nodes = []
    for command in _commands(text):
        if len(command) == 2 and command[0] in kinds:
            knobs = {entry[0]: " ".join(entry[1:]) for entry in _commands(command[1]) if entry}
            nodes.append(Node(command[0], knobs))
    return nodes


def words(text: str) -> list[str]:
    """The words of a list: in braces, in quotes, or bare; braces and quotes around a word are taken off."""
    return [word for command in _commands(text) for word in command]


def _commands(text: str) -> Iterator[list[str]]:
    """The words of each command; commands end with a line or a semicolon."""
    found: list[str] = []
    at = 0
    while at < len(text):
        letter = text[at]
        if letter in "\n;":
            if found:
                yield found
            found = []
        if letter.isspace() or letter == ";":
            at += 1
        elif letter == "#" and not found:  # a comment
            end = text.find("\n", at)
            at = len(text) if end < 0 else end
        elif letter == "{":
            end = _closing(text, at)
            found.append(text[at + 1 : end])
            at = end + 1
        elif letter == '"':
            end = at + 1
            while end < len(text) and text[end] != '"':
                end += 2 if text[end] == "\\" else 1
            if end >= len(text):
                raise InputError(f"a quote isn't closed: {text[at : at + 40]!r}")
            found.append(re.sub(r"\\(.)", r"\1", text[at + 1 : end]))
            at = end + 1
        elif letter == "}":
            raise InputError(f"a brace isn't opened: {text[at : at + 40]!r}")
        else:
            bare = _BARE.match(text, at)
            assert bare is not None
            found.append(bare[0])
            at = bare.end()
    if found:
        yield found


def _closing(text: str, at: int) -> int:
    """Where the brace that opens at `at` is closed; escaped ones don't count."""
    depth = 0
    for brace in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, at):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            return brace.start()
    raise InputError(f"a brace isn't closed: {text[at : at + 40]!r}")
