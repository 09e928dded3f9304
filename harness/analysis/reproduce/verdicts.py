"""From numbers to verdicts: what was measured here beside what was printed. Pure functions.

An accuracy is the result of a training, and another seed gives another. The published training is
taken to vary as ours do, so the interval of the difference is that of one training against the mean
of several, and one training alone has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Literal, NamedTuple, get_args

import numpy as np

from harness.analysis.compare import differences
from harness.analysis.compare.differences import FEWEST_IMAGES, Difference, Measured
from harness.analysis.reproduce.schema import Known
from harness.records.least_squares import SAME

Verdict = Literal["reproduced", "not settled", "differs", "other setting", "not run", "outside"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
Order = Literal["appears", "contradicts", "not settled"]
UNEXPLAINED = "unexplained"
MEANING = {
    "reproduced": "equal to the digits printed, or within a narrow 95 % interval",
    "not settled": "the 95 % interval is too wide to tell, or one seed has none",
    "differs": "more than chance, or than the digits printed",
    "other setting": "other data, schedule or device than printed: shown, never judged",
    "not run": "no finished trial of it is among the records",
    "outside": "nothing here repeats it",
    "appears": "the rows differ here in the published direction, by their 95 % interval",
    "contradicts": "they differ the other way",
    UNEXPLAINED: "nobody has found out yet why",
}
"""Verdicts, and words of their reasons, for a key under a table."""
EQUAL = "equal values, which do not tell how much others scatter"
SAME_IMAGES = 0.0  # variance over images, where both sides are judged by the same ones


class Judged(NamedTuple):
    """A verdict on a cell; figures are in the unit that is printed."""

    verdict: Verdict
    reason: str
    measured: float | None = None
    difference: float | None = None  # ours less the published one
    low: float | None = None  # ends of the 95 % interval of the difference
    high: float | None = None
    shown: str = ""  # what was measured, to the digits that are printed
    published: float | None = None  # where it is not what is printed, but a ratio to another row
    command: str | None = None  # that would run what was not run


def number(printed: str) -> Decimal | None:
    """Return what a cell prints; None where that is no number."""
    try:
        found = Decimal(printed)
    except InvalidOperation:
        return None
    return found if found.is_finite() else None


def as_printed(value: float | Decimal, like: str, *, cut: bool = False) -> str:
    """Write a value to as many digits as another is printed with.

    Args:
        value: in the printed unit.
        like: the printed figure.
        cut: whether digits are cut off instead of rounded.
    """
    digits = Decimal(1).scaleb(-decimals(like))
    exact = value if isinstance(value, Decimal) else Decimal(repr(value))
    return str(exact.quantize(digits, ROUND_DOWN if cut else ROUND_HALF_UP))


def decimals(printed: str) -> int:
    """Return the number of digits behind a figure's point."""
    return len(printed.partition(".")[2])


def count(
    printed: str,
    counted: Mapping[str, Decimal],
    *,
    cut: bool = False,
    known: Known | None = None,
) -> Judged:
    """Judge a figure that the architecture determines, to the printed digit.

    Args:
        printed: the published figure.
        counted: ours in the same unit, by the name of how it was counted; one that gives every
            printed digit is enough.
        cut: whether the published figure's digits were cut off.
        known: what ours is known to be instead, and why.
    """
    texts = {name: as_printed(value, printed, cut=cut) for name, value in counted.items()}
    name = next((name for name, text in texts.items() if text == printed), next(iter(texts)))
    found, text = float(counted[name]), texts[name]
    if text == printed:
        others = ", ".join(f"{other} gives {texts[other]}" for other in texts if other != name)
        reason = f"by {name}; {others}" if others else ""
        return Judged("reproduced", reason, found, 0.0, shown=text)
    for value in counted.values():
        if known and as_printed(value, known.counted, cut=cut) == known.counted:
            less = _less(known.counted, printed)
            return Judged("differs", known.reason, float(value), less, shown=known.counted)
    told = "" if known is None else f"; the table expects {known.counted} ({known.reason})"
    others = ", ".join(f"{name} gives {text}" for name, text in texts.items() if len(texts) > 1)
    reason = UNEXPLAINED + (f": {others}" if others else "") + told
    return Judged("differs", reason, found, _less(text, printed), shown=text)


