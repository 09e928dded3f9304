"""Constraints on metrics."""

import math

import pytest

from harness.study.constraints import Constraint, ConstraintError, infeasible, needs_latency, parse


def test_a_constraint_is_a_sense_and_a_limit() -> None:
    assert parse("params", "<= 6e6") == Constraint("params", "<=", 6e6)
    assert parse("mAP", ">=0.3") == Constraint("mAP", ">=", 0.3)


@pytest.mark.parametrize(
    ("metric", "text", "told"),
    [
        ("param", "<= 6e6", "did you mean params?"),
        ("params", "6e6", 'expected a limit such as "<= 6e6"'),
        ("params", "< 6e6", "got '< 6e6'"),
        ("params", "<= many", "got '<= many'"),
        ("params", "<= nan", "got '<= nan'"),
        ("params", 6_000_000, "got 6000000"),
    ],
)
def test_what_cannot_be_read_is_refused(metric: str, text: object, told: str) -> None:
    with pytest.raises(ConstraintError, match=f"constraints.{metric}") as refused:
        parse(metric, text)
    assert told in str(refused.value)


def test_only_what_is_known_breaks_a_constraint() -> None:
    constraints = {"params": "<= 6e6", "mAP": ">= 0.3"}
    assert infeasible({}, constraints) is None
    assert infeasible({"params": 6e6, "mAP": 0.3}, constraints) is None
    assert infeasible({"params": 7.25e6}, constraints) == "params is 7.25e+06, and has to be <= 6e6"
    assert infeasible({"mAP": 0.29}, constraints) == "mAP is 0.29, and has to be >= 0.3"
    assert infeasible({"mAP": math.nan}, constraints)


def test_the_excess_is_the_distance_to_the_limit() -> None:
    assert parse("params", "<= 10").excess(12) == 2
    assert parse("mAP", ">= 0.5").excess(0.75) == -0.25
    assert parse("mAP", ">= 0.5").excess(math.nan) == math.inf


def test_time_has_to_be_measured_and_counts_have_not() -> None:
    assert needs_latency({"mAP": "maximize", "latency_ms": "minimize"})
    assert not needs_latency({"mAP": "maximize", "params": "<= 6e6"})
