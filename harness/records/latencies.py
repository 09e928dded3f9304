"""Which latencies may be ranked: not the rough ones, and best those that were timed together."""

from __future__ import annotations

from harness.records.record import Record

ROUGH = "rough: "
"""How the caveat of a latency begins that takes part in no front, effect or verdict."""
BEFORE = "most, so all kept"
"""How the caveat of a disturbed latency ends in a record from before there was `ROUGH`."""


def reason(caveat: str) -> str | None:
    """Return why a caveat calls a figure rough; None if it does not."""
    for part in caveat.split("; "):
        if part.startswith(ROUGH) or part.endswith(BEFORE):
            return part.removeprefix(ROUGH)
    return None


def rough(record: Record) -> str | None:
    """Return why a latency is only rough; None if it may be ranked, or if there is none."""
    found = reason(record.caveats.get("latency_ms", ""))
    if found is None and "latency_ms" in record.metrics:
        found = _borrowed(record)
    return found


def firm(record: Record) -> dict[str, float]:
    """Return the metrics that may be ranked or held against a limit: all but the rough ones."""
    unsure = {name for name, caveat in record.caveats.items() if reason(caveat) is not None}
    if rough(record) is not None:
        unsure |= {name for name in record.metrics if is_time(name)}
    return {name: value for name, value in record.metrics.items() if name not in unsure}


def is_time(name: str) -> bool:
    """Say whether a metric is a time, and no ratio of two that were taken in turns."""
    return name.endswith("_ms")


def session(record: Record) -> str | None:
    """Return which shared rounds a latency is from; None if the trial was timed by itself.

    Latencies of one session were taken in turns, so the machine's drift is in all of them alike.
    """
    found = record.details.get("together", {}).get("session")
    return None if found is None else str(found)


def _borrowed(record: Record) -> str | None:
    """Return whose latency a record from before there was `ROUGH` took over."""
    reused = record.details.get("reused", {})
    if session(record) is not None or not reused.get("latency"):
        return None
    return f"timed for {reused.get('from', 'another study')}"
