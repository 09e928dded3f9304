"""Which detections of which images were right, so that AP can be had of any draw of the images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.machine.quiet import uncollected
from harness.measure.accuracy.evaluate import AREAS, IOU_THRESHOLDS, errors
from harness.measure.accuracy.evaluate import match as match_images

ERRORS = ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss")
RECALLS = np.linspace(0.0, 1.0, 101)

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]


class Ranking(NamedTuple):
    """Detections that count, group after group, and in each the surest first."""

    image: Integers  # [E] index of the image of each
    group: Integers  # [E] rising
    hits: Integers  # [P] positions of those that are right


class _Found(NamedTuple):
    """Detections of one class in one image, as compared at one range of areas."""

    image: int
    kind: int  # class
    area: int
    scores: list[float]
    right: NDArray[np.bool_]  # [T, D]
    counted: NDArray[np.bool_]  # [T, D] neither ignored nor matched with what is ignored


@dataclass(frozen=True, eq=False)
class Matches:
    """How the detections of a run compare with the ground truth of a split.

    T is the number of IoU thresholds, C that of the classes, and area 0 is any.
    """

    classes: tuple[str, ...]
    image_ids: tuple[int, ...]
    objects: NDArray[np.int64]  # [images, areas, C] that are to be found
    errors: NDArray[np.int64]  # [images, kinds of ERRORS]
    ranking: Ranking  # groups are (area, T, C), in this order
    alone: Ranking  # of area 0; groups are (image, T, C)

    def precision(self, weights: Floats) -> Floats:
        """Return AP when each image counts as often as its weight says.

        It is COCO's AP of a set in which copies of an image stand side by side; no AP where there
        is nothing to find.

        Args:
            weights: [images] how often each is drawn.

        Returns:
            [areas, T, C], NaN where a class has no object.
        """
        _, areas, classes = self.objects.shape
        wanted = np.tensordot(weights, self.objects, axes=1)  # [areas, C]
        shape = (areas, len(IOU_THRESHOLDS), classes)
        wanted = np.broadcast_to(wanted[:, None], shape).reshape(-1)
        return _precision(self.ranking, weights, wanted).reshape(shape)

    def precision_alone(self) -> Floats:
        """Return the AP of each image by itself, over its classes and all thresholds, [images]."""
        images, _, classes = self.objects.shape
        shape = (images, len(IOU_THRESHOLDS), classes)
        wanted = np.broadcast_to(self.objects[:, :1], shape).reshape(-1).astype(np.float64)
        found = _precision(self.alone, np.ones(images), wanted).reshape(images, -1)
        return mean(found)


def match(
    ground_truth: dict[str, Any],
    detections: Sequence[dict[str, Any]],
    max_detections: Sequence[int],
) -> Matches:
    """Match the detections of every image with its ground truth, as COCO does.

    Args:
        ground_truth: a COCO annotation file's content.
        detections: COCO results.
        max_detections: the largest is how many count in an image and class.
    """
    images = sorted(ground_truth["images"], key=lambda image: int(image["id"]))
    categories = sorted(ground_truth["categories"], key=lambda category: int(category["id"]))
    kinds = {category["id"]: index for index, category in enumerate(categories)}
    objects = np.zeros((len(images), len(AREAS), len(categories)), np.int64)
    mistakes = np.zeros((len(images), len(ERRORS)), np.int64)
    truth, results = _by_image(ground_truth["annotations"]), _by_image(detections)
    found: list[_Found] = []
    with uncollected():
        for index, image in enumerate(images):
            part = {"images": [image], "categories": categories, "annotations": truth[image["id"]]}
            evaluator = match_images(part, results[image["id"]], max_detections)
            counts = errors(evaluator)["counts"]
            mistakes[index] = [counts[name] for name in ERRORS]
            ranges = evaluator.params.area_rng
            for item in filter(None, evaluator.eval_imgs):
                area, kind = ranges.index(item["aRng"]), kinds[item["category_id"]]
                objects[index, area, kind] = len(item["gtIgnore"]) - sum(item["gtIgnore"])
                found.append(_found(index, kind, area, item))
    return Matches(
        tuple(category["name"] for category in categories),
        tuple(image["id"] for image in images),
        objects,
        mistakes,
        _rank(found, len(categories)),
        _rank(_alone(found), len(categories)),
    )


def mean(values: Floats) -> Floats:
    """Average over the last axis what there is; NaN where there is nothing."""
    there = ~np.isnan(values)
    count = there.sum(axis=-1)
    total = np.where(there, values, 0.0).sum(axis=-1)
    result = np.full(total.shape, np.nan)
    np.divide(total, count, out=result, where=count > 0)
    return result


def _by_image(items: Iterable[dict[str, Any]]) -> dict[Any, list[dict[str, Any]]]:
    groups: dict[Any, list[dict[str, Any]]] = defaultdict(list)
    for item in items:
        groups[item["image_id"]].append(item)
    return groups


def _found(image: int, kind: int, area: int, item: dict[str, Any]) -> _Found:
    shape = (len(IOU_THRESHOLDS), len(item["dtScores"]))
    right = np.array(item["dtMatched"], bool).reshape(shape)
    counted = ~np.array(item["dtIgnore"], bool).reshape(shape)
    return _Found(image, kind, area, item["dtScores"], right & counted, counted)


def _alone(found: Iterable[_Found]) -> Iterator[_Found]:
    """Put the index of the image in the place of the area, so that it makes groups."""
    return (item._replace(area=item.image) for item in found if item.area == 0)


def _rank(found: Iterable[_Found], classes: int) -> Ranking:
    """Sort detections as COCO does: by score, and equal ones by image."""
    found = list(found)
    counts = [len(item.scores) for item in found]
    empty = np.zeros((len(IOU_THRESHOLDS), 0), bool)
    right = np.concatenate([empty, *(item.right for item in found)], axis=1)
    counted = np.concatenate([empty, *(item.counted for item in found)], axis=1)
    scores = np.array([score for item in found for score in item.scores], np.float64)
    image, kind, area = (
        np.repeat(np.array([item[field] for item in found], np.int64), counts) for field in range(3)
    )
    threshold, column = np.nonzero(counted)
    group = (area[column] * len(IOU_THRESHOLDS) + threshold) * classes + kind[column]
    order = np.lexsort((image[column], -scores[column], group))
    threshold, column = threshold[order], column[order]
    return Ranking(image[column], group[order], np.flatnonzero(right[threshold, column]))


def _precision(ranking: Ranking, weights: Floats, wanted: Floats) -> Floats:
    """Compute the interpolated AP of every group.

    Args:
        ranking: groups index `wanted`.
        weights: [images]
        wanted: [groups] objects to find, weighted.

    Returns:
        [groups] NaN where nothing is wanted.
    """
    groups = ranking.group[ranking.hits]
    seen = _sum_in_group(weights[ranking.image], ranking.group)[ranking.hits]
    weight = weights[ranking.image[ranking.hits]]
    drawn = weight > 0
    groups, seen, weight = groups[drawn], seen[drawn], weight[drawn]
    right = _sum_in_group(weight, groups)
    reached = np.searchsorted(RECALLS, right / wanted[groups], side="right")
    gained = np.diff(reached, prepend=0)
    first = np.diff(groups, prepend=-1) > 0
    gained[first] = reached[first]
    best = _best_from_here(right / seen, groups)
    total = np.bincount(groups, best * gained, minlength=len(wanted)) / len(RECALLS)
    return np.where(wanted > 0, total, np.nan)


def _sum_in_group(values: Floats, group: Integers) -> Floats:
    """Add up values from the start of their group on."""
    sums = np.cumsum(values)
    starts = np.flatnonzero(np.diff(group, prepend=-1))
    before = np.concatenate([[0.0], sums])[starts]
    lengths = np.diff(np.append(starts, len(group)))
    return np.asarray(sums - np.repeat(before, lengths))


def _best_from_here(precision: Floats, group: Integers) -> Floats:
    """Return the highest precision at or after each place of its group."""
    higher = 2.0 * (group.max(initial=0) - group)  # so that no group reaches into the one before
    return np.asarray(np.maximum.accumulate((precision + higher)[::-1])[::-1] - higher)
