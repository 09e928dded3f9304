"""Objectives: what a search makes of records, and what it tells its sampler."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, NamedTuple

from harness.config.search import Direction
from harness.records import Record, latencies
from harness.study import constraints

Objectives = Mapping[str, Direction]


class Told(NamedTuple):
    """What is told to Optuna of one trial."""

    state: Literal["complete", "pruned", "failed"]
    values: list[float] | None  # one an objective; None unless complete
    excess: dict[str, float]  # constraint: how far beyond it, as a share of the limit; <= 0 within


def values(metrics: Mapping[str, float], objectives: Objectives) -> list[float] | None:
    """Return the objectives' values in the study's order; None when one was not measured."""
    if not objectives.keys() <= metrics.keys():
        return None
    return [metrics[name] for name in objectives]


def gains(metrics: Mapping[str, float], objectives: Objectives) -> list[float] | None:
    """Return the objectives' values turned so that more is better; None when one is missing."""
    found = values(metrics, objectives)
    if found is None:
        return None
    signs = [1.0 if direction == "maximize" else -1.0 for direction in objectives.values()]
    return [sign * value for sign, value in zip(signs, found, strict=True)]


def excess(metrics: Mapping[str, float], limits: Mapping[str, str]) -> dict[str, float]:
    """Return how far metrics are beyond their constraints, as shares of the limits.

    Args:
        metrics: what is known; one that is not is left out.
        limits: metric to limit, such as `<= 6e6`.
    """
    parsed = [constraints.parse(metric, text) for metric, text in limits.items()]
    return {
        limit.metric: limit.excess(metrics[limit.metric]) / (abs(limit.limit) or 1.0)
        for limit in parsed
        if limit.metric in metrics
    }


def told(
    record: Record,
    objectives: Objectives,
    limits: Mapping[str, str],
    others: Iterable[Record],
    *,
    imputed: bool,
) -> Told:
    """Decide what a sampler hears of a trial.

    A trial that was ruled out or stopped lacks objectives. Samplers that learn from complete trials
    only would never hear of it; for them what is missing takes the worst value that was seen.
    A rough latency guides a sampler, which needs a value, but breaks no constraint.

    Args:
        record: of the trial; another study's, if the configuration was run before.
        objectives: of the search.
        limits: its constraints.
        others: records so far.
        imputed: whether the sampler hears of complete trials only.
    """
    beyond = excess(latencies.firm(record), limits)
    found = values(record.metrics, objectives)
    if record.state == "done" and found is not None:
        return Told("complete", found, beyond)
    if record.state != "pruned":
        return Told("failed", None, {})
    if not imputed:
        return Told("pruned", None, beyond)
    worst = _worst(list(others), objectives)
    known = [record.metrics.get(name, worst.get(name)) for name in objectives]
    complete = [value for value in known if value is not None]
    if len(complete) < len(known):
        return Told("pruned", None, beyond)
    return Told("complete", complete, beyond)


def _worst(records: Sequence[Record], objectives: Objectives) -> dict[str, float]:
    """Return the worst value of each objective among finished trials, where there is one."""
    worst = {}
    for name, direction in objectives.items():
        seen = [r.metrics[name] for r in records if r.state == "done" and name in r.metrics]
        if seen:
            worst[name] = min(seen) if direction == "maximize" else max(seen)
    return worst
