"""Curves and matrices of made-up trials, by hand."""

from __future__ import annotations

from typing import Any

import pytest

from harness.records.precision import RECALLS, Precision
from reports import precision
from reports.breakdowns import MOST_VARIANTS
from tests.reports.conftest import make_record

KNOB = "detector.backbone.expand_ratio"


def precise(first: float = 0.8, second: float | None = 0.4, **changes: Any) -> Precision:
    """Make a trial's precision: two classes, the second without an object if None."""
    other = [] if second is None else [second] * RECALLS
    fields: dict[str, Any] = {
        "classes": ["cat", "dog"],
        "ious": [0.5, 0.75],
        "curves": [[[first] * RECALLS, other], [[first / 2] * RECALLS, other]],
        "score": 0.31,
        "right": 6,
        "found": 8,
        "objects": 10,
        "confusion": [[4, 1, 1], [0, 2, 2], [1, 0, 0]],
    }
    return Precision(**(fields | changes))


def test_curves_are_those_of_trials_over_classes_and_of_each_class() -> None:
    records = [
        make_record("a"),
        make_record("b", seed=1),
        make_record("c", overrides={KNOB: 1.0}),
        make_record("d", overrides={KNOB: 2.0}),
    ]
    found = {"a": precise(), "b": precise(0.6), "c": precise(0.2, None)}
    drawn = precision.lines(records, found)
    assert list(drawn) == [
        "all classes, IoU 0.50",
        "all classes, IoU 0.75",
        "cat, IoU 0.50",
        "dog, IoU 0.50",
    ]
    whole = drawn["all classes, IoU 0.50"]
    assert [(line.variant, line.repeat) for line in whole] == [(0, 0), (0, 1), (1, 0)]
    assert [line.values[50] for line in whole] == pytest.approx([60, 50, 20])
    assert [line.values[0] for line in drawn["all classes, IoU 0.75"]] == pytest.approx(
        [40, 35, 10]
    )
    assert [line.label for line in drawn["dog, IoU 0.50"]] == [
        "#1: 0.25, seed 0",
        "#2: 0.25, seed 1",
    ]


def test_of_many_classes_and_variants_those_are_shown_that_tell() -> None:
    names = [f"c{n}" for n in range(30)]
    records = [
        make_record(f"t{n}", overrides={KNOB: n}, metrics={"mAP": n / 20}) for n in range(10)
    ]
    found = {}
    for n in range(10):
        curves = [[[n / 20 if name == "c25" else 0.5] * RECALLS for name in names]] * 2
        matrix = [[0] * 31 for _ in range(31)]
        matrix[25][3] = 5
        found[f"t{n}"] = precise(classes=names, curves=curves, confusion=matrix)
    drawn = precision.lines(records, found)
    assert len(drawn) == 2 + precision.MOST_CLASSES
    assert "c25, IoU 0.50" in drawn
    assert len(drawn["c25, IoU 0.50"]) == MOST_VARIANTS
    matrix = precision.matrices(records, found)[0]
    assert {"c3", "c25"} <= set(matrix.classes)
    assert len(matrix.classes) == precision.MOST_CLASSES


def test_a_matrix_has_shares_of_rows_and_the_best_trial_is_first() -> None:
    records = [make_record("a"), make_record("b", overrides={KNOB: 1.0}, metrics={"mAP": 0.9})]
    best, other = precision.matrices(records, {"a": precise(), "b": precise()})
    assert best.label == "#2: 1.0; score 0.31: precision 75%, recall 60%, F1 67%"
    assert other.label.startswith("#1: 0.25; ")
    assert best.classes == ["cat", "dog"]
    assert best.counts == [[4, 1, 1], [0, 2, 2], [1, 0, 0]]
    wanted = [[100 * 4 / 6, 100 / 6, 100 / 6], [0, 50, 50], [100, 0, 0]]
    assert [value for row in best.shares for value in row] == pytest.approx(sum(wanted, []))


def test_the_figures_show_one_thing_at_a_time() -> None:
    records, found = [make_record("a"), make_record("b", seed=1)], {"a": precise(), "b": precise()}
    curves = precision.curves_figure(precision.lines(records, found))
    assert [view["traces"] for view in curves.layout.meta["views"]] == [
        [0, 1],
        [2, 3],
        [4, 5],
        [6, 7],
    ]
    assert [trace.visible for trace in curves.data] == [True] * 2 + [False] * 6
    assert [trace.line.dash for trace in curves.data[:2]] == ["solid", "dash"]
    heat = precision.confusion_figure(precision.matrices(records, found))
    assert list(heat.data[0].text[1]) == ["", "50", "50"]
    assert list(heat.data[0].customdata[0][1]) == [1, "cat", "dog"]
    assert heat.layout.yaxis.ticktext == ("cat", "dog", "nothing there")


def test_trials_without_a_file_have_no_curves() -> None:
    assert precision.lines([make_record("a")], {}) == {}
    assert precision.matrices([make_record("a")], {}) == []
