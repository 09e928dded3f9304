"""Which dots of a figure have their names beside them: points in, texts and places out."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from reports import placing
from reports.canvas import safe, shorten
from reports.placing import Placed, Spot
from reports.points import Bound, Dot

NAME = 30  # letters of a name beside a dot


def names(
    groups: Sequence[Sequence[Dot]],
    limits: tuple[tuple[float, float], tuple[float, float]],
    size: tuple[float, float],
) -> list[list[Placed]]:
    """Place the names of dots, those of the first groups first; see `reports.placing`.

    Args:
        groups: dots, the front's first, by cost, as a line joins them.
        limits: of both axes.
        size: width and height of the plot, pixels.
    """
    dots = [dot for group in groups for dot in group]
    spots = [
        Spot(
            _share(dot.x.value, limits[0]),
            _share(dot.y.value, limits[1]),
            (safe(shorten(dot.label, NAME)), dot.label.partition(":")[0]),
            _ends(dot.x, limits[0]),
            _ends(dot.y, limits[1]),
        )
        for dot in dots
    ]
    steps = [(spot.x, spot.y) for spot in spots[: len(groups[0])]]
    lines = [
        line
        for (x, y), (right, top) in itertools.pairwise(steps)
        for line in ((x, y, right, y), (right, y, right, top))
    ]
    placed = iter(placing.place(spots, *size, lines))
    return [[next(placed) for _ in group] for group in groups]


def _share(value: float, limits: tuple[float, float]) -> float:
    return (value - limits[0]) / (limits[1] - limits[0])


def _ends(bound: Bound, limits: tuple[float, float]) -> tuple[float, float] | None:
    if bound.low is None or bound.high is None:
        return None
    return _share(bound.low, limits), _share(bound.high, limits)
