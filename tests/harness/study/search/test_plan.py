"""The whole conversation of a driver with Optuna, on a surrogate that takes no time."""

from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import optuna
import pytest

from harness.records import Record
from harness.study import Specs, Study, expand, load
from harness.study.search import plan
from harness.study.search.judge import Judge
from reports import search as fronts
from tests.harness.studies import write
from tests.harness.study.search.spaces import searching

SPACE: dict[str, Any] = {
    "detector.width": {"low": 4, "high": 64},
    "recipe.lr": {"low": 1e-4, "high": 1e-1, "log": True},
    "recipe.weight_decay": {"low": 0.0, "high": 0.2},
    "detector.assigner.type": ["Nearest", "Inside"],
    "detector.assigner.topk": {"low": 1, "high": 12, "when": {"detector.assigner.type": "Nearest"}},
    "detector.assigner.shrink": {
        "low": 0.1,
        "high": 1.0,
        "when": {"detector.assigner.type": "Inside"},
    },
}
GOAL = fronts.Goal({"mAP": "maximize", "latency_ms": "minimize"}, {"mAP": 0.0, "latency_ms": 20.0})
SAMPLERS = ["tpe", "nsga2", "gp", "random", "qmc"]


def outcome(overrides: dict[str, Any]) -> dict[str, float]:
    """Make up what a variant would reach: wide is good and slow, learning rates have a best one."""
    width = overrides["detector.width"]
    rate = np.exp(-(np.log10(overrides["recipe.lr"] / 3e-3) ** 2) / 0.3)
    decay = np.exp(-(((overrides["recipe.weight_decay"] - 0.05) / 0.08) ** 2))
    if overrides["detector.assigner.type"] == "Nearest":
        match = 0.7 * np.exp(-(((overrides["detector.assigner.topk"] - 4) / 4) ** 2))
    else:
        match = np.exp(-(((overrides["detector.assigner.shrink"] - 0.5) / 0.25) ** 2))
    reached = width / (width + 16) * rate * decay * match
    return {"mAP": float(reached), "latency_ms": 4 + width / 4, "params": 60.0 * width}


def surrogate(overrides: dict[str, Any], reason: str | None, number: int) -> Record:
    metrics = outcome(overrides)
    if reason is not None:
        del metrics["mAP"]
    return Record(
        study="toy",
        trial=str(number),
        name=str(number),
        detector="toy",
        seed=0,
        overrides=overrides,
        config={},
        state="pruned" if reason else "done",
        metrics=metrics,
        timings={"finished": float(number)},
    )


def drive(study: Study, trials: int) -> tuple[list[Record], optuna.Study]:
    """Do what a driver does, one trial after the other."""
    records: list[Record] = []
    optuna_study = optuna.create_study(
        directions=list(study.search.objectives.values()),
        sampler=plan.sampler(study),
        pruner=plan.pruner(study),
    )
    for number in range(trials):
        trial = optuna_study.ask()
        run = plan.ask(study, trial)
        known = {k: v for k, v in outcome(run.overrides).items() if k != "mAP"}
        reason = Judge(study, records, trial)("cheap", known, [])
        record = surrogate(run.overrides, reason, number)
        plan.tell(study, optuna_study, trial, record, records)
        records.append(record)
    return records, optuna_study


def volume(records: list[Record]) -> float:
    found = fronts.growth(records, GOAL)
    return found.volumes[-1] if found else 0.0


@pytest.fixture(autouse=True)
def _quiet() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_sampler_searches_and_no_infeasible_variant_is_trained(
    tmp_path: Path, sampler: str
) -> None:
    study = searching(tmp_path, space=SPACE, sampler=sampler)
    records, optuna_study = drive(study, 12)
    infeasible = [record for record in records if record.metrics["params"] > 2000]
    assert infeasible
    assert all(record.state == "pruned" for record in infeasible)
    assert all("mAP" not in record.metrics for record in infeasible)
    assert all(record.state == "done" for record in records if record not in infeasible)
    best = {trial.number for trial in optuna_study.best_trials}
    assert best == {int(record.trial) for record in fronts.front(records, GOAL)}
    assert best.isdisjoint({int(record.trial) for record in infeasible})


@pytest.mark.parametrize(
    ("sampler", "trials"), [("tpe", 60), pytest.param("nsga2", 240, marks=pytest.mark.slow)]
)
def test_samplers_beat_random_search_with_the_same_budget(
    tmp_path: Path, sampler: str, trials: int
) -> None:
    def reached(name: str, seed: int) -> float:
        sets = [f"search.sampler={name}", f"search.seed={seed}"]
        return volume(drive(searching(tmp_path, space=SPACE, sets=sets), trials)[0])

    ours, random = ([reached(name, seed) for seed in range(3)] for name in (sampler, "random"))
    assert mean(ours) > 1.05 * mean(random)


def test_the_sampler_learns_to_keep_the_constraints(tmp_path: Path) -> None:
    records, _ = drive(searching(tmp_path, space=SPACE), 60)
    early, late = (
        mean(record.state == "pruned" for record in part) for part in (records[:10], records[30:])
    )
    assert late < early


def test_a_driver_that_starts_again_draws_other_trials(tmp_path: Path) -> None:
    study = searching(tmp_path, space=SPACE, sampler="random")

    def first(*streams: int) -> dict[str, Any]:
        sampler = plan.sampler(study, *streams)
        asked = optuna.create_study(
            directions=list(study.search.objectives.values()), sampler=sampler
        ).ask()
        return plan.ask(study, asked).overrides

    assert first(0) == first(0)
    assert first(0) != first(1)


def test_what_cannot_be_built_is_told_as_failed(tmp_path: Path) -> None:
    study = searching(tmp_path)
    optuna_study = optuna.create_study(directions=list(study.search.objectives.values()))
    trial = optuna_study.ask()
    plan.ask(study, trial)
    plan.tell(study, optuna_study, trial, None, [])
    assert optuna_study.trials[0].state == optuna.trial.TrialState.FAIL


def test_a_proposal_becomes_the_trial_of_its_configuration(tmp_path: Path) -> None:
    study = searching(tmp_path)
    fixed = optuna.trial.FixedTrial(
        {
            **{"detector.width": 8, "recipe.lr": 1e-3, "detector.input.size": "[32, 32]"},
            **{"detector.assigner.type": "Nearest", "detector.assigner.topk": 3},
        }
    )
    specs, (overrides, seed) = Specs(study), plan.ask(study, fixed)
    first, again = (specs(overrides, seed) for _ in range(2))
    assert first == again
    assert (first.knobs["width"], first.seed) == (8, 0)
    assert first.title.startswith("width=8, recipe.lr=0.001, assigner.type=Nearest")


def test_a_design_lists_its_trials_and_a_race_their_followers(tmp_path: Path) -> None:
    study = load(write(tmp_path, seeds=[0, 1], racing={"seeds": 4}))
    trials = [(spec.overrides["detector.width"], spec.seed) for spec in expand(study)]
    assert trials == [(4, 0), (8, 0), (4, 1), (8, 1)]
    assert plan.follow_ups(load(write(tmp_path, seeds=[0, 1])), []) == []
    assert not plan.is_judged(study)
    assert plan.is_judged(searching(tmp_path))
