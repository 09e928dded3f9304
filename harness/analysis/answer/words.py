"""Words of an answer: what was found in, plain clauses out."""

from __future__ import annotations

import math
from collections.abc import Sequence

from harness.analysis.answer.borrowed import Borrowed
from harness.analysis.answer.contest import NOTHING, Against, Contest, clean
from harness.analysis.answer.power import Scale
from harness.records.cells import ONE_SEED, Scatter
from harness.records.effects import LEVEL, Effect
from harness.records.units import METRICS

SHOWN = 3  # things that are told one by one
MORE = {"mAP": ("better", "worse"), "latency_ms": ("slower", "faster")}
"""What more of a metric is, and what less is."""
AHEAD = {"mAP": "better", "latency_ms": "faster"}
BEST = {"mAP": "best", "latency_ms": "fastest"}
NAME = {"mAP": "mAP", "latency_ms": "latency"}
UNIT = {"mAP": "points", "latency_ms": "ms"}  # of a difference


def winner(metric: str, found: Contest) -> str:
    """Say which variant is best, by how much for sure, and which others may be as good."""
    near, ties, ahead = found.others[0], found.ties, AHEAD[metric]
    if len(found.others) == 1 and ties:
        both = f"{found.best} and {near.label}"
        return f"there is no significant difference between {both}: {_gap(near, metric)}"
    if len(found.others) == 1:
        return f"{found.best} is {ahead} than {near.label}{_by(near, metric)}"
    best = f"{found.best} is {BEST[metric]} with {value(metric, found.value)}"
    if not ties:
        return f"{best}, {ahead} than the next ({near.label}){_by(near, metric)}"
    if len(ties) == len(found.others):
        last = found.others[-1]
        rest = f"the last, {last.label}, differs by {_gap(last, metric)}"
        none = "with no significant difference from any other, all pairs allowed for"
        return f"{best}, but {none}; {rest}"
    beaten = next(other for other in found.others if other.significant)
    same = listed([other.label for other in ties])
    lead = f"{best}, with no significant difference from {same}"
    return f"{lead}; it is {ahead} than {beaten.label}{_by(beaten, metric)}"


def _by(other: Against, metric: str) -> str:
    """Say by how much a variant is behind the best, after its name."""
    lead = ", which takes longer by" if other.in_percent else " by"
    return f"{lead} {_gap(other, metric)}"


def _gap(other: Against, metric: str) -> str:
    unit = "%" if other.in_percent else UNIT[metric]
    text = interval(other.difference, other.low, other.high, unit)
    share = metric != "mAP" and other.share is not None
    return f"{text}, {number(other.share or 0.0)} %" if share else text


UNKNOWN: dict[Scatter, str] = {
    "one seed": ONE_SEED,
    "few seeds": "with too few variants repeated with other seeds, the scatter is unknown",
    "equal seeds": "repeated seeds gave equal values, which do not tell how much others scatter,",
}
"""Why no difference is significant."""


def unknown(metric: str, ranked: Sequence[tuple[str, float]], scatter: Scatter) -> str:
    """Say which variant is ahead where nothing tells how much a training scatters.

    Args:
        metric: a key of `UNIT`.
        ranked: variants with their values, the best first.
        scatter: what is known of it, a key of `UNKNOWN`.
    """
    most = value(metric, ranked[0][1])
    level = [label for label, item in ranked if value(metric, item) == most]
    if len(level) == len(ranked):
        lead = f"{listed(level)} {'both' if len(level) == 2 else 'all'} have {most}"
    else:
        second, after = ranked[len(level)]
        each = "is ahead with {}" if len(level) == 1 else "are ahead with {} each"
        lead = f"{listed(level)} {each.format(most)}, next is {second} with {value(metric, after)}"
    return f"{lead}, but {UNKNOWN[scatter]} and no difference is significant"


def by_others(known: Borrowed) -> str:
    """Say whose scatter it is that differences of single trainings are judged by."""
    studies = listed([clean(name) for name in known.studies])
    return f"with one seed each, by the scatter of {known.trainings} trainings of {studies}"


def alone(metric: str, mean: float, half: float | None, seeds: int, label: str) -> str:
    """Say what the only variant with a figure has."""
    if half is None and seeds > 1:
        same = f"in each of {seeds} seeds, which does not tell how much others scatter"
        return f"{label} has {value(metric, mean)} {same}"
    if half is None:
        return f"{label} has {value(metric, mean)} with one seed, whose scatter is unknown"
    ends = interval(mean, mean - half, mean + half, METRICS[metric].unit)
    return f"{label} has {ends} over {seeds} seeds"


