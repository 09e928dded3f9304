"""Which trials a study's file asks for, after it was edited under the same name."""

from pathlib import Path
from typing import Any

from harness import study
from harness.study import Present, Specs
from harness.study.specification import TrialSpec
from tests.harness.studies import TOY, write

LONGER = {**TOY["set"], "recipe.epochs": 3}
SPACE = {"detector.width": {"low": 4, "high": 16, "step": 4}}
SEARCH = {"space": SPACE, "objectives": {"mAP": "maximize"}, "trials": 5}


def present(folder: Path, **changes: Any) -> Present:
    return Present(study.load(write(folder, **changes)))


def point(folder: Path, overrides: dict[str, Any], seed: int = 0, **changes: Any) -> TrialSpec:
    return Specs(study.load(write(folder, **changes)))(overrides, seed)


def test_a_sweep_holds_what_it_lists(tmp_path: Path) -> None:
    before, after = present(tmp_path), present(tmp_path, set=LONGER)
    assert all(map(before.holds, before.specs))
    assert not any(map(after.holds, before.specs)), "the recipe is another"
    assert before.snapshot().version != after.snapshot().version
    wider = present(tmp_path, sweep={"detector.width": [8, 16]})
    assert [wider.holds(spec) for spec in before.specs] == [False, True]
    assert not before.holds(point(tmp_path, {"detector.width": 4}, seed=1)), "no seed of its own"


def test_what_determines_no_result_makes_no_other_version(tmp_path: Path) -> None:
    one = present(tmp_path)
    other = present(tmp_path, question="Why?", retries={"crash": 3}, timeout_hours=2)
    assert one.snapshot().version == other.snapshot().version


def test_racing_holds_more_seeds_of_its_variants(tmp_path: Path) -> None:
    racing = {"racing": {"seeds": 3}}
    asked = present(tmp_path, **racing)
    added = point(tmp_path, {"detector.width": 8}, seed=2, **racing)
    assert asked.holds(added)
    assert not asked.holds(point(tmp_path, {"detector.width": 8}, 3, **racing)), "one too many"
    assert not asked.holds(point(tmp_path, {"detector.width": 12}, seed=2, **racing))
    edited = present(tmp_path, set=LONGER, **racing)
    assert not edited.holds(added), "the variant is there, and its recipe is another"


def test_a_search_holds_points_of_its_space(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"sweep": None, "search": SEARCH}
    asked = present(tmp_path, **changes)
    inside = point(tmp_path, {"detector.width": 12}, **changes)
    assert asked.holds(inside)
    assert not asked.holds(point(tmp_path, {"detector.width": 20}, **changes))
    assert not asked.holds(point(tmp_path, {"detector.width": 6}, **changes)), "between two steps"
    assert not present(tmp_path, set=LONGER, **changes).holds(inside)
    narrow = {**SEARCH, "space": {"detector.width": {"low": 4, "high": 8, "step": 4}}}
    smaller = present(tmp_path, sweep=None, search=narrow)
    assert not smaller.holds(inside)
    assert smaller.snapshot().version != asked.snapshot().version


def test_a_snapshot_says_what_pages_need(tmp_path: Path) -> None:
    search = {**SEARCH, "constraints": {"params": "<= 6e6"}, "reference": {"mAP": 0.1}}
    found = Present(
        study.load(write(tmp_path, sweep=None, search=search), sets=["question=Which?"])
    ).snapshot()
    assert (found.study, found.question, found.sets) == ("toy", "Which?", ["question=Which?"])
    assert (found.objectives, found.reference) == ({"mAP": "maximize"}, {"mAP": 0.1})
    assert (found.knobs, found.limits) == (["detector.width"], {"params": "<= 6e6"})
    assert (found.total, found.trials) == (5, [])
