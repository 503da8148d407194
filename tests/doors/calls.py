"""Calls of the command with one broken input each, by the kind of door that it comes through."""

from pathlib import Path

from tests.doors.arguments import names, numbers, overrides
from tests.doors.call import Call
from tests.doors.files import checkpoints, controls, data_sets, pytorch
from tests.doors.plates import plates
from tests.doors.specials import specials


def all_calls(base: Path) -> dict[str, list[Call]]:
    """All calls by their doors. base: folder of `sound.write`."""
    by_door: dict[str, list[Call]] = {}
    for group in (checkpoints, pytorch, controls, data_sets, numbers, names, plates, specials, overrides):
        for call in group(base):
            by_door.setdefault(call.door, []).append(call)
    return by_door
