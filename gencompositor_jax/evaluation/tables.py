"""The report of `evaluation.scoring` as a Markdown table."""

from typing import Any

SETS = {"fvd", "fvd_infinity", "kvd"}  # distances between sets of clips
Row = tuple[str, dict[str, str]]  # a method and its cells by metric


def rows(report: dict[str, Any]) -> list[Row]:
    """The measured methods, then those with published figures; metrics they lack have no cell."""
    columns = report["columns"]
    measured = [
        (
            name,
            {metric: _cell(value, columns[metric]) for metric, value in means.items() if value is not None},
        )
        for name, means in report["methods"].items()
    ]
    published = [
        (
            f"{row['method']} (published)",
            {
                metric: f"{value:.{columns[metric]['digits']}f}"
                for metric, value in row["figures"].items()
                if metric in columns
            },
        )
        for row in report["published"]
    ]
    return measured + [row for row in published if row[1]]


def markdown(report: dict[str, Any]) -> str:
    """A row per method and a column per metric with its direction; below it what the figures depend on."""
    columns = report["columns"]
    heads = [f"{c['label']} {'↑' if c['better'] == 'higher' else '↓'}" for c in columns.values()]
    lines = ["| method | " + " | ".join(heads) + " |", "|---|" + "---:|" * len(heads)]
    for name, cells in rows(report):
        lines.append(f"| {name} | " + " | ".join(cells.get(metric, "") for metric in columns) + " |")
    return "\n".join([*lines, "", conditions(report), *notes(report)])


def conditions(report: dict[str, Any]) -> str:
    """One sentence: protocol, clips, length, stride, size."""
    p = report["protocol"]
    sizes = ", ".join(f"{width} x {height}" for height, width in p["height_width"])
    lengths = " or ".join(map(str, p["frames_per_clip"]))
    resize = "not resized" if p["resize"] == "none" else f"resized ({p['resize']})"
    return (
        f"{p['name']}: {p['clips']} clips of {lengths} frames, stride {p['stride']}, {sizes} pixels, "
        f"{resize}. "
        f"{p['order'][0].upper()}{p['order'][1:]}. PSNR: {p['psnr']}. Flow: {p['flow']}."
        + (f" Background: {p['background']}." if "background_psnr" in report["columns"] else "")
        + (f" {p['sets']}." if SETS & report["columns"].keys() else "")
    )


def notes(report: dict[str, Any]) -> list[str]:
    """A line per source of published figures, and one per metric that couldn't be computed."""
    sources = {f"Published: {row['source']}; {row['conditions']}." for row in report["published"]}
    return sorted(sources) + [f"Not computed: {name}: {why}" for name, why in report["absent"].items()]


def _cell(value: dict[str, float], column: dict[str, Any]) -> str:
    return f"{value['mean']:.{column['digits']}f}"
