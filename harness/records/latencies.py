"""Which latencies may be ranked: not the rough ones, and best those that were timed together."""

from __future__ import annotations

from harness.records.record import Record

ROUGH = "rough: "
"""How the caveat of a latency begins that takes part in no front, effect or verdict."""


def rough(record: Record) -> str | None:
    """Return why a latency is only rough; None if it may be ranked, or if there is none."""
    parts = record.caveats.get("latency_ms", "").split("; ")
    return next((part.removeprefix(ROUGH) for part in parts if part.startswith(ROUGH)), None)


def session(record: Record) -> str | None:
    """Return which shared rounds a latency is from; None if the trial was timed by itself.

    Latencies of one session were taken in turns, so the machine's drift is in all of them alike.
    """
    found = record.details.get("together", {}).get("session")
    return None if found is None else str(found)
