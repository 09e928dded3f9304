"""Where the names of dots go, so that none covers another or leaves the frame; numbers only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

LETTER, LINE = 6.2, 13.0  # pixels: width of a letter and height of a line, at 11 pixels
GAP = 8.0  # pixels between the middle of a dot and its name
BAR = 4.0  # pixels from the middle of a bar to the ends of its cap
DOT = 6.0  # pixels from the middle of a dot to its edge
POSITIONS = (
    *("top center", "bottom center", "middle right", "middle left"),
    *("top right", "top left", "bottom right", "bottom left"),
)


class Spot(NamedTuple):
    """A dot in the plot, as shares of its width and height from the lower left corner."""

    x: float
    y: float
    names: tuple[str, ...]  # what may stand beside it, best first
    across: tuple[float, float] | None = None  # ends of its horizontal bar
    upright: tuple[float, float] | None = None  # likewise, vertical


class Placed(NamedTuple):
    """What stands beside a dot, and where; nothing where no name has room."""

    text: str = ""
    position: str = "top center"


class Box(NamedTuple):
    """A rectangle, pixels."""

    left: float
    bottom: float
    right: float
    top: float

    def meets(self, other: Box) -> bool:
        """Say whether two rectangles share a point inside."""
        across = self.left < other.right and other.left < self.right
        return across and self.bottom < other.top and other.bottom < self.top


Line = tuple[float, float, float, float]
"""A level or upright line: x and y of both ends, as shares of the plot."""


def place(
    spots: Sequence[Spot], width: float, height: float, lines: Sequence[Line] = ()
) -> list[Placed]:
    """Give dots names, the first dots first; one without room for any of its names gets none.

    Args:
        spots: dots, the most important first.
        width: of the plot, pixels.
        height: likewise.
        lines: what is drawn between the dots.
    """
    frame = Box(0, 0, width, height)
    taken = [_stroke(line, frame) for line in lines]
    taken += [drawn for spot in spots for drawn in _drawn(spot, frame)]
    found = []
    for spot in spots:
        choices = [Placed(name, position) for name in spot.names for position in POSITIONS]
        boxes = ((each, box(spot, each, frame)) for each in choices)
        free = ((each, made) for each, made in boxes if _fits(made, taken, frame))
        placed = next(free, None)
        found.append(Placed() if placed is None else placed[0])
        taken += [] if placed is None else [placed[1]]
    return found


def box(spot: Spot, placed: Placed, frame: Box) -> Box:
    """Return where a name is written."""
    x, y = spot.x * frame.right, spot.y * frame.top
    vertical, horizontal = placed.position.split()
    long = len(placed.text) * LETTER
    left = {"center": x - long / 2, "right": x + GAP / 2, "left": x - GAP / 2 - long}[horizontal]
    if vertical == "middle":
        left += GAP / 2 if horizontal == "right" else -GAP / 2
    bottom = {"top": y + GAP, "middle": y - LINE / 2, "bottom": y - GAP - LINE}[vertical]
    return Box(left, bottom, left + long, bottom + LINE)


def _drawn(spot: Spot, frame: Box) -> list[Box]:
    """Return what a dot and its bars cover."""
    x, y = spot.x * frame.right, spot.y * frame.top
    found = [Box(x - DOT, y - DOT, x + DOT, y + DOT)]
    if spot.across is not None:
        left, right = (end * frame.right for end in spot.across)
        found.append(Box(left, y - BAR, right, y + BAR))
    if spot.upright is not None:
        low, high = (end * frame.top for end in spot.upright)
        found.append(Box(x - BAR, low, x + BAR, high))
    return found


def _stroke(line: Line, frame: Box) -> Box:
    """Return what a line covers."""
    xs, ys = ([end * side for end in ends]
              for ends, side in ((line[::2], frame.right), (line[1::2], frame.top)))  # fmt: skip
    return Box(min(xs) - 1, min(ys) - 1, max(xs) + 1, max(ys) + 1)


def _fits(made: Box, taken: Sequence[Box], frame: Box) -> bool:
    inside = made.left >= 0 and made.right <= frame.right
    inside = inside and made.bottom >= 0 and made.top <= frame.top
    return inside and not any(made.meets(other) for other in taken)
