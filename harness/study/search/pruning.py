"""When a trial cannot win any more: rules for one or several objectives, on numbers alone.

Optuna's pruners compare one value by epoch, and refuse several objectives. Here a trial is granted
the best that can be expected of it, and goes only if a finished trial beats even that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from harness.records import METRICS, Record
from harness.records.fronts import dominates
from harness.study.search.objectives import Objectives, gains

Curve = Sequence[Mapping[str, float]]
LEARNT = frozenset(METRICS["accuracy"])  # metrics that training changes
CEILING = 1.0  # of what is learnt


class Verdict(NamedTuple):
    """Why a trial cannot win."""

    winner: Record  # the finished trial that dominates it
    outcome: dict[str, float]  # the best that it could have reached


def surely_dominated(
    known: Mapping[str, float], finished: Sequence[Record], objectives: Objectives
) -> Verdict | None:
    """Say which finished trial beats a trial whose objectives are all known without training.

    Args:
        known: metrics of the trial; a figure that is a bound is one towards the better side.
        finished: trials that are done and feasible.
        objectives: of the search.

    Returns:
        None where no trial does, or where an objective is learnt or not known.
    """
    if not LEARNT.isdisjoint(objectives):
        return None
    return _beaten(dict(known), finished, objectives)


def hopeless(
    known: Mapping[str, float],
    curve: Curve,
    finished: Sequence[Record],
    objectives: Objectives,
    *,
    margin: float,
    fewest: int,
) -> Verdict | None:
    """Say which finished trial beats even the optimistic outcome of a trial under way.

    What is learnt may still rise by the largest gain that any finished trial had from the same
    epoch on, and by a margin. What is not learnt stays as it is known.

    Args:
        known: metrics of the trial; a figure that is a bound is one towards the better side.
        curve: its validations so far: epoch, mAP, ...
        finished: trials that are done and feasible.
        objectives: of the search.
        margin: in units of the metric.
        fewest: finished trials before any is stopped.

    Returns:
        None where no trial does, or where too little is known.
    """
    if not curve:
        return None
    epoch, outcome = curve[-1]["epoch"], dict(known)
    for name in LEARNT.intersection(objectives):
        if objectives[name] == "minimize":
            return None
        reached = [row[name] for row in curve if name in row]
        rises = _rises(finished, name, epoch)
        if not reached or len(rises) < fewest:
            return None
        outcome[name] = min(max(reached) + max(*rises, 0.0) + margin, CEILING)
    return _beaten(outcome, finished, objectives)


def _rises(finished: Sequence[Record], name: str, epoch: float) -> list[float]:
    """Return by how much each trial's final value is above its best until an epoch."""
    found = []
    for record in finished:
        before = [row[name] for row in record.curves if name in row and row["epoch"] <= epoch]
        if before and name in record.metrics and record.curves[-1]["epoch"] >= epoch:
            found.append(record.metrics[name] - max(before))
    return found


def _beaten(
    outcome: dict[str, float], finished: Sequence[Record], objectives: Objectives
) -> Verdict | None:
    candidate = gains(outcome, objectives)
    if candidate is None:
        return None
    for record in finished:
        other = gains(_pessimistic(record), objectives)
        if other is not None and dominates(other, candidate):
            return Verdict(record, {name: outcome[name] for name in objectives})
    return None


def _pessimistic(record: Record) -> dict[str, float]:
    """Return metrics with the high end of the latency's interval, so that noise beats nobody."""
    metrics = dict(record.metrics)
    if "latency_high_ms" in metrics:
        metrics["latency_ms"] = metrics["latency_high_ms"]
    return metrics
