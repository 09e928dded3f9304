"""Differences between any two trials, so that a page may choose what others are compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.records import Record, latencies, turns

MOST = 60  # trials; the ratios of more would weigh more than the page


def baselines(records: Sequence[Record]) -> dict[str, Any]:
    """Return what a page needs to compare trials with a chosen one; empty for fewer than two.

    Keys: `trials`, a list in the order of the rows: `label`, `mAP`, `params`, `macs` (None where
    missing), `data` (trials of equal text were evaluated on the same images), `protocol`; `ratios`:
    at [i][j] the latency of trial j over that of trial i, with the ends of its 95 % interval, or
    None where no measurement ties the two.
    """
    done = [record for record in records if record.state == "done"]
    if not 2 <= len(done) <= MOST:
        return {}
    return {
        "trials": [_figures(number, record) for number, record in enumerate(records, 1)],
        "ratios": [[_ratio(a, b) for b in records] for a in records],
    }


def _figures(number: int, record: Record) -> dict[str, Any]:
    found = {key: record.metrics.get(key) for key in ("mAP", "params", "macs")}
    return {
        "label": f"#{number} {record.name or record.detector}, seed {record.seed}",
        **(found if record.state == "done" else dict.fromkeys(found)),
        "data": str(record.data.get("fingerprint", "")),
        "protocol": record.protocol_hash,
    }


def _ratio(a: Record, b: Record) -> list[float] | None:
    """Return B's latency over A's, as `detbench compare` has it."""
    if a.trial == b.trial or {a.state, b.state} != {"done"} or turns.unlike(a, b):
        return None
    rough = latencies.rough(a) is not None or latencies.rough(b) is not None
    if rough and not turns.together(a, b) and turns.in_turns(a, b) is None:
        return None
    found = turns.ratio(a, b)
    return None if found is None else list(found)
