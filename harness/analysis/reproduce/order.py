"""Which comparisons between the rows of a published table appear in what was measured here."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, get_args

from harness.analysis.compare.differences import FEWEST_IMAGES
from harness.analysis.compare.runs import same_trainings
from harness.analysis.reproduce import verdicts
from harness.analysis.reproduce.measured import Ours, ratio, values
from harness.analysis.reproduce.schema import Column, Timed
from harness.analysis.reproduce.verdicts import EQUAL, SAME_IMAGES, Order
from harness.records import Record

ImageVariance = Callable[[Sequence[Record], Sequence[Record], str], tuple[float, int] | None]
"""Returns how a metric's difference between two variants varies over images, and how many these
are; None where that is not known."""


RATIO = "ratio"


class Comparison(NamedTuple):
    """A pair of rows: the second against the first."""

    column: str
    first: str
    second: str
    published: float  # difference in the printed unit; of times and speeds, the ratio
    measured: float
    low: float | None  # ends of the 95 % interval
    high: float | None
    verdict: Order
    reason: str
    unit: str | None


def compare_rows(
    column: Column, rows: Sequence[Ours], over_images: ImageVariance | None = None
) -> list[Comparison]:
    """Compare every pair of rows that were measured and that are printed with different figures.

    Args:
        column: of the table.
        rows: all of the table's, in order.
        over_images: tells how accuracies vary with the images; None asks about these images alone.
    """
    judge = _times if column.metric in get_args(Timed) else _figures
    found = []
    for first, second, printed in _pairs(rows):
        made = judge(column, first, second, printed, over_images)
        if made is not None:
            found.append(made)
    return found


def _pairs(rows: Sequence[Ours]) -> Iterator[tuple[Ours, Ours, tuple[float, float]]]:
    """Yield pairs of rows that can be compared, with their published figures."""
    for first, second in itertools.combinations(rows, 2):
        printed = [verdicts.number(row.printed or "") for row in (first, second)]
        if printed[0] is None or printed[1] is None or printed[0] == printed[1]:
            continue
        trials = [{record.trial for record in row.records} for row in (first, second)]
        if all(trials) and trials[0] != trials[1]:
            yield first, second, (float(printed[0]), float(printed[1]))


def _figures(
    column: Column,
    first: Ours,
    second: Ours,
    printed: tuple[float, float],
    over_images: ImageVariance | None,
) -> Comparison | None:
    """Compare accuracies, or whatever else is no time, by their difference."""
    places = same_trainings(first.records, second.records)
    others = second.records if places is None else [second.records[place] for place in places]
    a, b = values(first.records, column), values(others, column)
    if not a or not b:
        return None
    known = over_images and over_images(first.records, second.records, str(column.metric))
    variance, images = known or (SAME_IMAGES, FEWEST_IMAGES)
    paired = places is not None and len(a) == len(b) == len(places)
    found = verdicts.differ(a, b, variance, images, paired=paired)
    published = printed[1] - printed[0]
    several = min(len(a), len(b)) > 1
    ends = (found.low, found.high) if several else (None, None)
    verdict, why = verdicts.order(published, *ends)
    why = f"seeds with {EQUAL}" if several and ends[0] is None else why
    what = "trainings that both rows share" if paired else "seeds"
    seeds = f"over {min(len(a), len(b))} {what}" + (f" and {images} images" if known else "")
    reason = why if ends[0] is None else "; ".join(filter(None, [why, seeds]))
    return Comparison(
        column.name,
        first.label,
        second.label,
        published,
        found.difference,
        *ends,
        verdict,
        reason,
        column.unit,
    )


def _times(
    column: Column,
    first: Ours,
    second: Ours,
    printed: tuple[float, float],
    over_images: ImageVariance | None,
) -> Comparison | None:
    """Compare times or speeds by their ratio; images say nothing of it."""
    found = ratio(first.records, second.records, column)
    if found is None or printed[0] == 0:
        return None
    published = printed[1] / printed[0]
    ends = [None if end is None else math.log(end) for end in (found.low, found.high)]
    verdict, reason = verdicts.order(math.log(published), *ends)
    names = (column.name, first.label, second.label)
    return Comparison(*names, published, *found, verdict, reason, RATIO)
