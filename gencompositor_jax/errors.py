"""The exceptions for errors that users can fix."""

import contextlib
from collections.abc import Iterator, Sequence

SHOWN = 5  # entries of a list in a message


class InputError(ValueError):
    """A user's input can't be used.

    The message is one line that names the file or field and what to do. The command prints it and exits with
    code 2.
    """


class DifferencesError(InputError):
    """Weights or arrays that don't fit, in many places: the message has the first few of them."""

    def __init__(self, summary: str, differences: Sequence[str]) -> None:
        super().__init__(f"{summary}: {listed(differences)}")
        self.summary, self.differences = summary, tuple(differences)


def listed(entries: Sequence[str], shown: int = SHOWN) -> str:
    """Entries for a message, at most `shown` of them and the number of the others."""
    more = f"; and {len(entries) - shown} more" if len(entries) > shown else ""
    return "; ".join(entries[:shown]) + more


def first_line(error: BaseException) -> str:
    """The first line of another library's error, at most 120 characters, or else its class."""
    text = str(error).strip()
    return text.splitlines()[0][:120] if text else type(error).__name__


@contextlib.contextmanager
def within(where: object) -> Iterator[None]:
    """Put `where`, such as a file, before the message of an InputError that doesn't begin with it."""
    try:
        yield
    except InputError as error:
        if str(error).startswith(str(where)):
            raise
        raise InputError(f"{where}: {error}") from error
