"""mAP equals pycocotools'; boxes find their way back to the photograph."""

import contextlib
import copy
import gzip
import io
import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor

from detectors.interface import Detections, InputConfig
from harness.config.data import DataConfig
from harness.data import DataSet, Split, load
from harness.measure.accuracy.detections import write
from harness.measure.accuracy.evaluate import (
    IOU_THRESHOLDS,
    Score,
    errors,
    evaluate,
    match,
    rescore,
    score,
)
from harness.records import Record, RecordError
from harness.records.progress import Progress
from tests import lanes
from tests.toy import ToyConfig

SUMMARY = (
    "mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l",
    "AR_1", "AR_10", "AR_100", "AR_s", "AR_m", "AR_l",
)  # fmt: skip
SUMS = 1e-12  # of a mean of up to 100,000 numbers in double precision, added in any order
CASES = ("cocoapi_val2014_100", "voc100_real_detector", "coco549_real_gt_synthetic_dets")


def oracle(
    ground_truth: dict[str, Any],
    detections: list[dict[str, Any]],
    max_detections: tuple[int, ...] = (1, 10, 100),
) -> COCOeval:
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(ground_truth)
        truth.createIndex()
        evaluator = COCOeval(truth, truth.loadRes(copy.deepcopy(detections)), "bbox")
        evaluator.params.maxDets = list(max_detections)
        evaluator.evaluate()
        evaluator.accumulate()
        if len(max_detections) == 3:
            evaluator.summarize()
    return evaluator


def close(values: Any) -> Any:
    """Return what equals the values but for the order in which sums were added up."""
    return pytest.approx(values, rel=0, abs=SUMS)


def summary(scored: Score) -> list[float]:
    """Return our figures in pycocotools' order, -1 where there is none."""
    return [{**scored.metrics, **scored.details}.get(name, -1.0) for name in SUMMARY]


def read(path: Path) -> Any:
    if path.is_file():
        return json.loads(path.read_bytes())
    return json.loads(gzip.decompress(path.with_name(path.name + ".gz").read_bytes()))


@pytest.mark.parametrize("case", CASES)
def test_parity_with_published_figures_and_pycocotools(shared: Path, case: str) -> None:
    folder = shared / "evaluator" / case
    ground_truth, detections = read(folder / "gt.json"), read(folder / "detections.json")
    expected = read(folder / "expected.json")["computed_bbox"]
    scored = score(ground_truth, detections)
    assert summary(scored) == close(list(expected["summary"].values()))
    assert summary(scored) == close(oracle(ground_truth, detections).stats.tolist())
    per_class = {name: value for name, value in expected["per_class_AP"].items() if value >= 0}
    assert scored.details["per_class"] == close(per_class)
    assert list(scored.details["per_iou"].values()) == close(list(expected["AP_by_iou"].values()))


@pytest.mark.parametrize("case", lanes.split(CASES, CASES[:2]))
@pytest.mark.parametrize("max_detections", [(1, 10, 100), (1, 5, 20, 300), (3,)])
def test_parity_with_pycocotools_whatever_the_number_of_detections(
    shared: Path, case: str, max_detections: tuple[int, ...]
) -> None:
    folder = shared / "evaluator" / case
    ground_truth, detections = read(folder / "gt.json"), read(folder / "detections.json")
    reference = oracle(ground_truth, detections, max_detections)
    evaluator = match(ground_truth, detections, max_detections)
    evaluator.accumulate()
    assert evaluator.eval is not None
    for key in ("precision", "recall", "scores"):
        ours, theirs = evaluator.eval[key], reference.eval[key]
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=SUMS, strict=True)
    found = reference.eval["precision"][..., 0, -1]
    scored = score(ground_truth, detections, max_detections)
    assert scored.metrics["mAP"] == close(found[found > -1].mean())
    assert evaluator.params.iou_thrs == close(reference.params.iouThrs.tolist())
    assert evaluator.params.iou_thrs == pytest.approx(IOU_THRESHOLDS, abs=1e-12)


