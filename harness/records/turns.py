"""Latencies that were taken in turns: what compares two trials, and why others do not compare."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from harness.records import latencies, protocols
from harness.records.record import Record


class Ratio(NamedTuple):
    """One latency over another, from rounds in which both took turns, with its 95 % interval."""

    ratio: float
    low: float
    high: float

    @property
    def tie(self) -> bool:
        """Whether the interval holds 1."""
        return self.low <= 1 <= self.high


class Latency(NamedTuple):
    """How B's latency compares with A's, or why it does not."""

    verdict: str | None  # faster, slower, no significant difference
    ratio: float | None  # B's latency over A's
    low: float | None
    high: float | None
    difference_ms: float | None  # of B to A, at A's median
    low_ms: float | None
    high_ms: float | None
    words: str


def timed_against(record: Record) -> str | None:
    """Return the trial that a trial's latency was taken in turns with."""
    found: Any = record.details.get("reference")
    return found.get("trial") if isinstance(found, dict) else found


def unlike(a: Record, b: Record) -> str | None:
    """Return why two latencies mean different things, wherever and whenever they were taken."""
    places = [(r.environment.get("device"), r.environment.get("host")) for r in (a, b)]
    if places[0] != places[1]:
        return "A and B were timed on different machines"
    knobs = [key for key in protocols.unexplained([a, b]) if key.startswith("latency.")]
    if knobs:
        return f"A and B were timed with other settings ({', '.join(knobs)})"
    return None


def together(a: Record, b: Record) -> bool:
    """Say whether two latencies are from the same rounds."""
    return latencies.session(a) is not None and latencies.session(a) == latencies.session(b)


def in_turns(a: Record, b: Record) -> Ratio | None:
    """Return B's latency over A's where one was timed in turns with the other; else None."""
    if timed_against(b) == a.trial:
        return own_ratio(b)
    own = own_ratio(a) if timed_against(a) == b.trial else None
    return None if own is None else Ratio(1 / own.ratio, 1 / own.high, 1 / own.low)


def own_ratio(record: Record) -> Ratio | None:
    """Return the ratio that a record holds, to the trial it was timed against; its latency, too."""
    names = ("latency_ratio", "latency_ratio_low", "latency_ratio_high")
    if not all(name in record.metrics for name in (*names, "latency_ms")):
        return None
    return Ratio(*(record.metrics[name] for name in names))


def ratio(a: Record, b: Record) -> Ratio | None:
    """Return B's latency over A's with its interval; None when they have no measurement in common.

    Each record holds its ratio to another trial, the first of the study as a rule, timed in turns
    with it, be it in the shared rounds of a session. Those of two measurements are independent, so
    the intervals of their logarithms add as squares; of one session they share the rounds of that
    other trial, which makes the interval wider than it need be.
    """
    direct = in_turns(a, b)
    third = timed_against(a)
    first, second = own_ratio(a), own_ratio(b)
    if direct is not None or third is None or third != timed_against(b):
        return direct
    if first is None or second is None:
        return None
    logs = [[math.log(value) for value in own] for own in (first, second)]
    centre = logs[1][0] - logs[0][0]
    below = math.hypot(logs[1][0] - logs[1][1], logs[0][2] - logs[0][0])
    above = math.hypot(logs[1][2] - logs[1][0], logs[0][0] - logs[0][1])
    return Ratio(math.exp(centre), math.exp(centre - below), math.exp(centre + above))


def reference(records: Sequence[Record]) -> str | None:
    """Return the trial that all of these were timed in turns with, be it one of them; else None."""
    named = {timed_against(record) for record in records} - {None}
    found = next(iter(named), None)
    others = [record for record in records if record.trial != found]
    tied = len(named) == 1 and all(timed_against(r) == found and own_ratio(r) for r in others)
    return found if tied else None
