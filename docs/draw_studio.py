"""The pictures of studio.md, from the running program: `make browser`, then `python docs/draw_studio.py`."""

import contextlib
import io
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from playwright.sync_api import sync_playwright

HERE = Path(__file__).parent
SIZE = {"width": 1280, "height": 720}
QUALITY = 82
OPTIONS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking")
POINTS = ((0.16, 0.66), (0.47, 0.3), (0.8, 0.6))  # fractions of the canvas


@contextlib.contextmanager
def studio() -> Iterator[str]:
    """The address of a studio that runs meanwhile."""
    command = [sys.executable, "-m", "gencompositor_jax", "app", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            for line in process.stderr:
                if found := re.search(r"(http://\S+/) is the studio", line):
                    break
            else:
                raise SystemExit("the studio didn't start")
            yield found[1]
        finally:
            process.terminate()


def chromium() -> str:
    """The browser's program."""
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if path := shutil.which(name):
            return path
    raise SystemExit("no Chromium: make browser installs it")


def write(page: Any, name: str) -> None:
    """The window as docs/studio-NAME.webp."""
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(1000)  # what the last change asks for is asked for after a short rest
    page.locator("canvas[aria-busy=true]").wait_for(state="detached")
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.save(HERE / f"studio-{name}.webp", quality=QUALITY, method=6)


def walk(page: Any) -> None:
    """From the first view to the result, with a picture of each step."""
    write(page, "start")
    page.get_by_role("button", name="Choose the example").click()
    box = page.locator("#path-canvas").bounding_box()
    for x, y in POINTS:
        page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
    page.get_by_role("button", name="Point 2 at").click()
    page.get_by_label("Scale", exact=True).first.fill("1.5")
    page.mouse.move(5, 5)
    write(page, "trajectory")
    page.get_by_role("tab", name="Element").click()
    page.get_by_text("cut out by its alpha").wait_for()
    write(page, "element")
    page.get_by_role("tab", name="Preview").click()
    page.locator("#preview-canvas[aria-busy=false]").wait_for()
    page.get_by_role("checkbox", name="Mask tint").check()
    page.get_by_role("slider", name="Frame").fill("2")
    page.locator("#preview-canvas[aria-busy=false]").wait_for()
    write(page, "preview")
    page.get_by_role("button", name="Compose").click()
    page.locator("#result-video").wait_for()
    page.get_by_role("button", name="Pause").wait_for()
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("slider", name="Frame").fill("4")
    page.get_by_role("slider", name="Wipe").fill("33")
    write(page, "result")
    page.get_by_role("tab", name="Remove", exact=True).click()
    page.mouse.move(box["x"] + 0.42 * box["width"], box["y"] + 0.83 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.53 * box["width"], box["y"] + 0.86 * box["height"], steps=8)
    page.mouse.up()
    write(page, "remove")
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("tab", name="Preview").click()
    page.get_by_label("Steps").fill("100")
    page.get_by_role("button", name="Compose").click()
    page.locator("#estimate").wait_for()
    page.get_by_text("Step 30 of").wait_for()
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    picture.save(HERE / "studio-sampling.webp", quality=QUALITY, method=6)
    page.locator("aside").get_by_role("button", name="Cancel").click()
    page.get_by_text("This run was cancelled.").wait_for()
    page.emulate_media(color_scheme="light")
    page.get_by_role("tab", name="Trajectory").click()
    write(page, "light")


def main() -> None:
    """Start the studio and the browser and write the pictures."""
    with studio() as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=OPTIONS)
        page = browser.new_page(viewport=SIZE, color_scheme="dark", base_url=address)
        page.set_default_timeout(300_000)
        page.goto("/")
        walk(page)
        browser.close()


if __name__ == "__main__":
    main()
