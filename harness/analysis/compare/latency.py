"""Is one trial faster than another: from records of trials that were timed in turns."""

from __future__ import annotations

from collections.abc import Sequence

from harness.records import Record, latencies, turns
from harness.records.turns import Latency

NO_DIFFERENCE = "no significant difference"
"""The verdict on what cannot be told from nothing."""
APART = (
    "A and B were not timed in turns, so the machine may have changed between them;"
    " `--remeasure latency` of `detbench run` times a study's trials together, and so does"
    " `detbench measure`"
)


def against(first: Record | None, records: Sequence[Record]) -> dict[str, Latency]:
    """Compare the latency of every other finished trial with that of the first, by trial."""
    if first is None:
        return {}
    others = [r for r in records if r.state == "done" and r.trial != first.trial]
    return {record.trial: compare_latency(first, record) for record in others}


def compare_latency(a: Record, b: Record) -> Latency:
    """Compare the latencies of two trials that were timed in turns, with each other or a third.

    The first of these reasons ends it: a side has no latency; another machine or other settings;
    neither the same rounds nor turns, in which case one that is rough is named. What was taken in
    turns counts though it is rough: whatever disturbed one side disturbed the other.
    """
    sides = (("A", a), ("B", b))
    for name, item in sides:
        if "latency_ms" not in item.metrics:
            return _none(f"{name} has none ({item.absent.get('latency_ms', 'not measured')})")
    if (why := turns.unlike(a, b)) is not None:
        return _none(why)
    found = turns.ratio(a, b)
    if found is None:
        rough = [f"{name}'s is rough ({why})" for name, r in sides if (why := latencies.rough(r))]
        return _none("; ".join([*rough, APART]))
    verdict = "slower" if found.low > 1 else "faster" if found.high < 1 else NO_DIFFERENCE
    lead = f"B is {verdict} than A" if verdict != NO_DIFFERENCE else f"{NO_DIFFERENCE} in latency"
    words = (
        f"{lead}: {found.ratio:.3f} times its latency"
        f" (95 % interval {found.low:.3f} to {found.high:.3f})"
    )
    if latencies.rough(a) is not None:  # then only the ratio is known
        return Latency(verdict, *found, None, None, None, words)
    median = a.metrics["latency_ms"]
    moved, least, most = ((value - 1) * median for value in found)
    return Latency(verdict, *found, moved, least, most, words)


def _none(why: str) -> Latency:
    words = f"latency is not compared: {why}"
    return Latency(None, None, None, None, None, None, None, words)
