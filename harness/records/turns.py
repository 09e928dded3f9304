"""Latencies that were taken in turns: what compares two trials, and why others do not compare."""

from __future__ import annotations

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

    verdict: str | None  # faster, slower, not told apart
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
    """Return the ratio that a record holds, to the trial it was timed against."""
    names = ("latency_ratio", "latency_ratio_low", "latency_ratio_high")
    if not all(name in record.metrics for name in names):
        return None
    return Ratio(*(record.metrics[name] for name in names))
