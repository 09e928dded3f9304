"""Precision, recall and confusion by hand, and beside the mAP that is made from the same."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.measure.accuracy.evaluate import score
from harness.measure.accuracy.precision import Counted, best, follow, measure
from harness.records import RecordError
from harness.records.precision import ARTIFACT, FILE, RECALLS, Precision, read
from tests.harness.detecting import detect, scenes
from tests.reports.conftest import make_record

A, B = 3, 7  # ids of the classes


def truth() -> dict[str, Any]:
    boxes = [(A, [0, 0, 10, 10]), (B, [20, 0, 10, 10]), (A, [40, 0, 10, 10])]
    annotations = [
        {"id": 1 + n, "image_id": 1, "category_id": c, "bbox": b, "area": 100, "iscrowd": 0}
        for n, (c, b) in enumerate(boxes)
    ]
    crowd = {"id": 9, "image_id": 1, "category_id": A, "bbox": [60, 0, 30, 30], "area": 900}
    return {
        "images": [{"id": 1, "width": 100, "height": 100}],
        "categories": [{"id": B, "name": "b"}, {"id": A, "name": "a"}],
        "annotations": [*annotations, crowd | {"iscrowd": 1}],
    }


def found(category: int, box: list[float], confidence: float) -> dict[str, Any]:
    return {"image_id": 1, "category_id": category, "bbox": box, "score": confidence}


DETECTIONS = [
    found(A, [80, 80, 10, 10], 0.5),  # nothing there
    found(A, [0, 0, 10, 10], 0.9),
    found(B, [40, 0, 10, 10], 0.8),  # of the other class
    found(A, [40, 0, 10, 10], 0.7),  # right for COCO; the object is taken in the confusion
    found(B, [20, 0, 10, 6], 0.6),  # overlaps by 0.6
    found(A, [60, 0, 30, 30], 0.95),  # on a crowd
]


def test_a_few_boxes_by_hand() -> None:
    made = measure(truth(), DETECTIONS)
    assert made is not None
    assert made.classes == ["a", "b"]
    assert made.ious == [0.5, 0.75]
    assert made.curves[0] == [[1.0] * RECALLS, [0.5] * RECALLS]
    assert made.curves[1] == [[1.0] * RECALLS, [0.0] * RECALLS]
    assert (made.score, made.right, made.found, made.objects) == (0.6, 3, 4, 3)
    at = made.counts
    assert (at.precision, at.recall, at.f1) == pytest.approx((3 / 4, 1.0, 6 / 7))
    assert made.confusion == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]


def test_all_detections_are_counted_beside_those_of_the_greatest_f1() -> None:
    found = follow(truth(), DETECTIONS, 100)
    assert found is not None
    assert found.precision == measure(truth(), DETECTIONS)
    assert found.whole == (0.5, 3, 5, 3)  # the one on the crowd is ignored
    fewer = follow(truth(), DETECTIONS, 1)  # the surest of an image and class
    assert fewer is not None
    assert fewer.whole == (0.8, 0, 1, 3)


def test_without_a_detection_all_objects_are_missed() -> None:
    made = measure(truth(), [])
    assert made is not None
    assert made.counts == (1.0, 0, 0, 3)
    assert (made.counts.precision, made.counts.recall, made.counts.f1) == (0.0, 0.0, 0.0)
    assert made.confusion == [[0, 0, 2], [0, 0, 1], [0, 0, 0]]
    nothing = truth() | {"annotations": []}
    assert measure(nothing, []) is None


def test_equal_scores_are_kept_or_left_together() -> None:
    def chosen(scores: list[float], right: list[bool], objects: int) -> int:
        ids = np.arange(len(scores)) + 1
        return best(Counted(np.array(scores), np.array(right, bool), ids, objects))

    assert chosen([0.9, 0.5, 0.5], [True, False, True], 2) == 3
    assert chosen([0.9, 0.5, 0.5], [True, True, False], 2) == 3  # 4 / 5, against 2 / 3
    assert chosen([0.9, 0.5, 0.5], [True, False, False], 2) == 1
    assert chosen([], [], 2) == 0


def test_the_means_of_the_curves_are_cocos_ap() -> None:
    rng = np.random.default_rng(5)
    split = scenes(rng, 30)
    detections = detect(rng, split)
    made, known = (
        measure(split.ground_truth(), detections),
        score(split.ground_truth(), detections),
    )
    assert made is not None
    means = [np.mean([np.mean(curve) for curve in by_class if curve]) for by_class in made.curves]
    wanted = [known.details["per_iou"]["0.50"], known.details["per_iou"]["0.75"]]
    assert means == pytest.approx(wanted, abs=1e-4)
    matrix = np.array(made.confusion)
    assert matrix[:-1].sum() == made.objects
    assert matrix[:, :-1].sum() == made.found
    assert np.trace(matrix) <= made.right


def test_it_lies_beside_the_record(tmp_path: Path) -> None:
    made = measure(truth(), DETECTIONS)
    assert made is not None
    record = make_record(artifacts={ARTIFACT: made.write(tmp_path).name})
    assert read(tmp_path, record) == made
    assert read(tmp_path, make_record()) is None
    assert read(tmp_path / "elsewhere", record) is None


@pytest.mark.parametrize(
    "change",
    [
        {"curves": []},
        {"curves": [[[2.0] * RECALLS] * 2] * 2},
        {"curves": [[[1.0]] * 2] * 2},
        {"confusion": [[1]]},
        {"right": 5},
        {"more": 1},
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    made = measure(truth(), DETECTIONS)
    assert made is not None
    (tmp_path / FILE).write_text(json.dumps(made.model_dump(by_alias=True) | change), "utf-8")
    with pytest.raises(RecordError, match=r"precision\.json: damaged: "):
        read(tmp_path, make_record(artifacts={ARTIFACT: FILE}))


def test_names_of_classes_may_be_anything(tmp_path: Path) -> None:
    hostile = truth()
    hostile["categories"][0]["name"] = "<script>\u2028"
    made = measure(hostile, DETECTIONS)
    assert isinstance(made, Precision)
    made.write(tmp_path)
    back = read(tmp_path, make_record(artifacts={ARTIFACT: FILE}))
    assert back is not None
    assert back.classes == ["a", "<script>\u2028"]