def random_case(seed: int) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Make a case with crowds, images without objects or detections, and equal scores."""
    rng = np.random.default_rng(seed)
    image_ids, category_ids = (7, 3, 12, 5), (9, 2, 4)
    ground_truth: dict[str, Any] = {
        "images": [{"id": i, "height": 200, "width": 200} for i in image_ids],
        "categories": [{"id": i, "name": f"class {i}"} for i in category_ids],
        "annotations": [],
    }
    detections: list[dict[str, Any]] = []
    for number in range(int(rng.integers(0, 14))):
        box = [*rng.integers(0, 80, 2).tolist(), *rng.integers(5, 120, 2).tolist()]
        place = {
            "image_id": int(rng.choice(image_ids[:3])),
            "category_id": int(rng.choice(category_ids[:2])),
        }
        area, crowd = box[2] * box[3] * 0.8, int(rng.random() < 0.25)
        ground_truth["annotations"].append(
            {"id": number + 1, **place, "bbox": box, "area": area, "iscrowd": crowd}
        )
        for _ in range(int(rng.integers(0, 4))):
            moved = [float(side + rng.integers(-3, 4)) for side in box]
            confidence = float(rng.integers(1, 6)) / 5
            detections.append({**place, "bbox": moved, "score": confidence})
    for _ in range(int(rng.integers(1, 5))):
        stray = {
            "image_id": int(rng.choice(image_ids)),
            "category_id": int(rng.choice(category_ids)),
        }
        box = [float(side) for side in rng.integers(1, 90, 4)]
        detections.append({**stray, "bbox": box, "score": float(rng.integers(1, 6)) / 5})
    return ground_truth, detections


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_parity_with_pycocotools_on_random_cases(seed: int) -> None:
    ground_truth, detections = random_case(seed)
    reference = oracle(ground_truth, detections)
    scored = score(ground_truth, detections)
    assert summary(scored) == close(reference.stats.tolist())
    for index, category_id in enumerate(reference.params.catIds):
        values = reference.eval["precision"][:, :, index, 0, -1]
        found = scored.details["per_class"].get(f"class {category_id}")
        if (values > -1).any():
            assert found == close(values[values > -1].mean())
        else:
            assert found is None


def single(side: int = 40) -> dict[str, Any]:
    box = [10, 10, side, side]
    return {
        "images": [{"id": 1, "height": 100, "width": 100}],
        "categories": [{"id": 5, "name": "cell"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 5, "bbox": box, "area": side**2, "iscrowd": 0}
        ],
    }


def test_no_detections_score_zero_and_absent_sizes_are_left_out() -> None:
    scored = score(single(), [])
    assert scored.metrics == {"mAP": 0.0, "mAP_50": 0.0, "mAP_75": 0.0, "mAP_m": 0.0}
    assert scored.details["AR_100"] == 0.0
    assert scored.details["per_class"] == {"cell": 0.0}


def test_nothing_to_find_has_no_score() -> None:
    truth = {**single(), "annotations": []}
    detection = {"image_id": 1, "category_id": 5, "bbox": [1, 1, 5, 5], "score": 0.5}
    assert score(truth, [detection]) == ({}, {"per_class": {}})


def test_more_detections_an_image_find_what_the_limit_hides() -> None:
    wrong = {"image_id": 1, "category_id": 5, "bbox": [60, 60, 9, 9], "score": 0.9}
    right = {"image_id": 1, "category_id": 5, "bbox": [10, 10, 40, 40], "score": 0.1}
    detections = [wrong] * 2 + [right]
    assert score(single(), detections, (1, 2)).metrics["mAP"] == 0.0
    scored = score(single(), detections, (1, 2, 3))
    assert scored.metrics["mAP"] == pytest.approx(1 / 3)
    assert (scored.details["AR_2"], scored.details["AR_3"]) == (0.0, 1.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 4}, r"1 values of image_id .* 1 images .* first is 4"),
        ({"category_id": 0}, r"category_id .* categories .* first is 0"),
    ],
)
def test_mixed_up_ids_are_refused(change: dict[str, int], message: str) -> None:
    detection = {"image_id": 1, "category_id": 5, "bbox": [1, 1, 5, 5], "score": 0.5}
    with pytest.raises(ValueError, match=message):
        score(single(), [{**detection, **change}])


HERE, THERE = [10, 10, 100, 100], [200, 200, 100, 100]
PARTLY = [200, 200, 100, 30]  # overlaps THERE by 0.3
RIGHT = (1, HERE, 0.9)
ERRORS = {
    "nothing": ([(1, HERE), (2, THERE)], [RIGHT, (2, THERE, 0.8)], {}, {}),
    "class": ([(1, HERE), (2, THERE)], [RIGHT, (1, THERE, 0.8)], {"Cls": 1}, {"Cls": 0.5}),
    "place": ([(1, HERE), (2, THERE)], [RIGHT, (2, PARTLY, 0.8)], {"Loc": 1}, {"Loc": 0.5}),
    "both": ([(1, HERE), (2, THERE)], [RIGHT, (1, PARTLY, 0.8)], {"Both": 1, "Miss": 1}, {}),
    "twice": (
        [(1, HERE), (1, THERE)],
        [RIGHT, (1, HERE, 0.8), (1, THERE, 0.7)],
        {"Dupe": 1},
        {"Dupe": 50 / 101 / 3, "FP": 50 / 101 / 3},
    ),
    "background": (
        [(1, HERE), (2, THERE)],
        [RIGHT, (1, [10, 300, 50, 50], 0.95), (2, THERE, 0.8)],
        {"Bkg": 1},
        {"Bkg": 0.25, "FP": 0.25},
    ),
    "missed": (
        [(1, HERE), (1, THERE)],
        [RIGHT],
        {"Miss": 1},
        {"Miss": 50 / 101, "FN": 50 / 101},
    ),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_is_of_its_kind_and_costs_what_it_does(kind: str) -> None:
    objects, found, counts, gains = ERRORS[kind]
    truth: dict[str, Any] = {
        "images": [{"id": 1, "height": 400, "width": 400}],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [
            {
                "id": number, "image_id": 1, "category_id": category, "bbox": box,
                "area": box[2] * box[3], "iscrowd": 0,
            }
            for number, (category, box) in enumerate(objects, start=1)
        ],
    }  # fmt: skip
    detections = [
        {"image_id": 1, "category_id": category, "bbox": box, "score": confidence}
        for category, box, confidence in found
    ]
    result = errors(match(truth, detections, (100,)))
    assert {name: count for name, count in result["counts"].items() if count} == counts
    costly = {name: gain for name, gain in result["delta_ap"].items() if gain > 1e-9}
    assert costly == pytest.approx(gains)
    assert result["ap"] == pytest.approx(score(truth, detections).metrics["mAP_50"])
    if gains:
        assert sum(result["share"].values()) == pytest.approx(1)
    else:
        assert "share" not in result


@pytest.mark.parametrize(("overlap", "kind"), [(9, "Bkg"), (11, "Loc"), (49, "Loc"), (51, None)])
def test_the_overlaps_at_which_an_error_is_of_another_kind(overlap: int, kind: str | None) -> None:
    found = {"image_id": 1, "category_id": 5, "bbox": [0, 0, 100, overlap], "score": 0.8}
    truth = single()
    truth["annotations"][0] |= {"bbox": [0, 0, 100, 100], "area": 10_000}
    counts = errors(match(truth, [found], (100,)))["counts"]
    assert {name: count for name, count in counts.items() if count and name != "Miss"} == (
        {kind: 1} if kind else {}
    )


def test_nothing_is_printed(capfd: pytest.CaptureFixture[str]) -> None:
    score(single(), [])
    assert capfd.readouterr() == ("", "")


class Seer(torch.nn.Module):
    """Knows where the objects of a split are, in input pixels; sees images in order."""

    def __init__(self, split: Split, config: ToyConfig) -> None:
        super().__init__()
        self.split, self.config = split, config
        self.seen = 0
        self.deployed = False

    def deploy(self) -> "Seer":
        copied = Seer(self.split, self.config)
        copied.deployed = True
        return copied

    def detect(self, images: Tensor, sizes: Tensor) -> list[Detections]:
        assert self.deployed
        found = []
        for height, width in sizes.tolist():
            boxes, labels = self.split.objects(self.seen)
            image = self.split.images[self.seen]
            scale = [width / image.width, height / image.height] * 2
            boxes = torch.as_tensor(boxes) * torch.tensor(scale)
            self.seen += 1
            found.append(Detections(boxes, torch.ones(len(labels)), torch.as_tensor(labels)))
        return found


@pytest.fixture
def photographs(tmp_path: Path) -> Split:
    """Make wide and tall photographs whose category ids are neither dense nor in order."""
    images, annotations = [], []
    for index, (height, width) in enumerate([(48, 100), (90, 31), (64, 64)]):
        images.append(
            {"id": 40 - index, "file_name": f"{index}.png", "height": height, "width": width}
        )
        for side in (8, 13):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": 40 - index,
                    "category_id": (30, 11)[len(annotations) % 2],
                    "bbox": [index + 0.5, 3, side, side * 2],
                    "area": side * side * 2,
                    "iscrowd": 0,
                }
            )
    categories = [{"id": 30, "name": "disc"}, {"id": 11, "name": "bar"}]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "annotations").mkdir()
    for name in ("train", "val"):
        (tmp_path / name).mkdir()
        (tmp_path / "annotations" / f"instances_{name}.json").write_text(
            json.dumps(content), "utf-8"
        )
        for item in images:
            pixels = np.full((item["height"], item["width"], 3), len(name), np.uint8)
            cv2.imwrite(str(tmp_path / name / item["file_name"]), pixels)
    return load(DataConfig(source=str(tmp_path))).val


@pytest.mark.parametrize("resize", ["letterbox", "stretch", "shortest_edge"])
def test_a_detector_that_knows_everything_scores_one(photographs: Split, resize: Any) -> None:
    config = ToyConfig(num_classes=2, input=InputConfig(size=(64, 96), resize=resize))
    varies = resize == "shortest_edge"  # one photograph at a time, none padded for its neighbours
    events: list[Progress] = []
    result = evaluate(
        Seer(photographs, config),
        photographs,
        device="cpu",
        batch_size=2,
        workers=0,
        on_progress=events.append,
    )
    assert result.metrics["mAP"] == pytest.approx(1.0)
    truth = photographs.ground_truth()["annotations"]
    for found, wanted in zip(result.detections, truth, strict=True):
        assert found["category_id"] == wanted["category_id"]
        assert found["image_id"] == wanted["image_id"]
        assert found["bbox"] == pytest.approx(wanted["bbox"], abs=1e-4)
    assert [(event.phase, event.done, event.total) for event in events] == [
        *([("evaluate", 1, 3)] if varies else []),
        ("evaluate", 2, 3),
        ("evaluate", 3, 3),
    ]
    sizes = {"smallest": (64, 64), "largest": (96, 64)} if varies else None
    assert result.details.get("input_sizes") == sizes


def test_an_untrained_detector_is_scored_and_left_alone(photographs: Split) -> None:
    detector = ToyConfig(num_classes=2).build()
    torch.nn.init.constant_(detector.head.predict.bias[:2], -9.0)
    before = copy.deepcopy(detector.state_dict())
    result = evaluate(detector, photographs, device="cpu", workers=0)
    assert result.metrics["mAP"] == 0.0
    assert result.detections == []
    assert detector.training
    assert all(torch.equal(before[key], value) for key, value in detector.state_dict().items())


def keep(folder: Path, dataset: DataSet, detections: list[dict[str, Any]], **fields: Any) -> Record:
    """Leave the record of a finished trial and its detections."""
    known = {
        "study": "s", "trial": "t", "name": "n", "detector": "toy", "overrides": {}, "config": {},
        "seed": 0, "state": "done", "data": {"fingerprint": dataset.fingerprint},
        "artifacts": {"detections": write(detections, folder).name},
    }  # fmt: skip
    result = Record.model_validate(known | fields)
    result.write(folder)
    return result


@pytest.fixture
def dataset(photographs: Split) -> DataSet:
    return DataSet("photographs", photographs, photographs, "f")


def test_every_figure_comes_again_without_the_model(dataset: DataSet, tmp_path: Path) -> None:
    config = ToyConfig(num_classes=2, input=InputConfig(size=(64, 96), resize="letterbox"))
    first = evaluate(Seer(dataset.val, config), dataset.val, device="cpu", workers=0)
    keep(tmp_path, dataset, first.detections)
    assert rescore(tmp_path, dataset) == Score(first.metrics, first.details)


def test_figures_come_again_by_their_own_protocol(dataset: DataSet, tmp_path: Path) -> None:
    wrong = {"image_id": 40, "category_id": 30, "bbox": [50.0, 1.0, 9.0, 9.0], "score": 0.9}
    right = {"image_id": 40, "category_id": 30, "bbox": [0.5, 3.0, 8.0, 16.0], "score": 0.5}
    found = []
    for limits in ([1], [1, 2]):
        keep(tmp_path, dataset, [wrong, right], protocol={"max_detections": limits})
        found.append(rescore(tmp_path, dataset).metrics["mAP"])
    assert found[0] == 0 < found[1]


def test_other_data_is_refused(dataset: DataSet, tmp_path: Path) -> None:
    keep(tmp_path, dataset, [], data={"fingerprint": "other"})
    with pytest.raises(RecordError, match="fingerprint other, data set photographs has f; name"):
        rescore(tmp_path, dataset)


def test_a_trial_without_detections_is_refused(dataset: DataSet, tmp_path: Path) -> None:
    keep(tmp_path, dataset, [], artifacts={})
    with pytest.raises(RecordError, match="stored no detections; it did not measure accuracy"):
        rescore(tmp_path, dataset)
