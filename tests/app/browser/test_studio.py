"""The studio as people use it: from drawing to the composite, errors, keys, tabs, accessibility."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.app.browser import acting

BLOCK = (284, 349)  # the middle of the block that the example's background shows, in its first frame
PLAYERS = "[...document.querySelectorAll('.compare video')]"
PATH = [(120, 250), (280, 120), (450, 240)]


def draw(page: Any) -> None:
    """The example, with three points."""
    page.get_by_role("button", name="Choose the example").click()
    page.locator("#path-canvas").wait_for()
    for i, point in enumerate(PATH):
        acting.click(page, "#path-canvas", *point)
        acting.see_points(page, PATH[: i + 1])


def test_from_the_example_to_its_composite(page):
    draw(page)
    acting.see_points(page, PATH)
    page.get_by_role("checkbox", name="Snap").uncheck()
    acting.drag(page, "#path-canvas", PATH[1], (300, 200))
    acting.see_points(page, [PATH[0], (300, 200), PATH[2]])
    page.get_by_role("button", name="Undo").click()
    acting.see_points(page, PATH)
    page.get_by_role("button", name="Point 2 at").click()
    page.get_by_label("Scale", exact=True).first.fill("1.5")
    page.get_by_role("checkbox", name="Ease in").check()
    page.get_by_role("checkbox", name="Ease out").check()

    # Its pixels move along the path.
    acting.tab(page, "Preview")
    page.get_by_text("576×384").last.wait_for()
    for frame, point in ((0, PATH[0]), (8, PATH[2])):
        acting.go_to_frame(page, frame)
        paste = acting.settled(page, "#preview-canvas")
        page.get_by_role("radio", name="Input").check()
        plate = acting.settled(page, "#preview-canvas")
        page.get_by_role("radio", name="Composite").check()
        assert acting.near(acting.centre_of_change(page, "#preview-canvas", plate, paste), point, 12)

    acting.compose(page)
    acting.until(page, "document.querySelector('#result-video').currentTime > 0.3")
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("slider", name="Frame").fill("4")
    page.get_by_text("Wipe", exact=True).first.wait_for()
    page.get_by_role("slider", name="Wipe").fill("0")
    acting.until(page, f"{PLAYERS}.every((video) => !video.seeking)")
    both = page.evaluate(f"{PLAYERS}.map((video) => video.currentTime)")
    assert len(both) == 2 and acting.near(both[0], both[1], 1e-3)
    result = acting.picture(page, ".compare .frames")
    page.get_by_role("slider", name="Wipe").fill("100")
    assert np.abs(result.astype(int) - acting.picture(page, ".compare .frames")).max() > 60

    with page.expect_download() as download:
        page.get_by_role("link", name="Project file").click()
    (layer,) = json.loads(Path(download.value.path()).read_text())["layers"]
    keys = layer["trajectory"]["keyframes"]
    assert acting.near([(key["x"], key["y"]) for key in keys], PATH, 1)
    assert [key.get("scale") for key in keys] == [None, 1.5, None]
    assert layer["easing"] == "ease-in-out"

    # Saved from the page it is the same; opened again it has the same points.
    with page.expect_download() as download:
        page.get_by_role("button", name="Save").click()
    saved = Path(download.value.path())
    assert json.loads(saved.read_text())["layers"][0]["trajectory"]["keyframes"] == keys
    acting.tab(page, "Trajectory")
    page.get_by_role("button", name="Remove point 3").click()
    file = {"name": "studio.scene.json", "mimeType": "application/json", "buffer": saved.read_bytes()}
    page.get_by_label("Open a project file").set_input_files(file)
    acting.see_points(page, PATH)

    # Its run is in the history and restores what was drawn.
    page.get_by_role("button", name="Remove point 3").click()
    page.get_by_role("button", name="Edit the project of").first.click()
    acting.see_points(page, PATH)
    page.get_by_role("button", name="Undo").click()
    acting.see_points(page, PATH[:2])


def test_strokes_insertion_deletion_and_redo(page):
    page.get_by_role("button", name="Choose the example").click()
    page.locator("#path-canvas").wait_for()
    acting.drag(page, "#path-canvas", (60, 60), (200, 60), (200, 300))
    corners = [(60, 60), (200, 60), (200, 300)]
    acting.see_points(page, corners, 4)
    acting.click(page, "#path-canvas", 196, 180)  # on the curve
    inserted = [*corners[:2], (196, 180), corners[2]]
    acting.see_points(page, inserted, 4)
    page.keyboard.press("Delete")
    acting.see_points(page, corners, 4)
    page.get_by_role("button", name="Undo").click()
    acting.see_points(page, inserted, 4)
    page.get_by_role("button", name="Undo").click()
    acting.see_points(page, corners, 4)
    page.get_by_role("button", name="Redo").click()
    acting.see_points(page, inserted, 4)
    page.get_by_role("radio", name="Key times").check()
    page.get_by_role("button", name="Point 2 at").click()
    page.get_by_label("Time 0–1").fill("0.1")
    acting.see_value(page, "Time 0–1", "0.1")
    # Dragged to beside another point's column, a point snaps into it.
    acting.drag(page, "#path-canvas", acting.points(page)[1], (62, 130))
    first = acting.points(page)[0]
    acting.see_points(page, [first, (first[0], 130), *acting.points(page)[2:]], 1)
    assert acting.points(page)[1][0] == first[0]


def test_a_tracked_point_becomes_key_points(page):
    page.get_by_role("button", name="Choose the example").click()
    page.get_by_role("button", name="Track a point").click()
    acting.click(page, "#path-canvas", *BLOCK)
    page.locator("#spoken", has_text="followed").wait_for()
    found = acting.points(page)
    assert len(found) > 1 and acting.near(found[0], BLOCK, 3)
    assert page.get_by_role("radio", name="Key times").is_checked()


def test_layers_have_an_order_and_frames_of_their_own(page):
    draw(page)
    acting.drop(page, ".side section:nth-of-type(2) .drop", "square.png", acting.square(60))
    page.get_by_text("60 × 60 pixels").wait_for()
    acting.tab(page, "Trajectory")
    acting.click(page, "#path-canvas", 500, 60)
    acting.see_points(page, [(500, 60)])
    page.get_by_label("Scale", exact=True).last.fill("1")
    page.get_by_label("First frame").fill("3")
    page.get_by_label("Last frame").fill("5")
    names = page.locator(".layer .name")
    assert names.all_inner_texts() == ["square.png", "example-element"]
    page.get_by_role("button", name="Move layer 2 down").click()
    page.get_by_role("button", name="Layer 1: square.png").wait_for()
    assert names.all_inner_texts() == ["example-element", "square.png"]

    acting.tab(page, "Preview")
    page.locator("#preview-canvas[aria-busy=false]").wait_for()
    x, y = acting.place(page, "#preview-canvas", 500, 60)
    box = page.locator("#preview-canvas").bounding_box()
    for frame, there in ((2, False), (3, True), (5, True), (6, False)):
        acting.go_to_frame(page, frame)
        pixel = acting.settled(page, "#preview-canvas")[int(y - box["y"]), int(x - box["x"])]
        assert acting.near(pixel, acting.MAGENTA, 30) == there, frame


def test_a_run_is_found_again_after_a_reload_and_cancelled(page, context):
    draw(page)
    acting.tab(page, "Preview")
    page.get_by_label("Steps").fill("200")
    page.get_by_role("button", name="Compose").click()
    page.locator("#estimate").wait_for()
    page.reload()
    page.get_by_text("of 200").wait_for()
    assert page.get_by_role("tab", name="Result").get_attribute("aria-selected") == "true"

    # A second tab has the run in its history, and a document of its own.
    other = context.new_page()
    other.goto("/")
    other.get_by_role("button", name="Choose the example").wait_for()
    other.get_by_role("button", name="Show the run of").first.wait_for()
    other.get_by_role("button", name="Choose the example").click()
    other.locator("#path-canvas").wait_for()
    acting.click(other, "#path-canvas", 50, 50)
    acting.see_points(other, [(50, 50)])

    page.locator("aside").get_by_role("button", name="Cancel").click()
    page.get_by_text("This run was cancelled.").wait_for()
    other.get_by_role("button", name="cancelled").first.wait_for()
    acting.tab(page, "Trajectory")
    acting.see_points(page, PATH)
    acting.see_points(other, [(50, 50)])


def test_refusals_are_beside_the_field_that_they_name(page):
    broken = {"name": "broken.mp4", "mimeType": "video/mp4", "buffer": b"no video"}
    page.get_by_label("Choose a clip").set_input_files(broken)
    page.locator(".side .error", has_text="broken.mp4").wait_for()
    assert page.get_by_label("Choose a clip").get_attribute("aria-describedby")
    page.get_by_role("button", name="Compose").click()
    page.get_by_text("Choose a background first.").first.wait_for()

    project = {"version": 1, "background": {"path": "gone.mp4"}, "layers": [], "remove": "lost.png"}
    file = {"name": "a.json", "mimeType": "application/json", "buffer": json.dumps(project).encode()}
    page.get_by_label("Open a project file").set_input_files(file)
    page.locator(".banner", has_text="The project needs gone.mp4, lost.png").wait_for()

    page.get_by_role("button", name="Choose the example").click()
    page.locator("#path-canvas").wait_for()
    acting.click(page, "#path-canvas", *PATH[0])
    scale, scales = page.get_by_label("Scale").all()
    for value, valid in (("-1", False), ("1.5", True), ("2000000", False), ("", True)):
        scale.fill(value)
        assert (scale.get_attribute("aria-invalid") != "true") == valid
    scales.fill("-1")
    scales.press("Enter")
    page.get_by_text("write numbers above 0").first.wait_for()
    scales.fill("1")
    scales.press("Enter")
    acting.tab(page, "Preview")
    page.get_by_label("Seed").fill("-1")
    page.locator(".field", has=page.get_by_label("Seed")).locator(".error").wait_for()
    assert page.get_by_label("Seed").get_attribute("aria-invalid") == "true"
    page.get_by_label("Seed").fill("7")
    page.locator(".field", has=page.get_by_label("Seed")).locator(".error").wait_for(state="detached")
    acting.tab(page, "Element")
    page.get_by_label("Cut out by").select_option("green")
    page.locator(".field", has=page.get_by_label("Cut out by")).locator(".error").wait_for()


def test_what_the_brush_paints_is_removed(page):
    draw(page)
    acting.tab(page, "Remove")
    acting.drag(page, "#remove-canvas", (300, 330), (340, 330))
    page.get_by_label("Left").fill("10")
    page.get_by_role("button", name="Add the box").click()
    with page.expect_download() as download:
        page.get_by_role("button", name="Save").click()
    mask = json.loads(Path(download.value.path()).read_text())["remove"]
    (clip,) = [clip for clip in page.request.get("/app/clips").json() if clip["path"].endswith(mask)]
    assert (clip["width"], clip["height"]) == (576, 384)
    frame = page.request.get(f"/app/clips/{clip['id']}/frames/0?width=576&format=png").body()
    painted = np.asarray(acting.opened(frame))[..., 0] > 127
    assert painted[330, 320] and painted[5, 15] and not painted[200, 300]


def test_a_region_is_removed_from_the_element(page):
    """By a click, and by numbers as the keyboard does it; the mask of all frames is the layer's then."""
    draw(page)
    acting.tab(page, "Element")
    page.get_by_text("221 × 192 pixels").wait_for()
    page.get_by_role("button", name="Click to remove").click()
    page.mouse.click(*acting.middle(page, "#element-canvas"))  # all of it, as it is one part
    page.locator(".panel .error", has_text="black in all 9 frames").wait_for()
    page.get_by_role("button", name="Undo").click()
    page.get_by_text("221 × 192 pixels").wait_for()
    page.get_by_text("By numbers").click()
    page.get_by_label("X", exact=True).fill("2")
    page.get_by_label("Y", exact=True).fill("2")
    page.get_by_role("button", name="Remove", exact=True).click()
    page.locator(".panel .error", has_text="nothing of the element here").wait_for()
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_text("cut out by the mask clip").wait_for()