def effects(metric: str, found: Sequence[Effect], mean: float) -> str:
    """Say what each knob does, on average over the others, and which do nothing for sure.

    Args:
        metric: a key of `UNIT`.
        found: with intervals.
        mean: of the metric over the trials, in its unit.
    """
    largest = sorted(found, key=lambda one: -abs(one.estimate))
    clear = [one for one in largest if significant(one)]
    clauses = [_effect(metric, one, mean) for one in clear[:SHOWN]]
    if len(clear) > SHOWN:
        more = len(clear) - SHOWN
        clauses.append(f"{more} more effect{'s are' if more > 1 else ' is'} significant")
    unclear = [one for one in largest if not significant(one) and not one.interaction]
    if unclear:
        most = unclear[0]
        which = f"the largest, {change(most)}, is " if len(unclear) > 1 else ""
        size = interval(*_ends(most), UNIT[metric], signed=True)
        knobs = listed([change(one) for one in unclear])
        clauses.append(
            f"there is no significant difference by {knobs}: {which}{size}{_confounded(most)}"
        )
    return "; ".join(clauses)


def significant(effect: Effect) -> bool:
    """Say whether the interval of an effect leaves out nothing."""
    _, low, high = _ends(effect)
    return low > NOTHING or high < -NOTHING


def _ends(effect: Effect) -> tuple[float, float, float]:
    """Return an effect and the ends of its interval; no ends are endless."""
    low = -math.inf if effect.low is None else effect.low
    return effect.estimate, low, math.inf if effect.high is None else effect.high


def _effect(metric: str, one: Effect, mean: float) -> str:
    """Tell of an effect that is significant."""
    size, low, high = _ends(one)
    twice = 2 if one.interaction else 1  # an interaction is half of what two settings add
    low, high = sorted(twice * abs(end) for end in (low, high))
    text = interval(twice * abs(size), low, high, UNIT[metric])
    if one.interaction:
        more = "more" if size > 0 else "less"
        lead = f"{clean(one.label)} interact: both together give {more} than one by one, by"
        return f"{lead} {text}{_confounded(one)}"
    share = f", {number(100 * abs(size) / mean)} %" if metric != "mAP" and mean else ""
    word = MORE[metric][0 if size > 0 else 1]
    return f"{change(one)} is {word} by {text}{share}, on average{_confounded(one)}"


def change(one: Effect) -> str:
    """Name a knob and the settings that it goes from and to."""
    return clean(one.label.replace(": ", " ", 1))


def _confounded(one: Effect) -> str:
    others = listed([clean(each) for each in one.aliases]) if one.aliases else ""
    return f", confounded with {others}" if others else ""


def power(metric: str, scale: Scale) -> str:
    """Say which differences so many seeds show, and twice as many."""
    least, then = (figure(scale.smallest(seeds)) for seeds in (scale.seeds, 2 * scale.seeds))
    lead = "1 seed shows" if scale.seeds == 1 else f"{scale.seeds} seeds show"
    unit = "points of mAP" if metric == "mAP" else "ms"
    more = f"{2 * scale.seeds} would show {then}"
    return f"{lead} a difference of {least} {unit} in 8 of 10 cases, {more}"


def value(metric: str, item: float) -> str:
    """Write a value of a metric with its unit, if it has one."""
    unit = METRICS[metric].unit if metric in METRICS else ""
    if metric == "mAP" or item == 0:
        return f"{item:.1f} {unit}".rstrip()
    places = min(4, max(1, 2 - math.floor(math.log10(abs(item)))))
    return f"{item:.{places}f} {unit}".rstrip()


def interval(estimate: float, low: float, high: float, unit: str, *, signed: bool = False) -> str:
    """Write an estimate and its interval, with two digits of what is not known.

    An interval that leaves out 0 does so as it is written, too.
    """
    half = (high - low) / 2
    size = half if half > NOTHING else abs(estimate)
    places = min(6, max(1, 1 - math.floor(math.log10(size)))) if size > NOTHING else 1
    while places < 6 and low * high > 0 and not float(f"{min(abs(low), abs(high)):.{places}f}"):
        places += 1
    first, least, most = (_written(each, places) for each in (estimate, low, high))
    plus = "+" if signed and estimate > 0 and float(first) else ""
    return f"{plus}{first} {unit} ({100 * LEVEL:.0f} % interval {least} to {most})"


def _written(item: float, places: int) -> str:
    """Write a number; what is written as 0 has no sign."""
    text = f"{item:.{places}f}"
    return text if float(text) else text.removeprefix("-")


def number(item: float) -> str:
    """Write a share with as many digits as it is worth."""
    return f"{item:.0f}" if abs(item) >= 10 else f"{item:.1f}"


def figure(item: float) -> str:
    """Write a positive size with two digits."""
    return f"{item:.{max(0, 1 - math.floor(math.log10(item)))}f}"


def listed(items: Sequence[str]) -> str:
    """Name a few things in a row, and count the others."""
    if len(items) > SHOWN:
        return f"{', '.join(items[:SHOWN])} and {len(items) - SHOWN} more"
    return " and ".join(filter(None, (", ".join(items[:-1]), items[-1])))


def sentence(text: str) -> str:
    """Begin with a capital, end with a full stop."""
    return f"{text[0].upper()}{text[1:].rstrip('.')}." if text else ""
