"""Accuracy: what a detector finds in a split, and the mAP of that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import hotcoco
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detectors.interface import Detections, Detector
from harness.data import (
    Batch,
    DataSet,
    Split,
    Workers,
    loading_processes,
    normalize,
    span,
    to_original,
    val_loader,
)
from harness.data.coco import take
from harness.measure.accuracy import detections as stored
from harness.records import RecordError, record
from harness.records.progress import OnProgress, Progress, ignore
from harness.training import processes

MAX_DETECTIONS = (1, 10, 100)
# As pycocotools has them, rounded.
IOU_THRESHOLDS = (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)
FOUND_IOU = 0.5  # from which on TIDE counts an object as found
BACKGROUND_IOU = 0.1  # below which TIDE counts a detection as one of the background
AREAS = ("all", "small", "medium", "large")  # the order in which COCO's evaluator counts them


Floats = NDArray[np.float64]


class Score(NamedTuple):
    """The accuracy of detections."""

    metrics: dict[str, float]  # mAP, mAP_50, mAP_75, mAP_s, mAP_m, mAP_l in [0, 1]
    details: dict[str, Any]
    """`AR_*`: recalls in [0, 1]; `per_class`: mAP by category name; `per_iou`: AP by threshold;
    `tide`: what errors cost, absent when there is nothing to find; `input_sizes`: (h, w) of the
    smallest and the largest input of a detector that takes photographs as large as they are.
    """


class Evaluation(NamedTuple):
    """The accuracy of a detector, and the detections it was computed from."""

    metrics: dict[str, float]
    details: dict[str, Any]
    detections: list[dict[str, Any]]  # COCO results: xywh in original pixels, category ids


def evaluate(
    detector: Detector,
    split: Split,
    *,
    device: str,
    batch_size: int = 8,
    workers: Workers = "auto",
    on_progress: OnProgress = ignore,
) -> Evaluation:
    """Measure the accuracy of a detector, deployed, on a split.

    Under `torchrun` its processes share the images, and all return the same.

    Args:
        detector: the original; it stays as it is.
        split: its ground truth, crowd included, is what detections are compared with.
        device: `cpu`, `cuda` or `cuda:N`.
        batch_size: images at once; the results don't depend on it, but for rounding.
        workers: processes that load images, as in a recipe.
        on_progress: called after every batch, phase `evaluate`, counting images.
    """
    deployed = detector.deploy().to(device)
    detections: list[dict[str, Any]] = []
    share, done = _share(split), 0
    for found in detect(deployed, share, device=device, batch_size=batch_size, workers=workers):
        detections += found.results
        done += found.images
        on_progress(Progress("evaluate", done, len(share), {}))
    detections = [each for part in processes.gather(detections) for each in part]
    scored = score(split.ground_truth(), detections)
    photographs = ((image.height, image.width) for image in split.images)
    sizes = span(photographs, detector.config.input)
    details = scored.details | ({"input_sizes": sizes} if sizes else {})
    return Evaluation(scored.metrics, details, detections)


class Found(NamedTuple):
    """What was found in one batch."""

    images: int
    results: list[dict[str, Any]]  # COCO results: xywh in original pixels, category ids


def detect(
    deployed: Detector, split: Split, *, device: str, batch_size: int = 8, workers: Workers = "auto"
) -> Iterator[Found]:
    """Yield what a detector finds in a split, batch by batch.

    Args:
        deployed: from `deploy()`, on the device.
        split: its images are read in order; its annotations do not matter.
        device: `cpu`, `cuda` or `cuda:N`.
        batch_size: images at once; the results don't depend on it, but for rounding. One at a
            time where inputs are as large as photographs: none is padded for its neighbours.
        workers: processes that load images, as in a recipe.

    Raises:
        DataError: an image cannot be read.
    """
    config = deployed.config.input
    loading, together = loading_processes(workers, device), 1 if config.varies else batch_size
    for batch in val_loader(split, config, together, loading):
        images = normalize(batch.images.to(device), config)
        found = deployed.detect(images, batch.sizes.to(device))
        yield Found(len(found), _results(found, batch, split))


def _share(split: Split) -> Split:
    """Return this process's images of a split: a run of them, so that parts joined are in order."""
    ends = np.linspace(0, len(split), processes.count() + 1).round().astype(int)
    return take(split, np.arange(*ends[processes.rank() :][:2]))


