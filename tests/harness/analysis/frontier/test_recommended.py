"""Which setting is recommended, and how precise it is, worked out by hand."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detectors.postprocess import NMSConfig
from harness import cli
from harness.analysis.frontier.accuracy import accuracies, detections, with_knobs
from harness.analysis.frontier.cache import Needed, _keep
from harness.analysis.frontier.recommended import (
    NO_OBJECT,
    NOTHING_FOUND,
    UNTRAINED,
    Choice,
    choose,
    recommend,
    why_none,
)
from harness.data import Split
from harness.machine import locks
from tests.harness import colours
from tests.harness.analysis.frontier.test_frontier import SIZE, predicted
from tests.harness.detecting import scenes


def metrics(accuracy: float, nms: float, *ends: float) -> dict[str, float]:
    """Return those of a setting; the network takes 20 ms."""
    interval = dict(zip(("nms_low_ms", "nms_high_ms"), ends, strict=False))
    return {"mAP": accuracy, "nms_ms": nms, "latency_ms": 20 + nms, **interval}


TRIED = [
    metrics(0.400, 5.0),  # the best
    metrics(0.399, 3.0),  # a tenth of a point below
    metrics(0.3989, 2.0),  # more than that
    metrics(0.3995, 4.0),
    metrics(0.300, 1.0),  # the fastest
]


def test_the_fastest_of_those_within_a_tenth_of_a_point_is_chosen() -> None:
    assert choose(TRIED, 0.1) == Choice(place=1, near=3, tied=0, best=0.4, within=0.1)
    assert choose(TRIED, 0.11).place == 2
    assert choose(TRIED, 10.0)[:2] == (4, 5)
    assert choose(TRIED, 0.0)[:2] == (0, 1)
    assert choose([metrics(0.3991, 3.0), *TRIED], 0.1).place == 0  # as fast, and better


def test_settings_whose_times_are_not_told_apart_are_counted() -> None:
    tried = [
        metrics(0.40, 5.0, 3.4, 5.5),  # begins where the fastest ends
        metrics(0.40, 3.0, 2.9, 3.4),
        metrics(0.40, 6.0, 3.5, 7.0),
        metrics(0.40, 3.3, 3.2, 3.6),
        metrics(0.10, 3.1, 3.0, 3.2),  # as fast, and no alternative
    ]
    assert choose(tried, 0.1) == Choice(place=1, near=4, tied=2, best=0.4, within=0.1)


def test_a_setting_that_finds_nothing_is_never_chosen() -> None:
    assert choose([metrics(0.0005, 5.0), metrics(0.0, 1.0)], 0.1)[:2] == (0, 1)
    assert why_none([metrics(0.0, 1.0)], trained=True) == NOTHING_FOUND
    assert why_none([metrics(0.0, 1.0), metrics(0.1, 1.0)], trained=True) == ""
    assert why_none(TRIED, trained=False) == UNTRAINED
    assert why_none([{"nms_ms": 1.0, "latency_ms": 2.0}], trained=False) == NO_OBJECT


TRUTH = {
    "images": [{"id": 7, "width": 100, "height": 100}],
    "categories": [{"id": 3, "name": "a"}],
    "annotations": [
        {"id": 1 + n, "image_id": 7, "category_id": 3, "bbox": [30 * n, 0, 10, 10], "area": 100,
         "iscrowd": 0}
        for n in range(3)
    ],
}  # fmt: skip
BOXES = [
    {"image_id": 7, "category_id": 3, "bbox": [x, 0, 10, 10], "score": score}
    for x, score in ((0, 0.9), (30, 0.8), (1, 0.7), (80, 0.2))
]


def test_precision_and_recall_are_those_of_all_boxes_and_of_the_greatest_f1() -> None:
    """Two of three objects are found by the surest two of four boxes."""
    own, configured = metrics(0.3995, 3.0), metrics(0.4, 5.0)
    found = recommend(
        Choice(place=1, near=3, tied=2, best=0.4, within=0.1),
        {"score_threshold": 0.05, "iou_threshold": 0.6},
        (own, configured),
        0.05,
        TRUTH,
        BOXES,
    )
    assert found.as_set == (0.05, 2, 4, 3)
    assert found.precision.counts == (0.8, 2, 2, 3)
    plain = found.plain()
    assert (plain["as_set"]["precision"], plain["as_set"]["recall"]) == (2 / 4, 2 / 3)
    assert plain["as_set"]["f1"] == pytest.approx(4 / 7)
    assert (plain["at_best_f1"]["precision"], plain["at_best_f1"]["f1"]) == (1.0, 4 / 5)
    assert (plain["place"], plain["boxes"]) == (1, 4)
    assert found.sentence == (
        "Recommended: score threshold 0.05, IoU threshold 0.6. It has mAP 40.0 % in 23 ms, and is"
        " the fastest of 3 settings within 0.1 points of the best mAP (40.0 %); 2 more of these may"
        " be as fast. As configured: mAP 40.0 % in 25 ms. All that it finds, from score 0.05 on:"
        " precision 50.0 %, recall 66.7 %, F1 57.1 %. From score 0.8 on, where F1 is greatest:"
        " precision 100.0 %, recall 66.7 %, F1 80.0 %."
    )


def test_the_configured_setting_and_the_only_one_are_called_so() -> None:
    own = metrics(0.4, 5.0)
    choice = Choice(place=0, near=1, tied=0, best=0.4, within=0.25)
    told = recommend(choice, {"max_detections": 9}, (own, own), 0.0, TRUTH, BOXES).sentence
    assert "the only setting within 0.25 points of the best mAP (40.0 %). This is the conf" in told
    assert "configured setting. All that it finds, from score 0 on" in told


def test_every_box_of_an_image_counts_and_not_only_a_hundred() -> None:
    many = [{**BOXES[0], "bbox": [80, 80, 10, 10], "score": 0.5}] * 150
    choice = Choice(place=0, near=1, tied=0, best=0.4, within=0.1)
    found = recommend(choice, {}, (TRIED[0], TRIED[0]), 0.0, TRUTH, [BOXES[0], *many])
    assert found.as_set == (0.0, 1, 151, 3)


def by_pycocotools(truth: dict[str, Any], results: Any) -> float:
    """Compute mAP; results are boxes or a file of them."""
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = truth
        known.createIndex()
        evaluator = COCOeval(known, known.loadRes(results), "bbox")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    return float(evaluator.stats[0])


def drawn() -> tuple[Split, list[Any]]:
    split = scenes(np.random.default_rng(3), 4)
    needed = Needed(0.05, None)
    return split, [_keep(*predicted(split, i), needed, (i, SIZE, SIZE)) for i in range(4)]


def test_its_boxes_are_those_that_its_map_was_made_from() -> None:
    split, kept = drawn()
    setting = {"score_threshold": 0.1, "iou_threshold": 0.6, "max_detections": 30}
    stage = NMSConfig().build()
    (scored,) = accuracies(stage, [setting], kept, split)
    boxes = detections(with_knobs(stage, setting), kept, split)
    assert by_pycocotools(split.ground_truth(), boxes) == pytest.approx(scored["mAP"], abs=1e-12)
    assert 0.1 < scored["mAP"] < 1.0
    assert min(each["score"] for each in boxes) > 0.1


@pytest.mark.parametrize(
    ("out", "stored"), [("a.html", "a.detections.json"), ("a", "a/detections.json")]
)
def test_the_command_stores_what_pycocotools_reads(
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    out: str,
    stored: str,
) -> None:
    monkeypatch.setattr(locks, "_folder", lambda: tmp_path)
    model, data = colours.save(tmp_path / "model"), colours.write(tmp_path / "data")
    knobs = ("score_threshold=[0.05, 0.2]", "iou_threshold=[0.5]", "seconds=0.1", "rounds=6")
    grid = [f"--set=frontier.{knob}" for knob in knobs]
    words = ("measure", model, "--trust", "--device", "cpu", "--nms-frontier", "--data", data)
    command = [*map(str, words), *grid, "--out", str(tmp_path / out)]
    assert cli.main([*command, "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    file, advice = tmp_path / stored, found["recommended"]
    assert found["detections"] == str(file)
    truth = json.loads((data / "annotations" / "instances_val.json").read_text("utf-8"))
    chosen = found["rows"][advice["place"]]
    assert chosen["optimal"]
    accuracy = by_pycocotools(truth, str(file))
    assert accuracy == pytest.approx(chosen["metrics"]["mAP"], abs=1e-12)
    assert len(json.loads(file.read_text("utf-8"))) == advice["boxes"] > 0
    page = (tmp_path / out if out.endswith("html") else tmp_path / out / "index.html").read_text()
    assert advice["sentence"] in page
    assert cli.main(command) == 0
    shown = capfd.readouterr().out
    assert f"what it finds, as COCO results: {file}" in shown.replace("\n", "")
    assert "front, recommended" in shown
    assert "Recommended: score threshold 0." in shown
