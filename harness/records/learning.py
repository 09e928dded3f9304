"""Which trainings learnt nothing, so that no reader takes their figures for those of a detector."""

from __future__ import annotations

from harness.records.record import Record

NOTHING = "learnt nothing: "
"""How the caveat of an accuracy begins whose training learnt nothing."""


def learnt_nothing(record: Record) -> str | None:
    """Return how it shows that a trial's training learnt nothing, and what to try; else None."""
    parts = record.caveats.get("mAP", "").split("; ")
    return next((part.removeprefix(NOTHING) for part in parts if part.startswith(NOTHING)), None)
