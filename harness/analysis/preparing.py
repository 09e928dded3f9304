"""Are a model's images prepared as it was trained? Other ways are tried on a few of them.

A wrong order of channels, another scale or another way to resize costs a part of mAP, and nothing
else shows it. What tells soonest is the score of the surest right detection of each object, on
the same images; mAP has to be higher, too, as scores of everything may rise.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import box_iou

from detectors.config import override
from detectors.interface import Detector, InputConfig
from harness.analysis.compare import differences
from harness.analysis.compare.differences import Difference, Measured
from harness.data import Split
from harness.data.coco import take
from harness.measure.accuracy import evaluate
from harness.records.progress import OnProgress, Progress, ignore

IMAGES = 32  # with objects, that each way is tried on
OVERLAP = 0.5  # from which on a detection finds an object
_IMAGENET = ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375))  # red, green, blue


class Tried(NamedTuple):
    """One other way to prepare images."""

    way: str
    knobs: dict[str, Any]  # that turn it on, dotted path to value
    difference: Difference  # of how surely objects are found, [0, 1]
    given_map: float  # mAP of these images as they are asked for
    map: float  # and in this way

    @property
    def is_clearly_better(self) -> bool:
        """Whether it scores better than the way that was asked for, and not by chance."""
        surer = self.difference.told_apart and self.difference.difference > 0
        return surer and self.map > self.given_map

    def __str__(self) -> str:
        """Say in one line how it scores, and how it is turned on."""
        found = self.difference
        sets = " ".join(f"--set detector.{path}={_spelt(v)}" for path, v in self.knobs.items())
        return (
            f"{self.way}: mAP {self.map:.3f} against {self.given_map:.3f} on {found.images} images,"
            f" objects found with a score of {found.b:.3f} against {found.a:.3f}"
            f" ({sets})"
        )


def ways(given: InputConfig) -> dict[str, dict[str, Any]]:
    """Return other ways to prepare images: the knobs of the input that each turns."""
    others = {"rgb": "bgr", "bgr": "rgb"}
    mean, std = ((part if given.channels == "rgb" else part[::-1]) for part in _IMAGENET)
    scales = {
        "values from 0 to 1": ((0.0, 0.0, 0.0), (255.0, 255.0, 255.0)),
        "values from 0 to 255": ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        "ImageNet's mean and deviation": (mean, std),
    }
    swapped: dict[str, Any] = {"channels": others[given.channels]}
    if given.mean != given.mean[::-1] or given.std != given.std[::-1]:
        swapped |= {"mean": given.mean[::-1], "std": given.std[::-1]}
    resize = "letterbox" if given.resize == "stretch" else "stretch"
    found = {"channels in the other order": swapped, f"resize {resize}": {"resize": resize}}
    for name, (mean, std) in scales.items():
        if (mean, std) != (given.mean, given.std):
            found[name] = {"mean": mean, "std": std}
    return {
        name: {f"input.{key}": value for key, value in knobs.items()}
        for name, knobs in found.items()
    }


def try_ways(
    detector: Detector,
    split: Split,
    *,
    device: str,
    images: int = IMAGES,
    on_progress: OnProgress = ignore,
) -> list[Tried]:
    """Score other ways to prepare images against the one of a detector's config.

    Args:
        detector: the original; it stays as it is.
        split: the first of its images with objects are looked at.
        device: as torch spells it.
        images: how many at most.
        on_progress: called before each way.
    """
    counts = np.diff(split.annotations.offsets)
    part = take(split, np.flatnonzero(counts > 0)[:images])
    deployed, other = detector.deploy().to(device), ways(detector.config.input)
    if not len(part):
        return []
    told: list[dict[str, Any]] = [{}, *other.values()]
    seen = []
    for number, knobs in enumerate(told):
        on_progress(Progress("prepare", number, len(told), {}))
        seen.append(_look(deployed, knobs, part, device))
    first, rest = (
        seen[0][0],
        np.stack([sure for sure, _ in seen[1:]], axis=1),
    )  # [images], [images, ways]
    moved = rest - first[:, None]
    measured = Measured(
        list(other),
        np.full((1, len(other)), first.mean()),
        rest.mean(axis=0)[None],
        moved.var(axis=0) / len(moved),
        np.full(len(other), len(moved)),
    )
    found = {item.name: item for item in differences.compare(measured)}
    whole = [value for _, value in seen]
    return [
        Tried(name, knobs, found[name], whole[0], value)
        for (name, knobs), value in zip(other.items(), whole[1:], strict=True)
    ]


def _look(
    deployed: Detector, knobs: dict[str, Any], part: Split, device: str
) -> tuple[NDArray[np.float64], float]:
    """Return how surely the objects of each image are found, [images], and the mAP of all.

    See `_sureness`; images are prepared with some knobs turned.
    """
    variant = copy.copy(deployed)  # with the same network, which is not copied
    variant.config = override(deployed.config, knobs)
    batches = evaluate.detect(variant, part, device=device, workers=0)
    rows = [row for batch in batches for row in batch.results]
    truth = part.ground_truth()
    objects, found = (_by_image(items) for items in (truth["annotations"], rows))
    sure = [_sureness(objects[image.id], found[image.id]) for image in part.images]
    return np.array(sure), evaluate.score(truth, rows).metrics.get("mAP", 0.0)


def _by_image(items: list[dict[str, Any]]) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for item in items:
        found[item["image_id"]].append(item)
    return found


def _sureness(objects: list[dict[str, Any]], rows: list[dict[str, Any]]) -> float:
    """Return the mean over an image's objects of the score of the surest right detection of each.

    A detection is right that overlaps an object of its class by half or more.
    """
    if not rows or not objects:
        return 0.0
    overlaps = box_iou(_corners(objects), _corners(rows))  # [objects, rows]
    kinds, guesses = (
        torch.tensor([item["category_id"] for item in group]) for group in (objects, rows)
    )
    finds = (overlaps >= OVERLAP) & (kinds[:, None] == guesses)
    scores = torch.tensor([row["score"] for row in rows])
    return float((scores * finds).amax(dim=1).mean())


def _corners(items: list[dict[str, Any]]) -> Tensor:
    """Return the boxes of COCO's rows, [N, 4] xyxy."""
    boxes = torch.tensor([item["bbox"] for item in items])
    return torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], dim=1)


def _spelt(value: Any) -> str:
    """Write a value as the command line takes it."""
    return f"[{','.join(map(str, value))}]" if isinstance(value, tuple) else str(value)
