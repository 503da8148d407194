"""What a person does on the page, and what they see there."""

import io
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np
from PIL import Image

from tests import processes

T = TypeVar("T")
POLL_S = 0.05
VIDEO = {"width": 576, "height": 384}  # of the example
MAGENTA = (255, 0, 255)
MARGINS = {"#path-canvas": 0.06, "#preview-canvas": 0.02, "#remove-canvas": 0.02}
_HELD = """([name, bytes]) => {
  const held = new DataTransfer();
  held.items.add(new File([new Uint8Array(bytes)], name, {type: "image/png"}));
  return held;
}"""
_PLACE = """async ([video, canvas, margin, x, y]) => {
  const view = await import("/static/js/canvas/view.js");
  return view.toCanvas(view.fit(video, canvas, margin), x, y);
}"""


def tab(page: Any, name: str) -> None:
    """Opens one of the views."""
    page.get_by_role("tab", name=name, exact=True).click()


def place(page: Any, canvas: str, x: float, y: float) -> tuple[float, float]:
    """Where the window shows a pixel of the video."""
    box = page.locator(canvas).bounding_box()
    left, top = page.evaluate(_PLACE, [VIDEO, box, MARGINS[canvas], x, y])
    return box["x"] + left, box["y"] + top


def middle(page: Any, selector: str) -> tuple[float, float]:
    """The middle of what a selector finds."""
    box = page.locator(selector).bounding_box()
    return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2


def click(page: Any, canvas: str, x: float, y: float) -> None:
    """Clicks on a pixel of the video."""
    page.mouse.click(*place(page, canvas, x, y))


def drag(page: Any, canvas: str, *points: tuple[float, float]) -> None:
    """Presses at the first point, moves through the others, and releases."""
    start, *others = (place(page, canvas, *point) for point in points)
    page.mouse.move(*start)
    page.mouse.down()
    for other in others:
        page.mouse.move(*other, steps=4)
    page.mouse.up()


def drop(page: Any, selector: str, name: str, data: bytes) -> None:
    """Drops a picture."""
    held = page.evaluate_handle(_HELD, [name, list(data)])
    page.dispatch_event(selector, "drop", {"dataTransfer": held})


def points(page: Any) -> list[tuple[int, int]]:
    """The key points, as the list beside the canvas has them."""
    texts = page.locator("ol[aria-label='Key points'] .point .mono:not(.dim)").all_inner_texts()
    return [(int(x), int(y)) for x, y in (text.split(", ") for text in texts)]


def see_points(page: Any, expected: Sequence[tuple[float, float]], pixels: float = 1) -> None:
    """Returns once the key points are these, each within some pixels."""
    for found in _again(page, lambda: points(page)):
        if len(found) == len(expected) and near(found, expected, pixels):
            return
    raise AssertionError(f"the points are {points(page)}, not {expected}")


def see_value(page: Any, label: str, value: str) -> None:
    """Returns once the first field with a label has a value."""
    field = page.get_by_label(label, exact=True).first
    if value not in _again(page, field.input_value):
        raise AssertionError(f"{label} is {field.input_value()!r}, not {value!r}")


def near(found: Any, expected: Any, pixels: float) -> bool:
    """Whether no number differs more."""
    return bool(np.abs(np.subtract(found, expected)).max(initial=0) <= pixels)


def go_to_frame(page: Any, frame: int) -> None:
    """Moves the slider below the picture."""
    page.get_by_role("slider", name="Frame").fill(str(frame))


def until(page: Any, condition: str) -> None:
    """Returns once an expression is true. (The page's policy forbids Playwright's own waiting for one.)"""
    if True not in _again(page, lambda: bool(page.evaluate(condition))):
        raise AssertionError(f"{condition} stays false")


def _again(page: Any, look: Callable[[], T]) -> Iterator[T]:
    """What can be seen now, and again and again, as long as patience lasts."""
    for _ in range(int(processes.PATIENCE_S / POLL_S)):
        yield look()
        page.wait_for_timeout(1000 * POLL_S)


def picture(page: Any, selector: str) -> np.ndarray:
    """What a canvas or a player shows: uint8 [h, w, 3]."""
    return np.asarray(Image.open(io.BytesIO(page.locator(selector).screenshot())).convert("RGB"))


def settled(page: Any, selector: str) -> np.ndarray:
    """What a canvas shows once the picture that it asked for has arrived."""
    page.locator(f"{selector}[aria-busy=false]").wait_for()
    return picture(page, selector)


def centre_of_change(page: Any, canvas: str, before: np.ndarray, after: np.ndarray) -> tuple[float, float]:
    """The centre of the pixels that differ clearly, in pixels of the video."""
    changed = np.abs(before.astype(int) - after).max(axis=-1) > 60
    assert changed.sum() > 100, "nothing has changed"
    y, x = (axis.mean() for axis in np.nonzero(changed))
    box = page.locator(canvas).bounding_box()
    (x0, y0), (x1, y1) = place(page, canvas, 0, 0), place(page, canvas, 100, 100)
    return (x + box["x"] - x0) / (x1 - x0) * 100, (y + box["y"] - y0) / (y1 - y0) * 100


def compose(page: Any) -> None:
    """Starts a run and waits for its result."""
    page.get_by_role("button", name="Compose").click()
    page.locator("#result-video").wait_for()


def square(side: int) -> bytes:
    """An element's picture: a square with a transparent margin."""
    data = io.BytesIO()
    picture = Image.new("RGBA", (side + 20, side + 20))
    picture.paste((*MAGENTA, 255), (10, 10, side + 10, side + 10))
    picture.save(data, "PNG")
    return data.getvalue()


def opened(data: bytes) -> Image.Image:
    """A picture."""
    return Image.open(io.BytesIO(data)).convert("RGB")
