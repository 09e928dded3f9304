"""Boxes on photographs, each with its class and score, readable at any size.

OpenCV's own fonts are drawn, which know most scripts. `torchvision.utils.draw_bounding_boxes` needs
a font file for that, and lets text run out of the picture.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from harness.cli.text import visible

Pixels = NDArray[np.uint8]  # [H, W, 3] BGR
Colour = tuple[int, int, int]  # BGR

SMALLEST, LARGEST = 480, 8192  # longer side of a picture, pixels; photographs are resized to that
SHARE = 0.024  # of a text's height against the picture's side
LEAST = 13  # height of a text, pixels
WEIGHT = 450  # of the font; 400 is regular, 700 bold
TURN = 0.618033988749895  # golden section: hues of neighbours differ most
DARK, LIGHT = (24, 24, 24), (255, 255, 255)
ELLIPSIS = "…"
LONGEST = 200  # letters of a text


class Box(NamedTuple):
    """One box as it is drawn."""

    xywh: Sequence[float]  # pixels of the photograph
    text: str
    colour: Colour


class Spot(NamedTuple):
    """A rectangle of the picture that is taken by a text."""

    x: int
    y: int
    width: int
    height: int


def colours(count: int) -> list[Colour]:
    """Return colours that can be told apart, the more of them the less well."""
    tones = ((0.85, 1.0), (0.95, 0.75), (0.5, 1.0))  # saturation and value
    found = []
    for index in range(count):
        saturation, value = tones[index // 8 % len(tones)]
        rgb = colorsys.hsv_to_rgb((0.02 + index * TURN) % 1, saturation, value)
        red, green, blue = (round(255 * part) for part in rgb)
        found.append((blue, green, red))
    return found


def draw(photograph: Pixels, boxes: Sequence[Box]) -> Pixels:
    """Draw boxes and their texts on a photograph, of which a copy is returned.

    A small photograph is enlarged, so that texts can be read, and a very large one made smaller. A
    text lies wholly inside the picture, and on no other if there is room; one that does not fit
    into the picture is left out.

    Args:
        photograph: [H, W, 3] BGR.
        boxes: the most important first.
    """
    picture, scale = _resized(photograph)
    height = text_height(picture)
    thickness = max(2, round(height / 7))
    corners = [_corners(box.xywh, scale, picture) for box in boxes]
    for wider, dark in ((2, True), (0, False)):
        for box, (x1, y1, x2, y2) in reversed([*zip(boxes, corners, strict=True)]):
            colour = DARK if dark else box.colour
            cv2.rectangle(picture, (x1, y1), (x2, y2), colour, thickness + wider, cv2.LINE_AA)
    taken: list[Spot] = []
    texts: list[tuple[Spot, str, Colour]] = []
    for box, place in zip(boxes, corners, strict=True):
        text = _label(box.text, height, picture.shape[1])
        spot = _spot(text, height, place, picture, taken) if text else None
        if spot is not None:
            taken.append(spot)
            texts.append((spot, text, box.colour))
    for spot, text, colour in reversed(texts):
        _write(picture, spot, text, height, colour)
    return picture


def beside(first: Pixels, second: Pixels, titles: tuple[str, str]) -> Pixels:
    """Put two pictures of one size side by side, each under its title."""
    height = text_height(first)
    left, right = _titled(first, titles[0], height), _titled(second, titles[1], height)
    gap = np.full((len(left), max(2, height // 3), 3), DARK, np.uint8)
    return np.concatenate([left, gap, right], axis=1)


def text_height(picture: Pixels) -> int:
    """Return how high a text is in a picture, pixels."""
    return max(LEAST, round(SHARE * float(np.sqrt(picture.shape[0] * picture.shape[1]))))


def _titled(picture: Pixels, title: str, height: int) -> Pixels:
    """Return a picture under a bar with a title."""
    width = picture.shape[1]
    bar = np.full((2 * height, width, 3), DARK, np.uint8)
    text = _title(title, height, width)
    if text:
        size = _size(text, height)
        spot = Spot((width - size.width) // 2, (2 * height - size.height) // 2, *size[2:])
        _write(bar, spot, text, height, DARK)
    return np.concatenate([bar, picture])


def _label(text: str, height: int, width: int) -> str:
    """Return a text in one line and not wider than so many pixels; empty if nothing fits.

    Its last word, which is a score, stays.
    """
    head, _, score = _plain(text).rpartition(" ")
    shorter = (f"{head[:count].rstrip()}{ELLIPSIS} {score}" for count in range(len(head))[:0:-1])
    return _first([f"{head} {score}".strip(), *shorter, score], height, width)


def _title(text: str, height: int, width: int) -> str:
    """Return the end of a text in one line and not wider than so many pixels."""
    plain = _plain(text)
    return _first([plain, *(ELLIPSIS + plain[k:] for k in range(1, len(plain)))], height, width)


def _plain(text: str) -> str:
    return " ".join(visible(text).split())[-LONGEST:]


def _first(choices: Sequence[str], height: int, width: int) -> str:
    return next((text for text in choices if _size(text, height).width <= width), "")


def _resized(photograph: Pixels) -> tuple[Pixels, float]:
    """Return a copy in which texts can be read, and how much larger it is."""
    rows, columns = photograph.shape[:2]
    longer = max(rows, columns)
    scale = min(1.0, LARGEST / longer) if longer >= SMALLEST else float(-(-SMALLEST // longer))
    if scale == 1:
        return photograph.copy(), scale
    size = max(1, round(columns * scale)), max(1, round(rows * scale))
    how = cv2.INTER_CUBIC if scale > 1 else cv2.INTER_AREA
    return np.asarray(cv2.resize(photograph, size, interpolation=how), np.uint8), scale


def _corners(xywh: Sequence[float], scale: float, picture: Pixels) -> tuple[int, int, int, int]:
    """Return the corners of a box in a picture, clipped to it."""
    x, y, width, height = (scale * value for value in xywh)
    rows, columns = picture.shape[:2]
    limits = (columns - 1, rows - 1, columns - 1, rows - 1)
    x1, y1, x2, y2 = (
        int(min(max(round(value), 0), limit))
        for value, limit in zip((x, y, x + width, y + height), limits, strict=True)
    )
    return x1, y1, x2, y2


def _size(text: str, height: int) -> Spot:
    """Return what a text takes with its margin, relative to where its first letter stands."""
    _, top, width, rows = cv2.getTextSize((0, 0), text, (0, 0), _font(), height, WEIGHT)
    margin = _margin(height)
    return Spot(margin, margin - top, width + 2 * margin, rows + 2 * margin)


def _margin(height: int) -> int:
    return max(2, height // 5)


def _spot(
    text: str, height: int, corners: tuple[int, int, int, int], picture: Pixels, taken: list[Spot]
) -> Spot | None:
    """Choose where a text goes: where it covers the least of others; None if it does not fit."""
    size = _size(text, height)
    rows, columns = picture.shape[:2]
    if size.height > rows or size.width > columns:
        return None
    x1, y1, x2, y2 = corners
    line = max(1, round(height / 14))
    left, right = x1 - line, x2 - size.width + line
    top, bottom = y1 - size.height, y2 - size.height
    wished = [(left, top), (left, y1), (left, y2), (left, bottom), (right, top), (right, y1)]
    wished += [(left, top - size.height), (left, y1 + size.height), (right, y2), (right, bottom)]
    spots = [
        Spot(min(max(x, 0), columns - size.width), min(max(y, 0), rows - size.height), *size[2:])
        for x, y in wished
    ]
    return min(spots, key=lambda spot: sum(_common(spot, other) for other in taken))


def _common(a: Spot, b: Spot) -> int:
    """Return the number of pixels that two rectangles share."""
    width = min(a.x + a.width, b.x + b.width) - max(a.x, b.x)
    height = min(a.y + a.height, b.y + b.height) - max(a.y, b.y)
    return max(width, 0) * max(height, 0)


def _write(picture: Pixels, spot: Spot, text: str, height: int, colour: Colour) -> None:
    """Write a text on a ground of a colour."""
    end = spot.x + spot.width - 1, spot.y + spot.height - 1
    cv2.rectangle(picture, (spot.x, spot.y), end, colour, -1)
    start = _size(text, height)
    place = spot.x + start.x, spot.y + start.y
    cv2.putText(picture, text, place, _ink(colour), _font(), height, WEIGHT)


def _ink(ground: Colour) -> Colour:
    """Return black or white, whichever stands out more."""
    blue, green, red = ground
    return DARK if 0.114 * blue + 0.587 * green + 0.299 * red > 140 else LIGHT


@cache
def _font() -> cv2.FontFace:
    return cv2.FontFace("sans")
