"""Precision against recall and confusion of classes, from the detections that mAP is made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import hotcoco
import numpy as np
from numpy.typing import NDArray

from harness.measure.accuracy.evaluate import MAX_DETECTIONS
from harness.records.precision import Counts, Precision

IOUS = (0.5, 0.75)
DIGITS = 4


class Counted(NamedTuple):
    """Detections at the first of `IOUS` that COCO does not ignore, of all classes together."""

    scores: NDArray[np.float64]  # [D] falling
    right: NDArray[np.bool_]  # [D] whether each finds an object
    ids: NDArray[np.int64]  # [D] their places among the detections, from 1
    objects: int  # what is to be found

    def upto(self, number: int) -> Counts:
        """Count the surest so many; the score is that of the last, 1 without any."""
        score = float(self.scores[number - 1]) if number else 1.0
        return Counts(score, int(self.right[:number].sum()), number, self.objects)


class Followed(NamedTuple):
    """What detections come to, those of the greatest F1 and all of them."""

    precision: Precision
    whole: Counts


def measure(
    ground_truth: Mapping[str, Any],
    detections: Sequence[dict[str, Any]],
    max_detections: int = MAX_DETECTIONS[-1],
) -> Precision | None:
    """Follow precision along recall, and count which classes are taken for which.

    Args:
        ground_truth: a COCO annotation file's content; crowd, and what lies on it, is ignored.
        detections: COCO results with `image_id`, `category_id`, `bbox` xywh, and `score`.
        max_detections: how many count in an image and class.

    Returns:
        None where there is nothing to find. Means of the curves are COCO's AP to rounding.
    """
    found = follow(ground_truth, detections, max_detections)
    return found and found.precision


def follow(
    ground_truth: Mapping[str, Any], detections: Sequence[dict[str, Any]], max_detections: int
) -> Followed | None:
    """Do what `measure` does, and count all detections, too."""
    truth = hotcoco.COCO(dict(ground_truth))
    evaluator = hotcoco.COCOeval(truth, truth.load_res(list(detections)), "bbox")
    _at_few_thresholds(evaluator, max_detections)
    evaluator.evaluate()
    evaluator.accumulate()
    counted = _counted(evaluator)
    if not counted.objects:
        return None
    chosen = counted.upto(best(counted))
    kept = [detections[place - 1] for place in counted.ids[: chosen.found].tolist()]
    categories = sorted(ground_truth["categories"], key=lambda category: int(category["id"]))
    precision = Precision(
        classes=[str(category["name"]) for category in categories],
        ious=list(IOUS),
        curves=_curves(evaluator),
        score=chosen.score,
        right=chosen.right,
        found=chosen.found,
        objects=chosen.objects,
        confusion=_confusion(truth, kept),
    )
    return Followed(precision, counted.upto(len(counted.scores)))


def best(counted: Counted) -> int:
    """Return how many of the surest detections give the greatest F1; equal scores stay together."""
    scores = counted.scores
    if not len(scores):
        return 0
    ends = np.flatnonzero(np.append(scores[1:] < scores[:-1], True))
    right, found = np.cumsum(counted.right)[ends], ends + 1
    return int(found[np.argmax(2 * right / (found + counted.objects))])


def _at_few_thresholds(evaluator: hotcoco.COCOeval, max_detections: int) -> None:
    """Look at objects of any size, at the overlaps that are shown."""
    params = evaluator.params
    params.iou_thrs = list(IOUS)
    params.area_rng, params.area_rng_lbl = params.area_rng[:1], params.area_rng_lbl[:1]
    params.max_dets = [max_detections]


def _counted(evaluator: hotcoco.COCOeval) -> Counted:
    """Gather the detections of all images and classes."""
    scores: list[float] = []
    right: list[bool] = []
    ids: list[int] = []
    objects = 0
    for item in filter(None, evaluator.eval_imgs):
        objects += sum(item["gtInDenominator"])
        rows = (item["dtScores"], item["dtIds"], item["dtMatched"][0], item["dtIgnore"][0])
        for score, key, matched, ignored in zip(*rows, strict=True):
            if not ignored:
                scores.append(score)
                right.append(matched)
                ids.append(key)
    order = np.argsort(-np.array(scores, np.float64), kind="stable")
    return Counted(
        np.array(scores, np.float64)[order],
        np.array(right, np.bool_)[order],
        np.array(ids, np.int64)[order],
        objects,
    )


def _curves(evaluator: hotcoco.COCOeval) -> list[list[list[float]]]:
    """Return precision by overlap, class and recall; nothing of a class without an object."""
    assert evaluator.eval is not None
    found = np.asarray(evaluator.eval["precision"])[..., 0, 0]  # [IoU, recall, class]
    return [
        [curve.round(DIGITS).tolist() if curve[0] > -1 else [] for curve in by_class.T]
        for by_class in found
    ]


def _confusion(truth: hotcoco.COCO, kept: list[dict[str, Any]]) -> list[list[int]]:
    """Count classes against classes, the last row and column for none."""
    evaluator = hotcoco.COCOeval(truth, truth.load_res(kept), "bbox")
    found = evaluator.confusion_matrix(iou_thr=IOUS[0], max_det=max(len(kept), 1))
    matrix: list[list[int]] = np.asarray(found["matrix"]).astype(np.int64).tolist()
    return matrix
