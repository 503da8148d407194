"""Builds a data set shard by shard: resumable, and complete in spite of broken inputs.

Worker processes make the records, this process writes them. A shard appears under its name when it is
complete, and the next run writes those that are missing. `dataset.json` holds the settings and a hash of the
inputs; a folder that was begun with others is refused.
"""

import dataclasses
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import Any

from gencompositor_jax.data_pipelines.records import NAME, read_facts, shard_writer, write_json
from gencompositor_jax.data_pipelines.workers import in_order, progress_bar
from gencompositor_jax.errors import InputError
from gencompositor_jax.files import check_space, read_json

BYTES_PER_PIXEL = 0.5  # of a record, per pixel of one of its videos; for video with a little grain
NAMED = 3  # broken inputs that a message lists

Broken = list[dict[str, str]]  # {"input": its name, "problem": one line}


@dataclasses.dataclass(frozen=True)
class Built:
    """The result of a build."""

    folder: Path
    clips: int
    broken: Broken


def write_shards(
    inputs: Sequence[Any],
    encode_one: Callable[[Any], bytes],
    out: Path,
    facts: dict[str, Any],
    *,
    workers: int | None,
    max_broken: float,
    progress: bool | None,
) -> Built:
    """Write the missing shards of a data set, then dataset.json with the list of all.

    Args:
        inputs: one record each, in order.
        encode_one: an input's record as bytes. Raises InputError for a broken input.
        out: made when absent; may hold an interrupted build of the same facts.
        facts: of dataset.json: `settings` (with `clips_per_shard`), `inputs` (a hash) and `moments_of`.
        workers: see `in_order`.
        max_broken: fraction of the inputs, 0 to 1, that may be left out because they are broken.
        progress: a bar on stderr; None: where that is a terminal.

    Raises:
        InputError: `out` holds other data, the disk has too little space, too many inputs are broken, or a
            worker process was killed.
    """
    _make_folder(out, facts)
    for left in out.glob(".*.part"):  # of a run that was killed
        left.unlink()
    size = facts["settings"]["clips_per_shard"]
    parts = [inputs[first : first + size] for first in range(0, len(inputs), size)]
    paths = [out / f"clips-{n:05d}-of-{len(parts):05d}.arrayrecord" for n in range(len(parts))]
    shards = {n: shard for n, path in enumerate(paths) if (shard := _finished_shard(path)) is not None}
    todo = [n for n in range(len(parts)) if n not in shards]
    missing = sum(len(parts[n]) for n in todo)
    if missing:
        check_space(out, bytes_of(facts["settings"], missing))
    write_json(out / NAME, facts)

    attempt = partial(_attempt, encode_one=encode_one)
    results = in_order(attempt, chain.from_iterable(parts[n] for n in todo), workers)
    done = len(inputs) - missing
    with closing(results), progress_bar(len(inputs), "building", progress, done) as bar:
        for n in todo:
            left_out: Broken = []
            with shard_writer(paths[n]) as write:
                for name, data, problem in islice(results, len(parts[n])):
                    bar.update()
                    if problem is None:
                        write(data)
                    else:
                        left_out.append({"input": name, "problem": problem})
                        _check_broken(_broken(shards) + left_out, len(inputs), max_broken)
            shards[n] = {
                "file": paths[n].name,
                "clips": len(parts[n]) - len(left_out),
                "bytes": paths[n].stat().st_size,
                "broken": left_out,
            }
            write_json(paths[n].with_suffix(".json"), shards[n])
    broken = _broken(shards)
    _check_broken(broken, len(inputs), max_broken)
    listed = [{k: shards[n][k] for k in ("file", "clips", "bytes")} for n in sorted(shards)]
    clips = sum(shard["clips"] for shard in listed)
    write_json(out / NAME, {**facts, "clips": clips, "shards": listed, "broken": broken})
    return Built(out, clips, broken)


def bytes_of(settings: dict[str, Any], clips: int) -> int:
    """About so many bytes are needed for so many clips."""
    return int(clips * settings["frames"] * settings["height"] * settings["width"] * BYTES_PER_PIXEL)


def _attempt(item: Any, encode_one: Callable[[Any], bytes]) -> tuple[str, bytes, str | None]:
    """(name, the record's bytes, None), or (name, nothing, what is wrong) for a broken input."""
    name = getattr(item, "name", str(item))
    try:
        return name, encode_one(item), None
    except InputError as error:
        return name, b"", " ".join(str(error).split())


def _broken(shards: dict[int, dict[str, Any]]) -> Broken:
    return [entry for n in sorted(shards) for entry in shards[n]["broken"]]


def _check_broken(broken: Broken, inputs: int, max_broken: float) -> None:
    if len(broken) > max_broken * inputs:
        some = "; ".join(entry["problem"] for entry in broken[:NAMED])
        more = f"; and {len(broken) - NAMED} more" if len(broken) > NAMED else ""
        raise InputError(
            f"{len(broken)} of {inputs} inputs are broken, more than --max-broken {max_broken:g} allows: "
            f"{some}{more}"
        )


def _make_folder(out: Path, facts: dict[str, Any]) -> None:
    """Create the folder. Raises InputError if it can't be, or holds anything but a part of this data set."""
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{out}: can't be made ({error.strerror}): pass another folder") from error
    if (out / NAME).exists():
        found = read_facts(out)
        changed = {
            f"{name} {found['settings'].get(name)} instead of {value}"
            for name, value in facts["settings"].items()
            if found["settings"].get(name) != value
        }
        if found["inputs"] != facts["inputs"]:
            changed.add("other inputs")
        if found["moments_of"] != facts["moments_of"]:
            changed.add("other moments")
        if changed:
            raise InputError(
                f"{out}: holds a data set of other settings ({', '.join(sorted(changed))}): "
                "pass those, or another folder"
            )
    elif any(path.suffix != ".part" for path in out.iterdir()):
        raise InputError(f"{out}: holds other files: pass a new or empty folder")


def _finished_shard(path: Path) -> dict[str, Any] | None:
    """The description of a complete shard; None if it is missing, or the shard has another size."""
    try:
        shard: dict[str, Any] = read_json(path.with_suffix(".json"))
        return shard if path.stat().st_size == shard["bytes"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None
