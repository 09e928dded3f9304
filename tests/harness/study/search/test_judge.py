from pathlib import Path
from typing import Any

import optuna
import pytest

from harness.records.latencies import ROUGH
from harness.study import load
from harness.study.search.judge import Judge, needs_latency
from tests.harness.studies import write
from tests.harness.study.search.spaces import record, searching

CURVE = [{"epoch": 1.0, "mAP": 0.1}]


def test_a_constraint_rules_a_variant_out_before_training(tmp_path: Path) -> None:
    judge = Judge(load(write(tmp_path, constraints={"params": "<= 2000"})), [])
    assert judge("cheap", {"params": 3000.0}, []) == "params is 3000, and has to be <= 2000"
    assert judge("cheap", {"params": 2000.0}, []) is None
    assert judge("cheap", {"macs": 1.0}, []) is None


def test_accuracy_is_no_reason_before_training(tmp_path: Path) -> None:
    judge = Judge(load(write(tmp_path, constraints={"mAP": ">= 0.3"})), [])
    assert judge("cheap", {"params": 1.0, "mAP": 0.0}, []) is None
    assert judge("epoch", {"mAP": 0.0}, CURVE) is None


def test_what_is_surely_dominated_is_not_trained(tmp_path: Path) -> None:
    objectives = {"params": "minimize", "macs": "minimize"}
    study = searching(tmp_path, objectives=objectives, constraints=None)
    judge = Judge(study, [record("best", params=10.0, macs=20.0)])
    reason = judge("cheap", {"params": 11.0, "macs": 20.0}, [])
    assert reason == "dominated: params 11, macs 20 by trial best with params 10, macs 20"
    assert judge("cheap", {"params": 9.0, "macs": 99.0}, []) is None


def test_a_hopeless_trial_is_stopped_only_where_the_study_says_so(tmp_path: Path) -> None:
    rule = {"type": "dominated", "finished": 1, "margin": 0.0}
    finished = [record("best", curve=(0.5, 0.6), mAP=0.6, latency_ms=5.0)]
    known = {"latency_ms": 9.0, "mAP": 0.1, "params": 10.0}
    assert Judge(searching(tmp_path), finished)("epoch", known, CURVE) is None
    reason = Judge(searching(tmp_path, pruner=rule), finished)("epoch", known, CURVE)
    assert reason is not None
    assert reason.startswith("its optimistic outcome is dominated: mAP 0.2, latency_ms 9 by trial")


def test_a_trial_beyond_the_constraints_beats_nobody(tmp_path: Path) -> None:
    rule = {"type": "dominated", "finished": 1, "margin": 0.0}
    beyond = record("big", curve=(0.5, 0.6), mAP=0.6, latency_ms=5.0, params=9999.0)
    judge = Judge(searching(tmp_path, pruner=rule), [beyond])
    assert judge("epoch", {"latency_ms": 9.0, "mAP": 0.1}, CURVE) is None


def test_a_trial_whose_latency_is_rough_beats_nobody_by_it(tmp_path: Path) -> None:
    rule = {"type": "dominated", "finished": 1, "margin": 0.0}
    known, unsure = {"latency_ms": 9.0, "mAP": 0.1}, {"latency_ms": f"{ROUGH}disturbed"}
    best = record("best", curve=(0.5, 0.6), mAP=0.6, latency_ms=5.0)
    rough = best.model_copy(update={"caveats": unsure})
    study = searching(tmp_path, pruner=rule)
    assert Judge(study, [best])("epoch", known, CURVE) is not None
    assert Judge(study, [rough])("epoch", known, CURVE) is None
    limited = {"objectives": {"mAP": "maximize", "params": "minimize"}, "pruner": rule}
    within = searching(tmp_path, constraints={"latency_ms": "<= 30"}, **limited)
    best, rough = (
        item.model_copy(update={"metrics": {**item.metrics, "params": 1.0}})
        for item in (best, rough)
    )
    known["params"] = 2.0
    assert Judge(within, [best])("epoch", known, CURVE) is not None
    assert Judge(within, [rough])("epoch", known, CURVE) is None  # it may be beyond the limit


def test_records_that_come_in_meanwhile_count(tmp_path: Path) -> None:
    records: list[Any] = []
    rule = {"type": "dominated", "finished": 1, "margin": 0.0}
    judge = Judge(searching(tmp_path, pruner=rule), records)
    known = {"latency_ms": 9.0, "mAP": 0.1}
    assert judge("epoch", known, CURVE) is None
    records.append(record("best", curve=(0.5, 0.6), mAP=0.6, latency_ms=5.0))
    assert judge("epoch", known, CURVE) is not None


