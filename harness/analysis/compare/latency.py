"""Is one trial faster than another: from records of trials that were timed in turns."""

from __future__ import annotations

import math
from typing import NamedTuple

from harness.records import Record


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


def compare_latency(a: Record, b: Record) -> Latency:
    """Compare the latencies of two trials that were timed in turns, with each other or a third."""
    for name, item in (("A", a), ("B", b)):
        if "latency_ms" not in item.metrics:
            why = item.absent.get("latency_ms", "not measured")
            return _no_latency(f"latency is not compared: {name} has none ({why})")
    found = _ratio(a, b)
    if found is None:
        return _no_latency(
            "latency is not compared: A and B were not timed in turns, so the machine may have"
            " changed between them; a study times its trials together, and so does detbench measure"
        )
    ratio, low, high = found
    verdict = "slower" if low > 1 else "faster" if high < 1 else "not told apart"
    median = a.metrics["latency_ms"]
    lead = f"B is {verdict} than A" if verdict != "not told apart" else "latency is not told apart"
    words = f"{lead}: {ratio:.3f} times its latency (95 % interval {low:.3f} to {high:.3f})"
    moved = [(value - 1) * median for value in found]
    return Latency(verdict, ratio, low, high, moved[0], moved[1], moved[2], words)


def _no_latency(words: str) -> Latency:
    return Latency(None, None, None, None, None, None, None, words)


def _ratio(a: Record, b: Record) -> tuple[float, float, float] | None:
    """Return B's latency over A's with its interval; None when they have no measurement in common.

    Each record holds its ratio to the study's first trial, timed in turns with it. The ratios of
    two measurements are independent, so the intervals of their logarithms add as squares.
    """
    if a.environment.get("device") != b.environment.get("device"):
        return None
    if a.environment.get("host") != b.environment.get("host"):
        return None
    to_a, to_b = a.details.get("reference"), b.details.get("reference")
    if to_b is not None and to_b == a.trial:
        return _own_ratio(b)
    if to_a is not None and to_a == b.trial:
        own = _own_ratio(a)
        return None if own is None else (1 / own[0], 1 / own[2], 1 / own[1])
    if to_a is None or to_a != to_b:
        return None
    first, second = _own_ratio(a), _own_ratio(b)
    if first is None or second is None:
        return None
    logs = [[math.log(value) for value in own] for own in (first, second)]
    centre = logs[1][0] - logs[0][0]
    below = math.hypot(logs[1][0] - logs[1][1], logs[0][2] - logs[0][0])
    above = math.hypot(logs[1][2] - logs[1][0], logs[0][0] - logs[0][1])
    return math.exp(centre), math.exp(centre - below), math.exp(centre + above)


def _own_ratio(item: Record) -> tuple[float, float, float] | None:
    names = ("latency_ratio", "latency_ratio_low", "latency_ratio_high")
    if not all(name in item.metrics for name in names):
        return None
    ratio, low, high = (item.metrics[name] for name in names)
    return ratio, low, high
