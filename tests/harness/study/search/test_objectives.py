import pytest

from harness.records.fronts import dominates
from harness.records.latencies import ROUGH
from harness.study.search.objectives import Told, excess, gains, told, values
from tests.harness.study.search.spaces import record

BOTH = {"mAP": "maximize", "latency_ms": "minimize"}
LIMITS = {"params": "<= 100", "mAP": ">= 0.5"}


def test_values_are_in_the_studys_order() -> None:
    assert values({"latency_ms": 9.0, "mAP": 0.5}, BOTH) == [0.5, 9.0]
    assert values({"mAP": 0.5}, BOTH) is None


def test_excess_is_a_share_of_the_limit_and_what_is_unknown_is_left_out() -> None:
    assert excess({"params": 150.0, "mAP": 0.4}, LIMITS) == pytest.approx(
        {"params": 0.5, "mAP": 0.2}
    )
    assert excess({"params": 50.0}, LIMITS) == {"params": -0.5}


def test_a_finished_trial_is_told_with_its_values_and_constraints() -> None:
    done = record(mAP=0.6, latency_ms=9.0, params=150.0)
    assert told(done, BOTH, {"params": "<= 100"}, [], imputed=False) == Told(
        "complete", [0.6, 9.0], {"params": 0.5}
    )


def test_a_failed_trial_is_told_as_failed() -> None:
    assert (
        told(record(state="failed", params=1.0), BOTH, LIMITS, [], imputed=True).state == "failed"
    )
    assert told(record(mAP=0.6), BOTH, LIMITS, [], imputed=True).state == "failed"


def test_a_pruned_trial_is_told_as_such_or_with_the_worst_that_was_seen() -> None:
    pruned = record(state="pruned", params=150.0, latency_ms=7.0)
    others = [record(mAP=0.6, latency_ms=9.0), record(mAP=0.4, latency_ms=12.0), pruned]
    limits = {"params": "<= 100"}
    assert told(pruned, BOTH, limits, others, imputed=False) == Told(
        "pruned", None, {"params": 0.5}
    )
    assert told(pruned, BOTH, limits, others, imputed=True) == Told(
        "complete", [0.4, 7.0], {"params": 0.5}
    )
    assert told(pruned, BOTH, limits, [pruned], imputed=True).state == "pruned"


@pytest.mark.parametrize(
    ("better", "worse", "dominated"),
    [
        ([2.0, 3.0], [1.0, 3.0], True),
        ([2.0, 3.0], [2.0, 2.0], True),
        ([2.0, 3.0], [1.0, 2.0], True),
        ([2.0, 3.0], [2.0, 3.0], False),  # no better in any
        ([2.0, 3.0], [1.0, 4.0], False),
        ([2.0, 3.0], [3.0, 1.0], False),
        ([2.0], [1.0], True),
        ([1.0], [2.0], False),
    ],
)
def test_dominance(better: list[float], worse: list[float], dominated: bool) -> None:
    assert dominates(better, worse) is dominated


def test_gains_are_the_more_the_better_in_the_studys_order() -> None:
    assert gains({"latency_ms": 9.0, "mAP": 0.5}, BOTH) == [0.5, -9.0]
    assert gains({"latency_ms": 9.0}, BOTH) is None


def test_the_share_of_a_limit_of_nothing_is_the_excess_itself() -> None:
    assert excess({"params": 3.0}, {"params": "<= 0"}) == {"params": 3.0}
    assert excess({"mAP": -0.5}, {"mAP": ">= -0.25"}) == {"mAP": 1.0}


def test_the_worst_is_that_of_finished_trials_towards_the_worse_side() -> None:
    others = [
        record(mAP=0.6, latency_ms=9.0),
        record(mAP=0.4, latency_ms=12.0),
        record(mAP=0.5),
        record(state="failed", mAP=0.1, latency_ms=99.0),
    ]
    heard = told(record(state="pruned"), BOTH, {}, others, imputed=True)
    assert heard == Told("complete", [0.4, 12.0], {})
    heard = told(record(state="pruned", mAP=0.7), BOTH, {}, others[2:], imputed=True)
    assert heard == Told("pruned", None, {})


def test_a_rough_latency_is_told_as_a_value_and_breaks_no_constraint() -> None:
    done = record(mAP=0.6, latency_ms=125.6)
    rough = done.model_copy(update={"caveats": {"latency_ms": f"{ROUGH}disturbed"}})
    limits = {"latency_ms": "<= 50", "mAP": ">= 0.5"}
    heard = [told(item, BOTH, limits, [], imputed=False) for item in (done, rough)]
    assert [item.values for item in heard] == [[0.6, 125.6]] * 2
    assert [item.excess.keys() for item in heard] == [limits.keys(), {"mAP"}]