@pytest.mark.parametrize("pruner", ["median", "hyperband", "halving"])
def test_with_one_objective_optunas_pruners_decide(tmp_path: Path, pruner: str) -> None:
    from harness.study.search import plan

    options = {"n_startup_trials": 1} if pruner == "median" else {"min_resource": 1}
    study = searching(tmp_path, objectives={"mAP": "maximize"}, pruner={"type": pruner, **options})
    asked = optuna.create_study(
        directions=list(study.search.objectives.values()),
        pruner=plan.pruner(study),
        study_name="one",
    )
    reasons = []
    for best in (0.9, 0.8, 0.7, 0.6, 0.05, 0.04, 0.03):
        trial = asked.ask()
        judge = Judge(study, [], trial)
        curve: list[dict[str, float]] = []
        for epoch in (1, 2):
            curve.append({"epoch": float(epoch), "mAP": best * epoch / 2})
            reasons.append(judge("epoch", {"mAP": best * epoch / 2}, curve))
        asked.tell(trial, best)
    assert any(reason and f"{pruner} pruner: mAP is" in reason for reason in reasons)
    assert reasons[0] is None


class Asked:
    """A trial of Optuna's that is always to stop, and remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[float, int]] = []

    def report(self, value: float, epoch: int) -> None:
        self.told.append((value, epoch))

    def should_prune(self) -> bool:
        return True


MEDIAN = {"type": "median"}
BOTH = {"mAP": "maximize", "latency_ms": "minimize"}
ACCURACY = {"mAP": "maximize"}


@pytest.mark.parametrize(
    ("objectives", "pruner", "metrics", "curve", "told"),
    [
        (ACCURACY, MEDIAN, {"mAP": 0.25}, [*CURVE, {"epoch": 2.0}], [(0.25, 2)]),
        (ACCURACY, MEDIAN, {"mAP": 0.25}, [], []),  # it was not validated yet
        (ACCURACY, MEDIAN, {"params": 9.0}, CURVE, []),  # the objective is not known
        (ACCURACY, None, {"mAP": 0.25}, CURVE, []),
        (ACCURACY, {"type": "dominated"}, {"mAP": 0.25}, CURVE, []),
        (BOTH, None, {"mAP": 0.25, "latency_ms": 9.0}, CURVE, []),
    ],
)
def test_optunas_pruner_is_asked_about_one_known_objective(
    tmp_path: Path, objectives: Any, pruner: Any, metrics: Any, curve: Any, told: Any
) -> None:
    trial: Any = Asked()
    judge = Judge(searching(tmp_path, objectives=objectives, pruner=pruner), [], trial)
    reason = judge("epoch", metrics, curve)
    assert trial.told == told
    assert reason == ("median pruner: mAP is 0.25 at epoch 2" if told else None)


def test_without_a_trial_or_a_search_there_is_no_pruner_to_ask(tmp_path: Path) -> None:
    study = searching(tmp_path, objectives=ACCURACY, pruner=MEDIAN)
    assert Judge(study, [])("epoch", {"mAP": 0.25}, CURVE) is None
    trial: Any = Asked()
    assert Judge(load(write(tmp_path)), [], trial)("epoch", {"mAP": 0.25}, CURVE) is None
    assert trial.told == []


def test_only_what_is_done_and_within_the_constraints_beats_a_variant(tmp_path: Path) -> None:
    costs = {"params": "minimize", "macs": "minimize"}
    study = searching(tmp_path, objectives=costs, constraints={"params": "<= 15"})
    better = {"params": 10.0, "macs": 20.0}
    for records, beaten in (
        ([record("failed", state="failed", **better)], False),
        ([record("beyond", params=15.5, macs=1.0), record("best", **better)], True),
    ):
        reason = Judge(study, records)("cheap", {"params": 11.0, "macs": 21.0}, [])
        assert (reason is not None and "by trial best" in reason) is beaten


@pytest.mark.parametrize(
    ("changes", "needed"),
    [
        ({"objectives": BOTH}, False),  # what is learnt decides after training
        ({"objectives": BOTH, "pruner": {"type": "dominated"}}, True),
        ({"objectives": ACCURACY, "pruner": {"type": "dominated"}}, False),
        ({"objectives": ACCURACY, "pruner": MEDIAN}, False),
        ({"objectives": {"params": "minimize", "latency_ms": "minimize"}}, True),
        ({"objectives": {"params": "minimize", "macs": "minimize"}}, False),
        ({"objectives": ACCURACY, "constraints": {"latency_ms": "<= 9"}}, True),
    ],
)
def test_latency_is_measured_before_training_where_it_can_decide(
    tmp_path: Path, changes: Any, needed: bool
) -> None:
    assert needs_latency(searching(tmp_path, **changes)) is needed


def test_a_sweep_needs_latency_before_training_for_its_constraints_only(tmp_path: Path) -> None:
    assert not needs_latency(load(write(tmp_path)))
    assert needs_latency(load(write(tmp_path, constraints={"latency_ms": "<= 9"})))
