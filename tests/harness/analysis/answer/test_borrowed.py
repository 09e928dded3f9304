"""The scatter of one study taken for another: only of what is the same in kind, and named."""

import re
from typing import Any

import numpy as np
import pytest

from harness.analysis.answer import answer, borrowed
from harness.records import Record
from tests.harness.analysis.answer.made import study

RECIPE = {"recipe.epochs": 6, "recipe.lr": 0.01, "recipe.workers": 2}
PROTOCOL = {"evaluator": "hotcoco", "input.size": [64, 64], "latency": {"batch_size": 1}}
FAR, NEAR = {(1,): (40.0, None), (2,): (60.0, None)}, {(1,): (40.0, None), (2,): (40.5, None)}
REPEATED = {(7,): (50.0, None), (8,): (52.0, None)}


def made(name: str, truth: Any, *, seeds: int, draw: int = 0, **changes: Any) -> list[Record]:
    """Make a study of that name, whose trials are no other's."""
    what: dict[str, Any] = {"study": name, "detector": "rtmdet_s", "config": RECIPE}
    what |= {"protocol": PROTOCOL, "data": {"fingerprint": "d1"}} | changes
    found = study(["width"], truth, seeds=seeds, scatter=(1.0, 0.0), draw=draw, **what)
    return [one.model_copy(update={"trial": f"{name}-{one.trial}"}) for one in found]


def test_a_study_of_one_seed_is_judged_by_the_scatter_of_others_which_it_names() -> None:
    more = {(9,): (50.0, None), (10,): (52.0, None)}
    others = [*made("repeated", REPEATED, seeds=3), *made("again", more, seeds=2, draw=1)]
    text = answer(made("own", FAR, seeds=1), others=others)
    lead = "In mAP, with one seed each, by the scatter of 10 trainings of repeated and again, "
    assert text.startswith(f"{lead}width 2 is better than width 1 by ")
    tie = answer(made("own", NEAR, seeds=1), others=others)
    assert "there is no significant difference between" in tie
    assert re.search(r"1 seed shows a difference of [\d.]+ points of mAP in 8 of 10 cases, 2", tie)
    alone = answer(made("own", FAR, seeds=1))
    assert "with one seed the scatter is unknown and no difference is significant" in alone


def test_the_scatter_is_that_of_repeated_seeds() -> None:
    """By hand: two detectors with two seeds each, a seed moving both alike or not."""
    own, others = made("own", FAR, seeds=1), made("repeated", REPEATED, seeds=2)
    for one, accuracy in zip(others, (0.50, 0.52, 0.51, 0.55), strict=True):
        one.metrics["mAP"] = accuracy  # seed 0: 50 and 52; seed 1: 51 and 55
    found = borrowed.scatter(own, others)
    assert found is not None
    assert (found.freedom, found.trainings, found.studies) == (1, 4, ["repeated"])
    assert found.variance == pytest.approx(1.0)  # one seed adds 1, the other 3: ±0.5 in each cell
    own[1] = own[1].model_copy(update={"seed": 9})  # then seeds do not cancel: 1 / 2 and 9 / 2
    found = borrowed.scatter(own, others)
    assert found is not None
    assert (found.freedom, found.variance) == (2, pytest.approx(2.5))


@pytest.mark.parametrize(
    "changes",
    [
        {"config": RECIPE | {"recipe.epochs": 12}},
        {"config": RECIPE | {"recipe.lr": 0.02}},
        {"data": {"fingerprint": "d2"}},
        {"detector": "rtdetr_r18"},
        {"protocol": PROTOCOL | {"input.size": [96, 96]}},
        {"overrides": {"weights": "coco"}},
        {"caveats": {"mAP": "of other code: loop.py"}},
    ],
    ids=["epochs", "rate", "data", "family", "input", "weights", "code"],
)
def test_trainings_of_another_kind_tell_nothing(changes: dict[str, Any]) -> None:
    others = made("repeated", REPEATED, seeds=3, **changes)
    text = answer(made("own", FAR, seeds=1), others=others)
    assert "with one seed the scatter is unknown" in text
    assert "repeated" not in text


@pytest.mark.parametrize(
    "changes",
    [
        {"detector": "rtmdet_tiny"},
        {"config": RECIPE | {"recipe.workers": 8}},
        {"protocol": PROTOCOL | {"latency": {"batch_size": 8}}},
        {"environment": {"host": "other"}},
    ],
    ids=["size", "workers", "latency", "machine"],
)
def test_what_moves_no_training_does_not_matter(changes: dict[str, Any]) -> None:
    others = made("repeated", REPEATED, seeds=3, **changes)
    assert " trainings of repeated, " in answer(made("own", FAR, seeds=1), others=others)


def test_a_study_whose_trials_differ_in_kind_or_share_a_training_takes_nothing() -> None:
    others = made("repeated", REPEATED, seeds=3)
    rates = made("own", FAR, seeds=1)
    rates[1].config = RECIPE | {"recipe.lr": 0.02}
    assert borrowed.scatter(rates, others) is None
    shared = made("own", FAR, seeds=1)
    for one in shared:
        one.details["training"] = {"training": "same"}
    assert borrowed.scatter(shared, others) is None


def test_neither_single_seeds_nor_equal_values_nor_itself_tell_anything() -> None:
    own = made("own", FAR, seeds=1)
    assert borrowed.scatter(own, own) is None
    assert borrowed.scatter(own, made("single", REPEATED, seeds=1)) is None
    equal = made("equal", REPEATED, seeds=3)
    for one in equal:
        one.metrics["mAP"] = 0.5
    assert borrowed.scatter(own, equal) is None


def test_other_exits_of_a_training_are_no_new_trainings() -> None:
    others = made("exits", REPEATED, seeds=3)
    for one in others:
        one.details["training"] = {"training": f"t{one.seed}"}  # both widths
    found = borrowed.scatter(made("own", FAR, seeds=1), others)
    assert found is not None
    assert (found.trainings, found.freedom) == (3, 2)


def test_at_most_three_studies_count_so_that_all_are_named() -> None:
    others = [r for n in range(5) for r in _of(n, seeds=2 + (n > 1))]
    found = borrowed.scatter(made("own", FAR, seeds=1), others)
    assert found is not None
    assert (found.studies, found.trainings) == (["s2", "s3", "s4"], 18)


def _of(number: int, seeds: int) -> list[Record]:
    truth = {(10 * number + width,): (50.0, None) for width in (0, 1)}
    return made(f"s{number}", truth, seeds=seeds, draw=number)


def test_the_same_detector_and_seed_twice_is_no_repetition() -> None:
    others = [*made("once", REPEATED, seeds=1), *made("twice", REPEATED, seeds=1, draw=1)]
    assert borrowed.scatter(made("own", FAR, seeds=1), others) is None


def test_differences_that_are_none_are_claimed_as_rarely_as_promised() -> None:
    draws, wrong = 200, 0
    equal = {(n,): (40.0, None) for n in range(3)}
    for draw in range(draws):
        others = made("repeated", REPEATED, seeds=3, draw=1000 + draw)
        text = answer(made("own", equal, seeds=1, draw=draw), others=others)
        assert "by the scatter of 6 trainings" in text
        wrong += bool(re.search(r"\bbetter than\b", text))
    allowed = 0.05 * draws
    assert 0 < wrong <= allowed + 2.5 * np.sqrt(allowed)
