from typing import Any

import pytest

from reports import breakdowns
from reports.breakdowns import MOST_CLASSES, MOST_VARIANTS
from tests.reports.conftest import make_record

KNOB = "detector.backbone.expand_ratio"


def details(**classes: float) -> dict[str, Any]:
    tide = {"delta_ap": {"Cls": 0.1, "Miss": 0.02, "FP": 0.5}}
    return {"accuracy": {"per_class": classes, "per_iou": {"0.50": 0.6}, "tide": tide}}


def test_every_trial_is_a_number_of_its_own() -> None:
    records = [
        make_record("a", details=details(cat=0.4, dog=0.2), metrics={"mAP_s": 0.1}),
        make_record("b", details=details(cat=0.6, dog=0.3), seed=1),
        make_record("c", details=details(cat=0.5), overrides={KNOB: 1}),
    ]
    classes, sizes, overlaps, errors = breakdowns.breakdowns(records)
    assert (classes.labels, classes.variants) == (["cat", "dog"], ["0.25", "1"])
    assert classes.values == [[[40.0, 60.0], [20.0, 30.0]], [[50.0], []]]
    assert (sizes.labels, sizes.values) == (["small"], [[[10.0]], [[]]])
    assert overlaps.labels == ["0.50"]
    assert errors.labels == ["wrong class", "missed"]
    assert errors.values[1] == [[10.0], [2.0]]


def test_the_figure_draws_each_of_them_and_the_means() -> None:
    records = [make_record(str(s), details=details(cat=0.2 * (s + 1)), seed=s) for s in range(3)]
    made = breakdowns.breakdown_figure(breakdowns.breakdowns(records))
    dots, means = made.data[:2]
    assert list(dots.x) == pytest.approx([20, 40, 60])
    assert list(means.x) == pytest.approx([40])
    assert [view["label"] for view in made.layout.meta["views"]][0] == "AP by class"
    assert made.layout.yaxis.ticktext == ("cat",)


def test_many_are_thinned_out_to_those_that_tell() -> None:
    classes = {f"c{i}": 0.5 for i in range(80)}
    records = [
        make_record(str(n), details=details(**classes | {"c70": n / 20}), overrides={KNOB: n},
                    metrics={"mAP": n / 20})
        for n in range(12)
    ]  # fmt: skip
    first = breakdowns.breakdowns(records)[0]
    assert len(first.labels) == MOST_CLASSES
    assert "c70" in first.labels
    assert first.variants == [str(n) for n in range(12 - MOST_VARIANTS, 12)]


def test_records_without_details_have_none() -> None:
    assert breakdowns.breakdowns([make_record()]) == []
    assert breakdowns.breakdowns([make_record(details={"accuracy": {"per_class": "gone"}})]) == []
