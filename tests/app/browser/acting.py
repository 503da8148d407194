"""What a person does on the page, and what they see there."""

import io
from typing import Any

import numpy as np
from PIL import Image

from tests import processes

POLL_S = 0.05
VIDEO = {"width": 576, "height": 384}  # of the example
MARGINS = {"#path-canvas": 0.06, "#preview-canvas": 0.02, "#remove-canvas": 0.02}
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


def points(page: Any) -> list[tuple[int, int]]:
    """The key points, as the list beside the canvas has them."""
    texts = page.locator("ol[aria-label='Key points'] .point .mono:not(.dim)").all_inner_texts()
    return [(int(x), int(y)) for x, y in (text.split(", ") for text in texts)]


def wait_for_points(page: Any, count: int) -> None:
    """Returns once there are so many key points."""
    page.locator(f"ol[aria-label='Key points'] li:nth-child({count})").wait_for()


def go_to_frame(page: Any, frame: int) -> None:
    """Moves the slider below the picture."""
    page.get_by_role("slider", name="Frame").fill(str(frame))


def until(page: Any, condition: str) -> None:
    """Returns once an expression is true. (The page's policy forbids Playwright's own waiting for one.)"""
    for _ in range(int(processes.PATIENCE_S / POLL_S)):
        if page.evaluate(condition):
            return
        page.wait_for_timeout(1000 * POLL_S)
    raise AssertionError(f"{condition} stays false")


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


def opened(data: bytes) -> Image.Image:
    """A picture."""
    return Image.open(io.BytesIO(data)).convert("RGB")
