from typing import Any

from harness.records import Record
from harness.tracking import contents

BACKBONE, NECK = "detector.backbone.expand_ratio", "detector.neck.expand_ratio"


def record(**changes: Any) -> Record:
    values: dict[str, Any] = {
        "study": "toy",
        "trial": "abc",
        "name": "a",
        "detector": "tests.toy:TOY",
        "overrides": {},
        "config": {BACKBONE: 0.5, NECK: 0.25, "recipe.seed": 1},
        "seed": 0,
        "state": "done",
    }
    return Record(**{**values, **changes})


def test_a_knob_has_the_shortest_name_that_no_other_has() -> None:
    assert contents.short_names([BACKBONE]) == {BACKBONE: "expand_ratio"}
    assert contents.short_names([BACKBONE, NECK, "recipe.lr"]) == {
        BACKBONE: "backbone.expand_ratio",
        NECK: "neck.expand_ratio",
        "recipe.lr": "lr",
    }
    assert contents.short_names(["recipe.seed"]) == {"recipe.seed": "recipe.seed"}
    assert contents.short_names(["a.b", "c.a.b"]) == {"a.b": "a.b", "c.a.b": "c.a.b"}


def test_all_trials_of_a_study_share_the_columns_of_its_knobs() -> None:
    knobs = {BACKBONE, NECK}
    turned = contents.params(record(overrides={BACKBONE: 0.5}), knobs)
    default = contents.params(record(), knobs)
    assert turned["backbone.expand_ratio"] == default["backbone.expand_ratio"] == "0.5"
    assert turned["neck.expand_ratio"] == "0.25"
    assert NECK not in turned
    assert turned["recipe.seed"] == "1"
    assert contents.params(record(overrides={BACKBONE: 0.5}))["expand_ratio"] == "0.5"


def test_a_choice_between_kinds_is_shown_by_the_kind_where_it_is_left_alone() -> None:
    config = {"detector.assigner.type": "SimOTA", "detector.assigner.topk": 10}
    params = contents.params(record(config=config), {"detector.assigner", "detector.lost"})
    assert params["assigner"] == "SimOTA"
    assert "lost" not in params


def test_final_figures_come_last() -> None:
    found = record(
        curves=[{"epoch": 1, "step": 4, "time": 10.0, "mAP": 0.1}],
        metrics={"mAP": 0.2},
        timings={"finished": 11.0},
    )
    points = [point for point in contents.metrics(found) if point.key == "mAP"]
    assert points == [("mAP", 0.1, 10_000, 4), ("mAP", 0.2, 11_000, 4)]
    assert max(points, key=lambda point: (point.step, point.when)).value == 0.2


def test_a_table_leaves_empty_what_a_row_lacks() -> None:
    assert contents.table([{"a": 1}, {"a": 2, "b": 3}]) == "a,b\r\n1,\r\n2,3\r\n"


def test_weights_are_tags_with_what_was_taken() -> None:
    start = {"digest": "ab12", "taken": "taken: backbone", "fresh_parameters": 3}
    config = {"weights.from": "coco", "weights.parts": ["backbone"]}
    found = record(config=config, details={"start": start}, overrides={"weights": "coco"})
    tags, params = contents.tags(found), contents.params(found)
    assert tags["detbench.weights"] == "coco"
    assert tags["detbench.weights_digest"] == "ab12"
    assert tags["detbench.weights_taken"] == "taken: backbone"
    assert params["weights"] == "coco"
    assert params["weights.parts"] == '["backbone"]'
    assert not any("weights" in key for key in contents.tags(record()))
