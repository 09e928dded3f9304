"""Boxes and their texts: where they are, that they can be read, and that they stay inside."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.cli import drawing
from harness.cli.drawing import DARK, LARGEST, LIGHT, SMALLEST, Box, beside, colours, draw

GREY = 127
RED = (0, 0, 255)


def grey(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), GREY, np.uint8)


def changed(picture: np.ndarray) -> tuple[int, int, int, int]:
    """Return the rows and columns between which a grey picture was drawn on."""
    rows, columns = np.nonzero((picture != GREY).any(axis=2))
    return int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())


def test_a_box_is_drawn_where_it_is_and_the_photograph_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(drawing, "_spot", lambda *given: None)  # no text
    photograph = grey(500, 600)
    picture = draw(photograph, [Box((100, 50, 200, 300), "cat 0.9", RED)])
    assert (photograph == GREY).all()
    assert picture.shape == photograph.shape
    reach = 4  # of half a line and its border
    edges = zip(changed(picture), (50, 350, 100, 300), strict=True)
    assert all(abs(found - wanted) <= reach for found, wanted in edges)
    assert tuple(picture[50, 200]) == RED
    assert tuple(picture[200, 200]) == (GREY,) * 3


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 900), st.integers(1, 900),
    st.tuples(*[st.floats(-200, 1100)] * 2, *[st.floats(0, 1200)] * 2),
    st.sampled_from(["cat", "Fu\u00dfg\u00e4nger gyjq", "\u4e2d\u6587", "a" * 90, "x\ny"]),
)  # fmt: skip
def test_a_text_lies_wholly_inside(
    height: int, width: int, box: tuple[float, ...], name: str
) -> None:
    """Whatever is drawn on a larger sheet around the picture would be seen."""
    picture = draw(grey(height, width), [])
    rows, columns = picture.shape[:2]
    size = drawing.text_height(picture)
    text = drawing._label(f"{name} 0.50", size, columns)
    place = drawing._corners(box, columns / width, picture)
    spot = drawing._spot(text, size, place, picture, []) if text else None
    if spot is None:
        assert columns < 60 or rows < 40  # too small for any text
        return
    assert text.endswith("0.50")
    sheet = grey(rows + 200, columns + 200)
    drawing._write(sheet, spot._replace(x=spot.x + 100, y=spot.y + 100), text, size, RED)
    top, bottom, left, right = changed(sheet)
    assert (top, bottom) == (spot.y + 100, spot.y + spot.height + 99)
    assert (left, right) == (spot.x + 100, spot.x + spot.width + 99)
    assert top >= 100
    assert left >= 100
    assert bottom < 100 + rows
    assert right < 100 + columns


def test_a_text_can_be_seen_on_every_colour() -> None:
    for colour in [*colours(80), DARK, LIGHT]:
        light, ground = (
            0.114 * blue + 0.587 * green + 0.299 * red
            for blue, green, red in (drawing._ink(colour), colour)
        )
        assert abs(light - ground) > 90


def test_texts_keep_apart_where_there_is_room() -> None:
    boxes = [Box((100, 100, 80, 80), f"cat 0.{k}", RED) for k in range(4)]
    picture = draw(grey(400, 500), [])
    size = drawing.text_height(picture)
    taken: list[drawing.Spot] = []
    for box in boxes:
        spot = drawing._spot(box.text, size, drawing._corners(box.xywh, 1, picture), picture, taken)
        assert spot is not None
        assert all(drawing._common(spot, other) == 0 for other in taken)
        taken.append(spot)


def test_classes_have_colours_of_their_own() -> None:
    for count in (1, 3, 20, 80):
        found = np.array(colours(count), float)
        assert len({tuple(colour) for colour in found}) == count
    near = np.abs(found[:, None] - found[None]).sum(axis=2) + 1e9 * np.eye(count)
    assert near[:8, :8].min() > 100  # few classes differ at first sight
    assert near.min() > 6


@pytest.mark.parametrize(
    ("size", "drawn"),
    [
        ((1, 1), (SMALLEST, SMALLEST)),
        ((48, 96), (240, 480)),
        ((1, 479), (2, 958)),
        ((480, 640), (480, 640)),
        ((2, 2 * LARGEST), (1, LARGEST)),
    ],
)
def test_small_photographs_are_enlarged_and_huge_ones_made_smaller(
    size: tuple[int, int], drawn: tuple[int, int]
) -> None:
    picture = draw(grey(*size), [Box((0, 0, *size[::-1]), "cat 0.5", RED)])
    assert picture.shape == (*drawn, 3)


def test_texts_grow_with_the_picture() -> None:
    heights = [drawing.text_height(grey(side, side)) for side in (480, 1000, 4000)]
    assert heights == [13, 24, 96]


def test_two_pictures_stand_side_by_side_under_their_titles() -> None:
    first, second = draw(grey(480, 500), []), draw(grey(480, 500), [])
    picture = beside(first, second, ("runs/mine", "a/very/long/folder/" * 20 + "yours"))
    bar = picture.shape[0] - 480
    assert bar > drawing.text_height(first)
    assert picture.shape[1] > 1000
    assert (picture[bar:, :500] == GREY).all()
    assert (picture[bar:, -500:] == GREY).all()
    for title in (picture[:bar, :500], picture[:bar, -500:]):
        assert (title[:, [0, -1]] == DARK).all()  # the text does not reach the border
        assert title.max() > 240  # and is there
    assert drawing._title("a/" * 300 + "yours", 13, 120).endswith("yours")
