"""The report as one HTML file without other files: tables, intervals, and players of three clips."""

import base64
import html
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from gencompositor_jax.controls.media.video_out import write_video
from gencompositor_jax.evaluation import layouts, tables
from gencompositor_jax.evaluation.results import (
    INPUT,
    TRUTH,
    ResultsOptions,
    read_reference,
    read_result,
    reference_clips,
)
from gencompositor_jax.files import atomic_write_text

FPS = 8.0
SHOWN = 256  # pixels: smaller clips are enlarged to about this height, pixel by pixel
RANKED = ("target_psnr", "psnr", "background_psnr", "warping_error")  # clips are ranked by the first there is

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1f2937 }
body { margin: 2rem auto; max-width: 76rem; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #d6d7da; text-align: right; vertical-align: top }
th:first-child, td:first-child { text-align: left }
small { color: #6b7280; display: block }
.sure { font-weight: 600 }
.players { display: flex; flex-wrap: wrap; gap: 1rem }
figure { margin: 0 } figcaption { color: #6b7280 } video { display: block; max-width: 24rem }
.scroll { overflow-x: auto }
"""


def write(path: Path, report: dict[str, Any], options: ResultsOptions) -> None:
    """Write the page, replacing an existing file; reads the clips that it shows again."""
    atomic_write_text(path, document(report, clips_of(report, options)))


def picked(report: dict[str, Any]) -> dict[str, str]:
    """The worst, the median and the best clip of the first method, by the first of RANKED that it has."""
    method = next(name for name in report["methods"] if name != TRUTH)
    metric = next((name for name in (*RANKED, *report["columns"]) if name in report["columns"]), None)
    if metric is None:
        return {}
    values = {clip: row.get(metric) for clip, row in report["clips"][method].items()}
    known = {clip: value for clip, value in values.items() if value is not None}
    if not known:
        return {}
    order = sorted(known, key=lambda clip: (known[clip], clip))
    if report["columns"][metric]["better"] == "lower":
        order.reverse()
    label = report["columns"][metric]["label"]
    chosen = {"worst": order[0], "median": order[len(order) // 2], "best": order[-1]}
    return {f"{rank} by {label} of {method}": clip for rank, clip in chosen.items()}


def clips_of(report: dict[str, Any], options: ResultsOptions) -> dict[str, dict[str, np.ndarray]]:
    """By heading: the frames of each method, and of the reference, uint8 [T, H, W, 3]."""
    clips = reference_clips(options.protocol, options.reference, options.clips)
    folders = dict(options.results)
    places = {name: layouts.check_complete(folder, clips) for name, folder in folders.items()}
    by_name = {clip.name: number for number, clip in enumerate(clips)}
    out = {}
    for heading, name in picked(report).items():
        number = by_name[name]
        clip = clips[number]
        reference = read_reference(clip, options)
        media: dict[str, Any] = {method: found[number] for method, found in places.items()}
        if INPUT in report["methods"]:
            media = {INPUT: clip.composite, **media}
        frames = {m: read_result(at, clip, reference, options) for m, at in media.items()}
        last = TRUTH if clip.target is not None else "reference"
        out[f"{heading}: {name}"] = {**frames, last: reference.clip.frames}
    return out


def document(report: dict[str, Any], clips: dict[str, dict[str, np.ndarray]]) -> str:
    """The page's text."""
    first = next(name for name in report["methods"] if name != TRUTH)
    parts = [
        f"<h1>{_text(report['protocol']['name'])}: {_text(', '.join(report['protocol']['methods']))}</h1>",
        f"<p>{_text(tables.conditions(report))}</p>",
        _table(report, "method", _rows(report, report["methods"])),
    ]
    if report["differences"]:
        parts.append(f"<h2>{_text(first)} minus the others</h2><p>Bold: the 95 % interval excludes 0.</p>")
        parts.append(_table(report, "against", _rows(report, report["differences"], differences=True)))
    for idea, subset in report["subsets"].items():
        parts.append(f"<h2>Subset {_text(idea)}: {subset['clips']} clips</h2>")
        parts.append(_table(report, "method", _rows(report, subset["methods"])))
    published = [row for row in tables.rows(report) if row[0].endswith("(published)")]
    if published:
        cells = (
            (name, [_text(row.get(metric, "")) for metric in report["columns"]]) for name, row in published
        )
        parts += ["<h2>Published</h2>", _table(report, "method", cells)]
    parts += [f"<p>{_text(note)}</p>" for note in tables.notes(report)]
    for heading, videos in clips.items():
        parts.append(f"<h2>{_text(heading)}</h2><div class='players'>")
        parts += [_player(name, frames) for name, frames in videos.items()]
        parts.append("</div>")
    head = f"<meta charset='utf-8'><title>Evaluation</title><style>{STYLE}</style>"
    return f"<!doctype html><html lang='en'><head>{head}</head><body>{chr(10).join(parts)}</body></html>\n"


def _rows(
    report: dict[str, Any], values: dict[str, Any], differences: bool = False
) -> Iterable[tuple[str, list[str]]]:
    for name, means in values.items():
        yield (
            name,
            [_cell(means.get(metric), c["digits"], differences) for metric, c in report["columns"].items()],
        )


def _cell(value: dict[str, float | None] | None, digits: int, difference: bool) -> str:
    if value is None or value["mean"] is None:
        return ""
    sign = "+" if difference else ""
    text = f"{value['mean']:{sign}.{digits}f}"
    low, high = value["low"], value["high"]
    if low is None or high is None:
        return text
    if difference and (low > 0 or high < 0):
        text = f"<span class='sure'>{text}</span>"
    return f"{text}<small>{low:{sign}.{digits}f} to {high:{sign}.{digits}f}</small>"


def _table(report: dict[str, Any], first: str, rows: Iterable[tuple[str, list[str]]]) -> str:
    """Rows of a name, which is escaped, and cells of HTML."""
    heads = "".join(
        f"<th>{_text(c['label'])} {'↑' if c['better'] == 'higher' else '↓'}</th>"
        for c in report["columns"].values()
    )
    body = "".join(
        f"<tr><td>{_text(name)}</td>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        for name, cells in rows
    )
    return f"<div class='scroll'><table><tr><th>{first}</th>{heads}</tr>{body}</table></div>"


def _player(name: str, frames: np.ndarray) -> str:
    factor = max(1, SHOWN // frames.shape[1])
    if factor > 1:
        frames = np.stack(
            [cv2.resize(f, None, fx=factor, fy=factor, interpolation=cv2.INTER_NEAREST) for f in frames]
        )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "clip.mp4"
        write_video(file, frames, FPS)
        data = base64.b64encode(file.read_bytes()).decode()
    source = f"data:video/mp4;base64,{data}"
    player = f"<video src='{source}' autoplay loop muted playsinline controls></video>"
    return f"<figure>{player}<figcaption>{_text(name)}</figcaption></figure>"


def _text(value: Any) -> str:
    return html.escape(str(value))
