"""Made-up studies whose truth is known: the words of their answers, and whether they are right."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from harness.analysis.answer import answer
from harness.records import Record
from harness.records.goals import Goal
from tests.harness.analysis.answer.made import study
from tests.harness.cli.test_verdicts import KINDS, refused
from tests.harness.cli.test_verdicts import study as of_kind
from tests.reports.conftest import make_failed

WIDTH, BOTH = ["width"], ["width", "depth"]
SEARCHED = Goal({"mAP": "maximize", "latency_ms": "minimize"})
CLAIMS = ("is better", "is worse", "is faster", "is slower", ", better", ", faster", "interact:")


def grid(truth: Callable[[int, int], tuple[float, float]]) -> dict[tuple[Any, ...], Any]:
    return {(a, b): truth(a, b) for a in (0, 1) for b in (0, 1)}


def unlike(records: list[Record], **fields: tuple[Any, Any]) -> list[Record]:
    """Give every other record other fields."""
    return [
        one.model_copy(update={name: pair[index % 2] for name, pair in fields.items()})
        for index, one in enumerate(records)
    ]


def failed(number: int, width: int = 2, **changes: Any) -> Record:
    return make_failed(f"f{number}", overrides={"detector.width": width}, **changes)


TWO = {(1,): (40.0, 10.0), (2,): (46.0, 12.0)}
STUDIES: dict[str, tuple[list[Record], tuple[str, ...]]] = {
    "a clear winner of two": (
        study(WIDTH, TWO),
        (
            r"^In mAP, width 2 is better than width 1 by \d\.\d points \(95 % interval [45]",
            r"; in latency, width 1 is faster than width 2 by [12]\.\d+ ms \(95 %"
            r" interval [\d.]+ to"
            r" [\d.]+\), 1[67] %\.$",
        ),
    ),
    "a clear winner of three": (
        study(WIDTH, {(1,): (40.0, 10.0), (2,): (50.0, 12.0), (3,): (45.0, 11.0)}),
        (
            r"^In mAP, width 2 is best with (49|50)\.\d %, better than the next \(width 3\) by",
            r"in latency, width 1 is fastest with .* ms, faster than the next \(width 3\) by",
        ),
    ),
    "a tie of two": (
        study(WIDTH, {(1,): (40.0, 10.0), (2,): (40.0, 10.0)}),
        (
            r"^In mAP, there is no significant difference between width \d and width \d: ",
            r"3 seeds show a difference of [\d.]+ points of mAP in 8 of 10 cases, 6 would show",
        ),
    ),
    "a tie of three": (
        study(WIDTH, {(n,): (40.0, 10.0) for n in (1, 2, 3)}),
        (
            r"^In mAP, width \d is best with .*, but with no significant difference from any other",
            r"in latency, width \d is fastest with .*, but with no significant difference from any",
        ),
    ),
    "two that tie and one that is worse": (
        study(WIDTH, {(1,): (46.0, 10.0), (2,): (46.0, 10.0), (3,): (40.0, 12.0)}),
        (
            r"^In mAP, width 1 is best with .*, with no significant difference from width 2; it is"
            r" better than width 3 by",
        ),
    ),
    "one seed": (
        study(WIDTH, TWO, seeds=1),
        (
            r"^In mAP, width 2 is ahead with .*, next is width 1 with .*, but with one"
            r" seed the scatter"
            r" is unknown and no difference is significant;",
            r"in latency, of these trainings, width 1 is faster than width 2, which takes longer by"
            r" (19|20|21)\.\d %",
        ),
    ),
    "too few seeds": (
        study(WIDTH, {**TWO, (3,): (41.0, 11.0)}, seeds=2)[:4],
        (r"but with too few variants repeated with other seeds, the scatter is unknown",),
    ),
    "failed trials": (
        [*study(WIDTH, TWO)[:5], failed(5, seed=2), failed(6, width=3), failed(7, width=3)],
        (
            r"^In mAP, among 2 of 3 variants, ",
            r"3 of 8 trials did not finish \(3 by out of memory\)\.$",
        ),
    ),
    "no finished trial": (
        [failed(1), failed(2)],
        (r"^There is no answer, as no trial has finished\. 2 of 2 trials did not finish",),
    ),
    "no trial": ([], (r"^There is no answer, as no trial has finished\.$",)),
    "one trial": (
        study(WIDTH, {(1,): (40.0, 10.0)}, seeds=1),
        (
            r"^There is nothing to compare, as one trial has finished: it has .* %"
            r" mAP and .* ms lat",
        ),
    ),
    "one variant": (
        study(WIDTH, {(1,): (40.0, 10.0)}),
        (r"^In mAP, the only variant has .* % \(95 % interval .*\) over 3 seeds;",),
    ),
    "a factorial with main effects": (
        study(BOTH, grid(lambda a, b: (40 + 6 * a, 10 + b))),
        (
            r"^In mAP, width 0 to 1 is better by [567]\.\d+ points \(95 % .*\), on"
            r" average; there is"
            r" no significant difference by depth 0 to 1: ",
            r"in latency, depth 0 to 1 is slower by (0\.9|1\.0)\d+ ms \(95 % .*\),"
            r" \d.* %, on avera",
        ),
    ),
    "an interaction": (
        study(BOTH, grid(lambda a, b: (40 + 2 * a + 2 * b + 8 * a * b, 10.0))),
        (r"width × depth interact: both together give more than one by one, by [789]\.\d points",),
    ),
    "an interaction that takes away": (
        study(BOTH, grid(lambda a, b: (40 + 8 * a + 8 * b - 8 * a * b, 10.0))),
        (r"width × depth interact: both together give less than one by one, by [789]\.\d points",),
    ),
    "knobs that change together": (
        study(BOTH, {(1, 8): (40.0, 10.0), (2, 9): (46.0, 12.0)}),
        (r"^In mAP, width 2 is better than width 1 by", r"; width is confounded with depth\.$"),
    ),
    "half of a design": (
        study(
            ["a", "b", "c"],
            {(a, b, a ^ b): (40.0 + 6 * a, 10.0) for a in (0, 1) for b in (0, 1)},
        ),
        (r"^In mAP, a 0 to 1 is better by .*, on average, confounded with b × c;",),
    ),
    "different machines": (
        unlike(study(WIDTH, TWO), environment=({"host": "a"}, {"host": "b"})),
        (
            r"^In mAP, width 2 is better than width 1",
            r"latency cannot be compared: the trials were timed on different machines\.$",
        ),
    ),
    "mixed protocols": (
        unlike(
            study(WIDTH, TWO),
            protocol=({"evaluator": "a"}, {"evaluator": "b"}),
            protocol_hash=("a", "b"),
        ),
        (
            r"^The trials cannot be compared: the protocols of these trials differ in evaluator,"
            r" which no trial overrides\.$",
        ),
    ),
    "different data": (
        unlike(study(WIDTH, TWO), data=({"fingerprint": "a"}, {"fingerprint": "b"})),
        (
            r"^Accuracy cannot be compared: the trials are of 2 data sets",
            r"; in latency, width 1 is",
        ),
    ),
    "only latency": (
        study(WIDTH, {(1,): (None, 10.0), (2,): (None, 12.0)}),
        (r"^Accuracy was not measured; in latency, width 1 is faster than width 2 by",),
    ),
    "only accuracy": (
        study(WIDTH, {(1,): (40.0, None), (2,): (46.0, None)}),
        (r"^In mAP, width 2 is better than width 1 by .*; latency was not measured\.$",),
    ),
    "neither": (
        study(WIDTH, {(1,): (None, None), (2,): (None, None)}),
        (r"^Accuracy was not measured; latency was not measured\.$",),
    ),
}


@pytest.mark.parametrize("name", STUDIES)
def test_the_answer_is_right(name: str) -> None:
    records, wanted = STUDIES[name]
    text = answer(records)
    for pattern in wanted:
        assert re.search(pattern, text), text
    assert text.isprintable(), text
    assert text.endswith("."), text


def test_a_search_names_its_front_and_claims_nothing() -> None:
    truth = {(a, b): (40.0 + 5 * a - 3 * b, 10.0 + a - 2 * b) for a in (0, 1) for b in (0, 1)}
    made = study(BOTH, truth, seeds=1, scatter=(0.1, 0.01))
    text = answer([*made, failed(1)], SEARCHED)
    assert text.startswith("Of 5 trials, 3 are beaten by no other in mAP and latency: width 1,")
    assert re.search(r"width 1, depth 0 has the highest mAP, 4\d\.\d %; width 0, depth 1 has", text)
    assert re.search(r"depth 1 has the lowest latency, (8.0|7.9)\d ms\.", text)
    assert "no difference is called significant before" in text
    assert not any(claim in text for claim in CLAIMS), text


def test_a_search_leaves_out_what_is_beyond_its_limits() -> None:
    records = study(WIDTH, {(n,): (40.0 + n, 10.0) for n in range(3)}, seeds=1, scatter=(0, 0))
    goal = Goal({"mAP": "maximize"}, beyond=frozenset({"t2"}))
    assert "width 1 has the highest mAP, 41.0 %" in answer(records, goal)
    every = goal._replace(beyond=frozenset({"t0", "t1", "t2"}))
    assert answer(records, every).startswith("There is no answer, as no trial within the limits")


def test_a_study_under_way_says_so() -> None:
    text = answer(study(WIDTH, TWO)[:4], total=6)
    assert text.startswith("So far, with 4 of 6 trials over, in mAP, ")
    assert answer(study(WIDTH, TWO), total=6).startswith("In mAP, ")


def test_trainings_that_learnt_nothing_are_counted() -> None:
    caveats = {"mAP": "learnt nothing: no detection; train longer"}
    records = study(WIDTH, {(1,): (0.0, 10.0), (2,): (0.0, 10.0)}, scatter=(0, 0), caveats=caveats)
    text = answer(records)
    assert "repeated seeds gave equal values, which do not tell" in text
    assert text.endswith("6 of 6 trainings learnt nothing.")


@pytest.mark.parametrize("knobs", [WIDTH, BOTH])
@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_equal_values_of_seeds_do_not_tell_the_scatter(knobs: list[str], shift: float) -> None:
    """Neither do differences that are the same in both seeds, whatever a seed does to all."""
    truth = {(1, 8)[: len(knobs)]: (40.0, 10.0), (2, 9)[: len(knobs)]: (46.0, 12.0)}
    if knobs == BOTH:
        truth |= {(1, 9): (41.0, 10.0), (2, 8): (45.0, 12.0)}
    made = study(knobs, truth, seeds=2, scatter=(0.0, 0.05))
    records = [
        one.model_copy(
            update={"metrics": one.metrics | {"mAP": one.metrics["mAP"] + shift * one.seed / 100}}
        )
        for one in made
    ]
    accuracy, _, latency = answer(records).partition("in latency")
    best = "width 2" if knobs == WIDTH else "of width / depth, 2 / 9"
    assert best in accuracy.partition("is ahead with")[0]
    assert "equal values, which do not tell how much others scatter" in accuracy
    assert not _claims(accuracy)
    assert "interval" not in accuracy
    assert "interval" in latency


def test_the_only_variant_with_equal_values_has_no_interval() -> None:
    text = answer(study(WIDTH, {(1,): (40.0, None)}, seeds=2, scatter=(0, 0)))
    assert "has 40.0 % in each of 2 seeds, which does not tell how much others scatter" in text


def test_names_of_others_stay_on_the_line() -> None:
    hostile = "<script>\n\x1b[31m$\u202e" + "x" * 500
    text = answer(study(WIDTH, {(1,): (40.0, 10.0), (hostile,): (46.0, 12.0)}))
    assert not {"\n", "\x1b", "\u202e"} & set(text)
    assert "width <script>" in text  # plain text, which whoever shows it escapes
    assert len(text) < 700


@pytest.mark.parametrize("seeds", [1, 3])
def test_an_answer_claims_nothing_that_compare_refuses(seeds: int) -> None:
    for kind in (kind for kind in KINDS if kind.seeds == seeds):
        records = of_kind(kind)
        text = answer(records)
        claimed = [any(claim in part for claim in CLAIMS) for part in text.split("in latency, ")]
        if any(refused(a, b) for a, b in itertools.combinations(records, 2)):
            assert not claimed[0], (kind, text)
        assert seeds > 1 or "scatter is unknown" in text or "cannot be compared" in text, text


def _claims(text: str) -> bool:
    return any(claim in text.split(" seeds show")[0] for claim in CLAIMS)


FALSE_ALARMS = {  # knobs, variants, seeds
    "two variants": (WIDTH, [(1,), (2,)], 2),
    "five variants": (WIDTH, [(n,) for n in range(5)], 3),
    "two knobs": (BOTH, [(a, b) for a in (0, 1) for b in (0, 1)], 2),
}


@pytest.mark.parametrize("name", FALSE_ALARMS)
def test_differences_that_are_none_are_claimed_as_rarely_as_promised(name: str) -> None:
    """Where nothing differs, 5 % of answers may say so of anything, accuracy or latency."""
    knobs, variants, seeds = FALSE_ALARMS[name]
    truth = {variant: (40.0, 10.0) for variant in variants}
    draws = 200
    wrong = sum(_claims(answer(study(knobs, truth, seeds=seeds, draw=n))) for n in range(draws))
    allowed = 0.05 * draws
    assert 0 < wrong <= allowed + 2.5 * np.sqrt(allowed)  # it would be 0 if nothing were claimed


def test_intervals_hold_the_truth_as_often_as_promised() -> None:
    """The first interval, on a gain of 3 points, is one of two that hold together at 95 %."""
    truth = {(1,): (40.0, 10.0), (2,): (43.0, 10.0)}
    held, draws = 0, 200
    for draw in range(draws):
        text = answer(study(WIDTH, truth, draw=draw))
        found = re.search(
            r"(width 2 .*?)([-\d.]+) points \(95 % interval ([-\d.]+) to ([-\d.]+)", text
        )
        assert found is not None, text
        low, high = float(found[3]), float(found[4])
        held += low <= 3.0 <= high
    share = held / draws
    assert 0.975 - 2.5 * np.sqrt(0.975 * 0.025 / draws) < share < 1


def test_what_only_trials_that_were_given_up_have_was_not_measured() -> None:
    done = study(WIDTH, {(1,): (None, 10.0), (2,): (None, 12.0)})
    pruned = done[0].model_copy(
        update={"trial": "p", "state": "pruned", "metrics": {"mAP": 0.1}, "seed": 9}
    )
    assert answer([*done, pruned]).startswith("Accuracy was not measured; in latency, ")


@pytest.mark.parametrize(
    ("figures", "told"),
    [
        ((40.0, 40.0), "width 0 and width 1 both have 40.0 %, but with one seed"),
        ((40.01, 40.02, 40.0), "width 1, width 0 and width 2 all have 40.0 %, but"),
        (
            (40.0, 39.0, 40.0),
            "width 0 and width 2 are ahead with 40.0 % each, next is width 1 with 39.0 %",
        ),
        ((0.0, 0.004), "width 1 and width 0 both have 0.0 %, but with one seed"),
    ],
)
def test_nobody_is_ahead_by_nothing(figures: tuple[float, ...], told: str) -> None:
    """Figures that are written the same are told as the same."""
    truth = {(place,): (mean, None) for place, mean in enumerate(figures)}
    text = answer(study(WIDTH, truth, seeds=1, scatter=(0, 0)))
    assert text.startswith(f"In mAP, {told}")
    assert "no difference is significant" in text


def test_the_only_variant_with_a_figure_is_named() -> None:
    records = [*study(WIDTH, {(1,): (40.0, None)}), failed(5, width=2), failed(6, width=3)]
    assert answer(records).startswith("In mAP, of 3 variants only width 1 has ")


def test_a_search_without_a_latency_to_rank_says_why() -> None:
    rough = {"caveats": {"latency_ms": "rough: most rounds were disturbed"}}
    text = answer(study(WIDTH, TWO, seeds=1, **rough), SEARCHED)
    assert text.startswith(
        "There is no answer, as no trial within the limits has mAP and latency that may be ranked:"
        " 2 of 2 latencies are rough; `--remeasure latency`"
    )
