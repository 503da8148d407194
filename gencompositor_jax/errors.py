"""The exception for errors that users can fix."""


class InputError(ValueError):
    """A user's input can't be used.

    The message is one line that names the file or field and what to do. The command prints it and exits with
    code 2.
    """
