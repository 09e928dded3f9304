"""Constraints on metrics, such as `params: "<= 6e6"`: read, checked, and held against figures."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Literal, NamedTuple, cast

from harness.config.offers import offer
from harness.records import METRICS, Record

NAMES = (
    *(name for group in METRICS.values() for name in group),
    *("memory_bytes", "energy_j", "preprocess_ms", "busy_ms"),
)
"""Metrics that can be constrained."""
FREE = METRICS["complexity"]
"""Metrics that cost nothing to know."""
_FORM = re.compile(r"\s*(<=|>=)\s*(\S+)\s*")
_REASON = re.compile(r"\w+ is \S+, and has to be .+")


class ConstraintError(ValueError):
    """A constraint that cannot be read."""


class Constraint(NamedTuple):
    """A limit on a metric."""

    metric: str
    sense: Literal["<=", ">="]
    limit: float

    def broken_by(self, value: float) -> bool:
        """Say whether a value is beyond the limit; one that is no number is."""
        return not (value <= self.limit if self.sense == "<=" else value >= self.limit)

    def excess(self, value: float) -> float:
        """Return how far a value is beyond the limit, in the metric's unit; at most 0 within."""
        beyond = value - self.limit if self.sense == "<=" else self.limit - value
        return math.inf if math.isnan(beyond) else beyond


def parse(metric: str, text: object) -> Constraint:
    """Read one constraint.

    Args:
        metric: its name, as in a record.
        text: such as `<= 6e6` or `>= 0.3`.

    Raises:
        ConstraintError: no such metric, or a text of another form.
    """
    if metric not in NAMES:
        raise ConstraintError(f"constraints.{metric}: no such metric{offer(metric, NAMES)}")
    found = _FORM.fullmatch(text) if isinstance(text, str) else None
    try:
        limit = float(found[2]) if found else math.nan
    except ValueError:
        limit = math.nan
    if found is None or not math.isfinite(limit):
        raise ConstraintError(
            f'constraints.{metric}: expected a limit such as "<= 6e6" or ">= 0.3", got {text!r}'
        )
    return Constraint(metric, cast(Literal["<=", ">="], found[1]), limit)


def infeasible(metrics: Mapping[str, float], constraints: Mapping[str, str]) -> str | None:
    """Say which constraint is broken for certain; a metric that is not known breaks none.

    Args:
        metrics: what is known; a figure that is a bound must be one towards the constraint's good
            side, as the `latency_ms` of an untrained variant is for an upper limit.
        constraints: metric to limit, as a study has them.

    Returns:
        The reason, for a reader; None where nothing is broken.

    Raises:
        ConstraintError: as `parse` does.
    """
    for metric, text in constraints.items():
        constraint = parse(metric, text)
        if metric in metrics and constraint.broken_by(metrics[metric]):
            return f"{metric} is {metrics[metric]:.4g}, and has to be {text.strip()}"
    return None


def is_lifted(result: Record, constraints: Mapping[str, str]) -> bool:
    """Say whether a trial was given up for a constraint that does not rule it out any more."""
    given_up = result.stopped is not None and _REASON.fullmatch(result.stopped) is not None
    return given_up and infeasible(result.metrics, constraints) is None


def needs_latency(metrics: Mapping[str, object]) -> bool:
    """Say whether one of the named metrics is about time, memory or energy of a network."""
    return any(name in NAMES and name not in (*FREE, *METRICS["accuracy"]) for name in metrics)
