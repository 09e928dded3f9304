"""Which knobs of a search matter: made-up searches whose truth is known."""

from __future__ import annotations

import random

import pytest

from harness.analysis.importance import FEWEST, importances
from harness.records import Record
from harness.records.goals import Goal
from tests.reports.conftest import make_record

GOAL = Goal({"mAP": "maximize", "latency_ms": "minimize"})


def search(count: int = 40, *, matters: bool = True) -> list[Record]:
    """Make trials whose mAP follows from `width`, and their latency from `kind`."""
    draw, found = random.Random(3), []
    for number in range(count):
        width, rate = draw.choice([8, 16, 32, 64]), 10 ** draw.uniform(-4, -1)
        kind, luck = draw.choice(["a", "b"]), draw.random()
        accuracy = (width / 100 if matters else 0.3) + 0.1 * luck
        found.append(
            make_record(
                f"t{number}",
                overrides={"detector.width": width, "recipe.lr": rate, "detector.kind": kind},
                metrics={"mAP": accuracy, "latency_ms": 10 + 5 * (kind == "b") + luck},
            )
        )
    return found


def test_the_knob_that_matters_has_the_greatest_share() -> None:
    accuracy, latency = importances(search(), GOAL).found
    assert (accuracy.metric, accuracy.trials) == ("mAP", 40)
    assert (accuracy.shares[0].knob, latency.shares[0].knob) == ("width", "kind")
    for found in (accuracy, latency):
        assert sum(share.share for share in found.shares) == pytest.approx(1)
        assert {share.knob for share in found.shares} == {"width", "lr", "kind"}
        first = found.shares[0]
        assert first.share > max(0.6, first.by_luck)
        others = [share for share in found.shares[1:] if share.share > share.by_luck]
        assert others == []


def test_where_no_knob_matters_none_is_above_luck() -> None:
    accuracy = importances(search(60, matters=False), GOAL).found[0]
    assert [share.knob for share in accuracy.shares if share.share > share.by_luck] == []


def test_the_direction_of_an_objective_decides_which_trials_are_best() -> None:
    """The slow half lies at kind b alone, and so does the fast half at a."""
    either = [
        importances(search(), Goal({"latency_ms": way})).found[0].shares[0]
        for way in ("minimize", "maximize")
    ]
    assert {share.knob for share in either} == {"kind"}


def test_few_trials_tell_nothing_and_say_so() -> None:
    records = search(FEWEST)
    records[0] = records[0].model_copy(update={"metrics": {"mAP": 0.5}})
    found = importances(records, GOAL)
    assert [one.metric for one in found.found] == ["mAP"]
    assert found.why_not == (
        "Which knobs matter for latency_ms is not told: 19 trials have it, and at least 20 are"
        " needed for 5 in the best quarter."
    )


def test_equal_values_and_fixed_knobs_tell_nothing() -> None:
    same = [make_record(f"t{n}", overrides={"detector.width": n}) for n in range(FEWEST)]
    assert importances(same, GOAL).found == []
    assert "for mAP is not told: all trials have the same" in importances(same, GOAL).why_not
    fixed = [
        make_record(f"t{n}", overrides={"detector.width": 1}, metrics={"mAP": n / 100})
        for n in range(FEWEST)
    ]
    assert "no knob varies" in importances(fixed, GOAL).why_not


def test_settings_of_every_kind_are_taken() -> None:
    """Lists, switches and whole components are told apart by what they say."""
    values = [[8, 16], True, {"type": "SimOTA", "topk": 10}, None]
    records = [
        make_record(f"t{n}", overrides={"detector.x": values[n % 4]}, metrics={"mAP": (n % 4) / 10})
        for n in range(FEWEST)
    ]
    (found,) = importances(records, Goal({"mAP": "maximize"})).found
    assert [share.share for share in found.shares] == [1.0]