def test_with_the_keyboard_alone(page):
    def press(*keys: str) -> None:
        for key in keys:
            page.keyboard.press(key)

    def tab_to(name: str) -> None:
        for _ in range(80):
            press("Tab")
            if name in page.evaluate(
                "document.activeElement.ariaLabel || document.activeElement.innerText || ''"
            ):
                return
        raise AssertionError(f"Tab doesn't reach {name!r}")

    tab_to("Choose the example")
    press("Enter")
    page.locator("#path-canvas").wait_for()
    tab_to("Trajectory of layer 1")
    press("Enter", "Enter", "Enter")
    first, second, third = (287.5, 191.5), (345.1, 191.5), (402.7, 191.5)  # the middle, then to the right
    acting.see_points(page, [first, second, third])
    press("p", "Shift+ArrowUp", "ArrowLeft")
    acting.see_points(page, [first, (second[0] - 1, second[1] - 10), third])
    press("Control+z")
    acting.see_points(page, [first, second, third])
    press("n", "Delete")
    acting.see_points(page, [first, second])
    assert "is removed" in page.locator("#spoken").inner_text()
    press("+")
    acting.see_value(page, "Scale", "1.05")
    page.get_by_role("tab", name="Trajectory").focus()
    press("ArrowRight", "ArrowRight")
    assert page.evaluate("document.activeElement.innerText") == "Preview"
    assert page.get_by_role("tab", name="Preview").get_attribute("aria-selected") == "true"
    page.locator("#preview-canvas").wait_for()


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_axe_finds_nothing_serious(page, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page.emulate_media(color_scheme=scheme)

    def check(view: str) -> None:
        page.wait_for_load_state("networkidle")
        found = [
            f"{view}: {problem['id']}: {problem['help']}: {problem['nodes'][0]['html'][:200]}"
            for problem in axe.run(page).response["violations"]
            if problem["impact"] in ("serious", "critical", "moderate")
        ]
        assert not found, "\n".join(found)

    check("the beginning")
    draw(page)
    for view in ("Trajectory", "Element", "Remove", "Preview", "Result"):
        acting.tab(page, view)
        check(view)
    page.get_by_role("button", name="Show the run of").first.click()
    page.get_by_text("Loading the result").wait_for(state="detached")
    check("a run")