def score(
    ground_truth: dict[str, Any],
    detections: Sequence[dict[str, Any]],
    max_detections: Sequence[int] = MAX_DETECTIONS,
) -> Score:
    """Compute COCO's box metrics, equal to those of pycocotools.

    Args:
        ground_truth: a COCO annotation file's content; crowd is ignored as COCO does.
        detections: COCO results with `image_id`, `category_id`, `bbox` xywh, and `score`.
        max_detections: rising numbers of detections an image and class. Precision is that of the
            largest; recall is given at each (`AR_1`, ...), and by area at the largest.

    Returns:
        Metrics without those that have no ground truth, such as `mAP_s` without small objects.

    Raises:
        ValueError: a detection in an image or of a category that the ground truth does not have.
    """
    _check_ids(ground_truth, detections)
    evaluator = match(ground_truth, detections, max_detections)
    precision, recall = _accumulate(evaluator)
    best = precision[..., -1]
    metrics = {
        "mAP": _mean(best[:, :, :, 0]),
        "mAP_50": _mean(best[0, :, :, 0]),
        "mAP_75": _mean(best[5, :, :, 0]),
    }
    details = {f"AR_{n}": _mean(recall[:, :, 0, i]) for i, n in enumerate(max_detections)}
    for index, area in enumerate(AREAS[1:], start=1):
        metrics[f"mAP_{area[0]}"] = _mean(best[..., index])
        details[f"AR_{area[0]}"] = _mean(recall[:, :, index, -1])
    groups: dict[str, Any] = {"per_class": _per_class(ground_truth["categories"], best[..., 0])}
    if metrics["mAP"] is not None:
        thresholds = zip(IOU_THRESHOLDS, best[..., 0], strict=True)
        groups["per_iou"] = _present({f"{iou:.2f}": _mean(values) for iou, values in thresholds})
        groups["tide"] = errors(evaluator)
    return Score(_present(metrics), {**_present(details), **groups})


def _accumulate(evaluator: hotcoco.COCOeval) -> tuple[Floats, Floats]:
    """Return precision [IoU, recall, class, area, max_detections], and recall without the second.

    Both are -1 where there is nothing to find.
    """
    evaluator.accumulate()
    evaluated = evaluator.eval
    assert evaluated is not None
    return np.asarray(evaluated["precision"]), np.asarray(evaluated["recall"])


def rescore(folder: Path, dataset: DataSet) -> Score:
    """Compute the accuracy of a finished trial again, from its stored detections.

    Args:
        folder: the trial's, with its record and its detections.
        dataset: what the trial was evaluated on.

    Raises:
        RecordError: the trial has no detections, or the data set is another.
    """
    result = record.read(folder)
    if "detections" not in result.artifacts:
        raise RecordError(f"{folder}: the trial stored no detections; it {_ending(result)}")
    fingerprint = result.data.get("fingerprint")
    if fingerprint != dataset.fingerprint:
        raise RecordError(
            f"{folder}: evaluated on data of fingerprint {fingerprint}, data set {dataset.name} has"
            f" {dataset.fingerprint}; name the data set that the trial was run with"
        )
    found = stored.read(record.artifact(folder, result.artifacts["detections"]))
    return score(dataset.val.ground_truth(), found, max_detections(result))


def max_detections(result: record.Record) -> tuple[int, ...]:
    """Return how many detections an image and class a record's figures count."""
    return tuple(result.protocol.get("max_detections", MAX_DETECTIONS))


def _ending(result: record.Record) -> str:
    return f"ended as {result.state}" if result.failure else "did not measure accuracy"


