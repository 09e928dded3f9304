from __future__ import annotations

import math

import pytest

from harness.analysis.answer import contest
from tests.harness.analysis.answer.made import study


def test_two_trainings_are_compared_by_the_ratio_of_their_turns() -> None:
    records = study(["width"], {(2,): (None, 12.0), (1,): (None, 10.0)}, seeds=1, scatter=(0, 0))
    found = contest.in_turns(records)
    assert found is not None
    (other,) = found.others
    assert (found.best, found.value, other.label) == ("width 1", 10.0, "width 2")
    ratio = 10 / 12  # of the second to the first, 0.01 more or less
    ends = [100 * (1 / each - 1) for each in (ratio, ratio + 0.01, ratio - 0.01)]
    assert [other.difference, other.low, other.high] == pytest.approx(ends)


def test_the_intervals_of_three_hold_together() -> None:
    truth = {(n,): (None, 10.0 + n) for n in range(3)}
    found = contest.in_turns(study(["width"], truth, seeds=1, scatter=(0, 0)))
    assert found is not None
    wider = 2.39398 / 1.95996  # of the normal distribution, a third of 5 % for each, both sides
    low = math.log(1.1) - wider * (math.log(1.1) - math.log(1.09))
    assert found.others[0].low == pytest.approx(100 * (math.exp(low) - 1), rel=1e-4)


def test_what_was_timed_apart_is_not_compared() -> None:
    records = study(["width"], {(1,): (None, 10.0), (2,): (None, 12.0)}, seeds=1)
    elsewhere = records[1].model_copy(update={"environment": {"host": "other"}})
    assert contest.in_turns([records[0], elsewhere]) is None
    apart = records[1].model_copy(update={"details": {}})
    assert contest.in_turns([records[0], apart]) is None


def test_variants_are_named_by_the_knob_that_tells_them_apart() -> None:
    both = ["width", "depth"]
    records = study(both, {(1, 8): (40.0, None), (1, 9): (40.0, None)}, seeds=1)
    assert contest.names(records) == ["depth 8", "depth 9"]
    every = study(both, {(a, b): (40.0, None) for a in (0, 1) for b in (2, 3)}, seeds=1)
    assert contest.names(every)[1] == "0 / 3"
    assert contest.named_by(every) == "width / depth"
    assert contest.named_by(records) == ""