def _less(text: str, printed: str) -> float:
    """Return the difference of two figures of as many digits."""
    return float(Decimal(text) - Decimal(printed))


def evaluated(printed: str, value: float, *, known: Known | None = None) -> Judged:
    """Judge what released weights reach, to the printed digit: no training is in between."""
    return count(printed, {"evaluation": Decimal(repr(value))}, known=known)


def trained(
    printed: str, values: Sequence[float], gap: float | None, *, known: Known | None = None
) -> Judged:
    """Judge an accuracy that depends on a training.

    Args:
        printed: the published figure, of one training.
        values: ours in the same unit, one a seed.
        gap: to the neighbouring row's published figure; None where there is no other.
        known: why ours is known to differ.
    """
    published, mean = float(printed), float(np.mean(values))
    shown, difference = as_printed(mean, printed), mean - published
    if len(values) < 2:
        reason = "one seed, which has no interval"
        return Judged("not settled", reason, mean, difference, shown=shown)
    found = differ([published], values)
    if found.low is None or found.high is None:
        reason = f"{len(values)} seeds with {EQUAL}"
        return Judged("not settled", reason, mean, difference, shown=shown)
    low, high = found.low, found.high
    told = f"95 % interval of the difference {low:+.3g} to {high:+.3g}, {len(values)} seeds"
    ends = Judged("differs", "", mean, difference, low, high, shown)
    rounding = 0.5 * 10 ** -decimals(printed)
    if low > rounding or high < -rounding:
        why = known.reason if known else UNEXPLAINED
        return ends._replace(reason=f"{why}; {told}")
    if gap is None:
        reason = f"{told}; no other row to tell it from"
        return ends._replace(verdict="not settled", reason=reason)
    if high - low < gap / 2:
        return ends._replace(verdict="reproduced", reason=told)
    reason = f"{told}, wider than half the gap of {gap:.3g} to the neighbouring row"
    return ends._replace(verdict="not settled", reason=reason)


def gap(printed: Sequence[str | None], place: int) -> float | None:
    """Return how far a figure is from the nearest other one of its column; None without another.

    Args:
        printed: the column's cells.
        place: of the figure among them.
    """
    own = number(printed[place] or "")
    others = [value for text in printed if (value := number(text or "")) is not None]
    if own is None:
        return None
    return min((float(abs(own - value)) for value in others if value != own), default=None)


def differ(
    a: Sequence[float],
    b: Sequence[float],
    variance: float = SAME_IMAGES,
    images: int = FEWEST_IMAGES,
    *,
    paired: bool = False,
) -> Difference:
    """Give the difference of B's mean from A's with the interval of `harness.analysis.compare`.

    Args:
        a: one value a seed.
        b: likewise; a side with one seed is taken to vary as the other.
        variance: of the difference over images; 0 asks about these images alone.
        images: number of them, at least `FEWEST_IMAGES`.
        paired: whether both sides are the same trainings, one by one.

    Returns:
        Without an interval where neither images nor seeds scatter: equal values do not tell that
        others would be equal, too.
    """
    first, second = (np.array([side], np.float64).T for side in (a, b))
    over = np.array([variance]), np.array([images])
    measured = Measured(("",), first, second, *over, paired=paired)
    found = differences.compare(measured)[0]
    spread = np.ptp(second - first) if paired else max(np.ptp(a), np.ptp(b))
    if variance == 0 and spread <= SAME * max(map(abs, (*a, *b))):
        return found._replace(low=None, high=None, p=None, told_apart=False)
    return found


def order(published: float, low: float | None, high: float | None) -> tuple[Order, str]:
    """Say whether a difference between two published rows is one here, too.

    Args:
        published: the difference of the published figures, not 0.
        low: end of the interval of ours, in the same direction; None without one.
        high: the other end.

    Returns:
        The verdict and, where nothing is settled, why.
    """
    if low is None or high is None:
        return "not settled", "one seed, which has no interval"
    if low <= 0 <= high:
        return "not settled", "the interval holds zero"
    return ("appears" if (low > 0) == (published > 0) else "contradicts"), ""
