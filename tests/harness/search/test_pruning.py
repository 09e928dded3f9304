from typing import Any

import pytest

from harness.record import Record
from harness.search.pruning import hopeless, surely_dominated
from tests.harness.search.spaces import record

COSTS = {"params": "minimize", "latency_ms": "minimize"}
BOTH = {"mAP": "maximize", "latency_ms": "minimize"}
FINISHED = [
    record("a", curve=(0.1, 0.3, 0.4), mAP=0.4, latency_ms=10.0),
    record("b", curve=(0.2, 0.3, 0.35), mAP=0.35, latency_ms=8.0),
]
SLOW = {"latency_ms": 12.0}


def verdict(
    at: tuple[float, ...], latency_ms: float, margin: float = 0.0, fewest: int = 2
) -> str | None:
    curve = [{"epoch": float(epoch), "mAP": value} for epoch, value in enumerate(at, 1)]
    known = {"latency_ms": latency_ms, "mAP": at[-1]}
    found = hopeless(known, curve, FINISHED, BOTH, margin=margin, fewest=fewest)
    return found.winner.trial if found else None


def test_a_trial_is_granted_the_largest_gain_that_any_finished_one_had() -> None:
    # From epoch 1 on, a gained 0.30 and b 0.15: 0.09 + 0.30 stays below a's 0.40, 0.11 does not.
    assert verdict((0.09,), 12.0) == "a"
    assert verdict((0.11,), 12.0) is None
    # From epoch 2 on the largest gain is 0.10.
    assert verdict((0.05, 0.29), 12.0) == "a"
    assert verdict((0.05, 0.31), 12.0) is None


def test_the_best_so_far_counts_not_the_latest() -> None:
    assert verdict((0.31, 0.05), 12.0) is None


def test_a_trial_that_is_cheaper_than_all_is_never_stopped() -> None:
    assert verdict((0.0, 0.0), 7.9) is None


def test_who_beats_it_must_be_no_worse_in_all_objectives() -> None:
    assert verdict((0.0, 0.2), 9.0) == "b"  # a is better, but slower
    assert verdict((0.0, 0.26), 9.0) is None  # 0.36 is above b's 0.35


def test_the_margin_and_the_number_of_finished_trials_hold_the_rule_back() -> None:
    assert verdict((0.09,), 12.0, margin=0.02) is None
    assert verdict((0.09,), 12.0, fewest=3) is None


def test_trials_that_did_not_reach_the_epoch_say_nothing_about_it() -> None:
    assert verdict((0.0, 0.0, 0.0, 0.0), 12.0, fewest=1) is None


def test_an_outcome_cannot_exceed_one() -> None:
    perfect = [record("p", curve=(0.0, 1.0), mAP=1.0, latency_ms=5.0)]
    curve = [{"epoch": 1.0, "mAP": 0.5}]
    found = hopeless({"latency_ms": 6.0}, curve, perfect, BOTH, margin=0.1, fewest=1)
    assert found is not None
    assert found.outcome == {"mAP": 1.0, "latency_ms": 6.0}


def test_a_latency_within_the_other_ones_interval_is_not_beaten() -> None:
    noisy = [record("n", curve=(0.5, 0.5), mAP=0.5, latency_ms=10.0, latency_high_ms=11.0)]
    curve = [{"epoch": 1.0, "mAP": 0.1}]
    for latency_ms, stopped in ((10.5, False), (11.5, True)):
        known = {"latency_ms": latency_ms}
        found = hopeless(known, curve, noisy, BOTH, margin=0.0, fewest=1)
        assert (found is not None) == stopped


def test_one_objective_is_pruned_by_the_same_rule() -> None:
    curve = [{"epoch": 2.0, "mAP": 0.1}]
    one = {"mAP": "maximize"}
    assert hopeless({}, curve, FINISHED, one, margin=0.0, fewest=2) is not None
    assert hopeless({}, curve, FINISHED, {"mAP": "minimize"}, margin=0.0, fewest=2) is None


@pytest.mark.parametrize(
    ("known", "beaten"),
    [
        ({"params": 11.0, "latency_ms": 5.0}, True),
        ({"params": 9.0, "latency_ms": 50.0}, False),
        ({"params": 10.0, "latency_ms": 4.0}, False),  # the same is no worse
        ({"params": 11.0}, False),  # latency is not known
    ],
)
def test_what_is_known_without_training_is_compared_without_training(
    known: dict[str, float], beaten: bool
) -> None:
    finished = [record("a", params=10.0, latency_ms=4.0)]
    assert (surely_dominated(known, finished, COSTS) is not None) == beaten


def test_nothing_is_sure_while_an_objective_is_learnt() -> None:
    assert surely_dominated({"latency_ms": 99.0, "mAP": 0.0}, FINISHED, BOTH) is None


def found_by(finished: list[Record], at: float, epoch: float = 1.0, **known: float) -> Any:
    curve = [{"epoch": epoch, "mAP": at}]
    return hopeless({"latency_ms": 12.0, **known}, curve, finished, BOTH, margin=0.0, fewest=1)


def test_a_finished_trial_that_lost_what_it_had_takes_nothing_from_others() -> None:
    fallen = [record("f", curve=(0.6, 0.4), mAP=0.3, latency_ms=10.0)]
    assert found_by(fallen, 0.31) is None
    assert found_by(fallen, 0.29).outcome == {"mAP": 0.29, "latency_ms": 12.0}


def test_the_gain_is_counted_from_the_best_that_a_trial_had_until_the_epoch() -> None:
    risen = [record("r", curve=(0.5, 0.2, 0.6), mAP=0.7, latency_ms=10.0)]
    assert found_by(risen, 0.1, epoch=2.0).outcome["mAP"] == pytest.approx(0.1 + (0.7 - 0.5))
    assert found_by(risen, 0.1, epoch=3.0).outcome["mAP"] == pytest.approx(0.1 + (0.7 - 0.6))
    assert found_by(risen, 0.1, epoch=4.0) is None


def test_finished_trials_whose_accuracy_is_unknown_are_passed_over() -> None:
    silent = record("s", curve=(0.1, 0.2), latency_ms=1.0)
    later = record("l", mAP=0.9, latency_ms=1.0)
    later.curves = [{"epoch": 2.0, "mAP": 0.9}]  # it had none until the first epoch
    best = record("b", curve=(0.1, 0.3), mAP=0.3, latency_ms=10.0)
    assert found_by([silent, best], 0.05).winner is best
    assert found_by([later, best], 0.05).outcome["mAP"] == pytest.approx(0.25)
    assert found_by([silent, later], 0.05) is None


def test_a_trial_without_a_validation_or_the_metric_in_it_goes_on() -> None:
    assert hopeless(SLOW, [], FINISHED, BOTH, margin=0.0, fewest=1) is None
    assert hopeless(SLOW, [{"epoch": 1.0}], FINISHED, BOTH, margin=0.0, fewest=1) is None


def test_epochs_without_a_validation_are_passed_over() -> None:
    curve = [{"epoch": 1.0, "mAP": 0.05}, {"epoch": 2.0, "loss": 1.0}]
    found = hopeless(SLOW, curve, FINISHED, BOTH, margin=0.0, fewest=2)
    assert found is not None
    assert found.outcome["mAP"] == pytest.approx(0.05 + (0.4 - 0.3))


def test_the_margin_is_added_to_the_gain() -> None:
    found = hopeless(SLOW, [{"epoch": 1.0, "mAP": 0.05}], FINISHED, BOTH, margin=0.02, fewest=2)
    assert found is not None
    assert found.outcome["mAP"] == pytest.approx(0.05 + 0.3 + 0.02)
