"""What `--segment` takes, and what it refuses."""

import pytest

from gencompositor_jax.controls.element.segmenters.request import (
    Auto,
    Box,
    Point,
    Words,
    check_inside,
    parse_segment,
)
from gencompositor_jax.errors import InputError


@pytest.mark.parametrize(
    ("text", "request_"),
    [
        ("auto", Auto()),
        (" point:410, 300.5 ", Point(410, 300.5)),
        ("box:10,20,30,40.5", Box(10, 20, 30, 40.5)),
        ("a white gull", Words("a white gull")),
        ("eine Möwe, weiß", Words("eine Möwe, weiß")),
        ("automobile", Words("automobile")),
    ],
)
def test_requests(text, request_):
    assert parse_segment(text) == request_


@pytest.mark.parametrize(
    "text", ["", " ", "point:1", "point:1,2,3", "box:1,2,3", "point:nan,1", "42", "--x", "a\0b", "x" * 201]
)
def test_anything_else_is_refused_with_the_forms(text):
    with pytest.raises(InputError, match=r"pass auto, point:x,y, box:x,y,x,y, or words"):
        parse_segment(text)


@pytest.mark.parametrize("text", ["box:10,20,10,40", "box:10,20,30,20"])
def test_a_box_of_no_area(text):
    with pytest.raises(InputError, match="no area"):
        parse_segment(text)


@pytest.mark.parametrize("text", ["box:30,40,10,20", "box:10,40,30,20", "box:30,20,10,40"])
def test_corners_in_another_order_are_refused_with_the_right_one(text):
    with pytest.raises(InputError, match="such as box:10,20,30,40"):
        parse_segment(text)


@pytest.mark.parametrize(
    "text", ["point:64,0", "point:0,48", "point:-1,5", "box:63,0,90,40", "box:-1,2,9,9", "box:0,0,64,49"]
)
def test_outside_the_frame(text):
    what = "outside" if text.startswith("point") else "reaches beyond"
    with pytest.raises(InputError, match=f"{what} the frame; clip.mp4 has 64x48 pixels"):
        check_inside(parse_segment(text), 64, 48, "clip.mp4")


@pytest.mark.parametrize("text", ["point:63,47", "box:0,0,64,48", "auto", "a gull"])
def test_inside_the_frame(text):
    check_inside(parse_segment(text), 64, 48, "clip.mp4")


@pytest.mark.parametrize("text", ["auto", "point:1.5,2", "box:1,2,3,4"])
def test_a_request_is_written_as_it_is_read(text):
    assert str(parse_segment(text)) == text
