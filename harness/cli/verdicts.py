"""Verdicts for a page: those of `detbench compare`, so that no page says what that would not."""

from __future__ import annotations

from collections.abc import Sequence

from harness.analysis.compare.latency import against
from harness.records import Record
from harness.records.turns import Latency


def on_latency(records: Sequence[Record]) -> dict[str, Latency]:
    """Compare the latency of each trial of a study with the one that its tables compare with."""
    from reports import tables  # slow to import

    return against(tables.reference(records), records)