def errors(evaluator: hotcoco.COCOeval) -> dict[str, Any]:
    """Say which kinds of error there are, and what each costs.

    Returns:
        `counts` and `delta_ap`, both by kind: `Cls` (right place, wrong class), `Loc` (right class,
        overlap of 0.1 to 0.5), `Both` (overlap of 0.1 to 0.5 with another class), `Dupe` (found
        before), `Bkg` (nothing there), `Miss` (an object that no other error explains). A kind's
        `delta_ap` is what `ap`, at IoU 0.5, would gain if its errors were mended; mending all `FP`
        or all `FN` likewise. The gains do not add up to 1 - `ap`. `share` is a kind's part of the
        sum over the six kinds; absent when there are no errors.

    Source: TIDE, arXiv:2008.08115, sec. 2.2.
    """
    found = evaluator.tide_errors(pos_thr=FOUND_IOU, bg_thr=BACKGROUND_IOU)
    gains = {kind: float(gain) for kind, gain in found["delta_ap"].items()}
    total = sum(gains[kind] for kind in found["counts"])
    shares = {kind: gains[kind] / total for kind in found["counts"]} if total > 0 else {}
    result = {"ap": float(found["ap_base"]), "delta_ap": gains, "counts": dict(found["counts"])}
    return result | ({"share": shares} if shares else {})


def _check_ids(ground_truth: dict[str, Any], detections: Sequence[dict[str, Any]]) -> None:
    """Refuse detections that could never match: they mean that ids were mixed up."""
    for key, group in (("image_id", "images"), ("category_id", "categories")):
        known = {item["id"] for item in ground_truth[group]}
        unknown = sorted({item[key] for item in detections} - known)
        if unknown:
            raise ValueError(
                f"{len(unknown)} values of {key} in the detections are not among the {len(known)} "
                f"{group} of the ground truth, the first is {unknown[0]}"
            )


def match(
    ground_truth: dict[str, Any],
    detections: Sequence[dict[str, Any]],
    max_detections: Sequence[int],
) -> hotcoco.COCOeval:
    """Match detections with ground truth as COCO does."""
    truth = hotcoco.COCO(ground_truth)
    evaluator = hotcoco.COCOeval(truth, truth.load_res(list(detections)), "bbox")
    evaluator.params.max_dets = list(max_detections)
    evaluator.evaluate()
    return evaluator


def _mean(values: Floats) -> float | None:
    """Average what has ground truth; the rest is -1. None when nothing has."""
    values = values[values > -1]
    return float(np.mean(values)) if values.size else None


def _present(values: dict[str, float | None]) -> dict[str, float]:
    return {name: value for name, value in values.items() if value is not None}


def _per_class(categories: list[dict[str, Any]], precision: Floats) -> dict[str, float]:
    """Return the mAP of every category with ground truth; classes are sorted by id."""
    names = [category["name"] for category in sorted(categories, key=lambda c: int(c["id"]))]
    return _present({name: _mean(precision[:, :, i]) for i, name in enumerate(names)})


def _results(found: list[Detections], batch: Batch, split: Split) -> list[dict[str, Any]]:
    """Turn the detections of a batch into COCO results, without classes the split does not have.

    A detector that is made for more classes may find them, but nothing says whether they are there.
    Numbers are of single precision, as they are stored: what is scored can be scored again.
    """
    results: list[dict[str, Any]] = []
    known = dict(enumerate(split.ids_found))
    counts = [len(item.scores) for item in found]
    rows = zip(torch.split(_fetch(found), counts), batch.sizes, batch.original_sizes, strict=True)
    for index, (row, size, original_size) in zip(batch.indices.tolist(), rows, strict=True):
        found_ids = [known.get(int(label)) for label in row[:, 5].tolist()]
        kept = [place for place, category_id in enumerate(found_ids) if category_id is not None]
        row = row[kept]
        boxes = to_original(row[:, :4], size, original_size)
        boxes[:, 2:] -= boxes[:, :2]
        image_id = split.images[index].id
        for box, confidence, place in zip(
            boxes.float().tolist(), row[:, 4].float().tolist(), kept, strict=True
        ):
            category_id = found_ids[place]
            results.append(
                {"image_id": image_id, "category_id": category_id, "bbox": box, "score": confidence}
            )
    return results


def _fetch(found: list[Detections]) -> Tensor:
    """Copy the detections of a batch from the device at once.

    Returns:
        [sum of K, 6] float64 on the CPU: box xyxy in input pixels, score, label.
    """
    rows = [
        torch.cat([item.boxes, item.scores[:, None], item.labels[:, None]], dim=1) for item in found
    ]
    return torch.cat(rows).cpu().double()
