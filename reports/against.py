"""How a trial compares with the one that differences are shown against; one story a row."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from harness.records import Record, latencies, protocols, turns
from harness.records.ranking import in_turns
from harness.records.turns import Latency, Ratio

RATIO = ("latency_ratio", "latency_ratio_low", "latency_ratio_high")
Verdicts = Mapping[str, Latency]
"""How the latency of a trial compares with that of the reference trial, by trial."""


def as_shown(record: Record, first: Record | None, verdicts: Verdicts | None = None) -> Record:
    """Give a trial the latency that goes with the ratio that is shown beside it."""
    if first is None or _ratio(record, first, verdicts) is None:
        return record
    found, own = in_turns(record, first), record.metrics["latency_ms"]
    if found is None or math.isclose(found.metrics["latency_ms"], own, rel_tol=1e-6):
        return record
    return found.model_copy(update={"metrics": found.metrics | {"latency_own_ms": own}})


def differences(
    record: Record, first: Record | None, verdicts: Verdicts | None = None
) -> dict[str, Any]:
    """Compare a trial with the first: points of mAP, % of params and MACs, ratio of latencies."""
    ratio = None if first is None else _ratio(record, first, verdicts)
    return {
        "mAP_delta": _points(record, first),
        "params_delta": _percent(record, first, "params"),
        "macs_delta": _percent(record, first, "macs"),
        **dict(zip(RATIO, ratio or (None, None, None), strict=True)),
        "latency_tie": None if ratio is None else ratio.tie,
    }


def _ratio(record: Record, first: Record, verdicts: Verdicts | None) -> Ratio | None:
    """Return the ratio of a trial's latency to the first's, if both are of one measurement.

    That is if the trial was timed against this very trial, in the shared rounds of a session or
    before by itself, where the first's own latency must not be rough.
    """
    if record.trial == first.trial or in_turns(record, first) is None:
        return None
    if verdicts is None:
        return None if turns.unlike(first, record) is not None else turns.own_ratio(record)
    found = verdicts.get(record.trial)
    if found is None or found.ratio is None or found.low is None or found.high is None:
        return None
    return Ratio(found.ratio, found.low, found.high)


def _pair(record: Record, first: Record | None, metric: str) -> tuple[float, float] | None:
    if first is None or record.trial == first.trial:
        return None
    mine, theirs = record.metrics.get(metric), first.metrics.get(metric)
    return None if mine is None or theirs is None else (mine, theirs)


def _points(record: Record, first: Record | None) -> float | None:
    pair = _pair(record, first, "mAP")
    if first is not None and len(protocols.data_sets([first, record])) > 1:
        return None
    return None if pair is None else 100 * (pair[0] - pair[1])


def _percent(record: Record, first: Record | None, metric: str) -> float | None:
    pair = _pair(record, first, metric)
    return None if pair is None or pair[1] == 0 else 100 * (pair[0] / pair[1] - 1)


def no_ratio(record: Record, first: Record | None) -> str:
    """Say why a latency that was timed has no ratio to the first trial's."""
    other = turns.timed_against(record)
    if first is not None and (why := turns.unlike(first, record)) is not None:
        return why.replace("A and B", "this trial and the baseline")
    if other is None or first is None:
        return "not timed in interleaved rounds with the baseline"
    if other != first.trial:
        return f"timed against trial {other}, not against the baseline"
    if (why := latencies.rough(first)) is not None:
        return f"the baseline's own latency is rough ({why}); detbench compare tells the ratio"
    return "no ratio was worked out"
