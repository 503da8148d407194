"""A picture of means and their intervals as an SVG."""

from collections.abc import Sequence
from typing import NamedTuple
from xml.etree import ElementTree

from gencompositor_jax.evaluation.statistics import Interval

LEFT, WIDTH, RIGHT, ROW, TOP = 170, 520, 70, 22, 44  # pixels
INK, BAR, DOT, GRID = "#222", "#9db8d9", "#1f4e8c", "#ddd"


class Row(NamedTuple):
    """One line of the picture."""

    name: str
    interval: Interval
    dots: Sequence[float]  # the seeds


def intervals(title: str, rows: Sequence[Row]) -> str:
    """One row per entry: its name, the interval as a bar, the mean as a line, the seeds as dots."""
    values = [value for row in rows for value in (*row.interval, *row.dots) if value is not None]
    low, high = min(values), max(values)
    margin = 0.05 * (high - low) or 1.0
    low, high = low - margin, high + margin
    height = TOP + ROW * len(rows) + 10
    svg = ElementTree.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {LEFT + WIDTH + RIGHT} {height}",
            "font-family": "sans-serif",
            "font-size": "12",
            "fill": INK,
        },
    )

    def add(tag: str, text: str = "", **attributes: object) -> None:
        names = {name.replace("_", "-"): str(value) for name, value in attributes.items()}
        ElementTree.SubElement(svg, tag, names).text = text or None

    def x(value: float) -> float:
        return round(LEFT + WIDTH * (value - low) / (high - low), 1)

    add("rect", width="100%", height="100%", fill="white")
    add("text", title, x=LEFT, y=16, font_weight="bold")
    for tick in ticks(low, high):
        add("line", x1=x(tick), x2=x(tick), y1=TOP - 8, y2=height - 8, stroke=GRID)
        add("text", f"{tick:g}", x=x(tick), y=TOP - 12, text_anchor="middle", fill="#666")
    for number, row in enumerate(rows):
        y = TOP + ROW * number + ROW / 2
        mean, lowest, highest = row.interval
        add("text", row.name, x=LEFT - 8, y=y + 4, text_anchor="end")
        if lowest is not None and highest is not None:
            add("rect", x=x(lowest), y=y - 5, width=round(x(highest) - x(lowest), 1), height=10, fill=BAR)
        add("line", x1=x(mean), x2=x(mean), y1=y - 7, y2=y + 7, stroke=INK, stroke_width=2)
        for dot in row.dots:
            add("circle", cx=x(dot), cy=y, r=3, fill=DOT)
        add("text", f"{mean:.4g}", x=LEFT + WIDTH + 8, y=y + 4)
    return ElementTree.tostring(svg, encoding="unicode") + "\n"


def ticks(low: float, high: float) -> list[float]:
    """Four to ten round numbers in a range."""
    span = high - low
    size = 10.0 ** (len(str(int(span))) if span >= 1 else 0)
    while span / size < 4:
        size /= 2 if round(span / size * 2) >= 4 else 10 if span / size < 0.4 else 5
    first = int(low / size)
    return [round(size * k, 10) for k in range(first - 1, first + 20) if low <= size * k <= high]
