"""The one exception that speaks to users."""


class InputError(ValueError):
    """Something the user gave can't be used.

    The message is one line that names the file or field and the remedy. The command line prints it and exits
    with code 2.
    """
