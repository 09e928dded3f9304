"""The mAP of many settings of postprocessing, from outputs that were kept.

Settings that only cut the list of detections, which is best first, share one suppression: what a
stricter threshold or a smaller maximum finds is the beginning of what the loosest finds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import hotcoco
import numpy as np
from numpy.typing import NDArray
from torch import nn

from detectors.config import override
from detectors.interface import Detections
from harness.analysis.frontier.cache import Cached
from harness.data import Split, to_original
from harness.records.progress import OnProgress, Progress, ignore

CUTS = ("score_threshold", "max_detections")
"""Knobs that only shorten the list of detections."""
COCO_LIMITS = [1, 10, 100]  # detections of an image and class that COCO's recalls are given at
UNKNOWN = -np.inf  # category id of a class that the split does not have

Setting = dict[str, Any]  # knob of the postprocess stage: value
Rows = NDArray[np.float64]  # [K, 7] image id, box xywh in original pixels, score, category id


def with_knobs(stage: nn.Module, setting: Mapping[str, Any]) -> nn.Module:
    """Make a postprocess stage like another, with some knobs turned."""
    kind: Callable[[Any], nn.Module] = type(stage)
    return kind(override(stage.config, setting)).eval()


def accuracies(
    stage: nn.Module,
    settings: Sequence[Setting],
    kept: Sequence[Cached],
    split: Split,
    on_progress: OnProgress = ignore,
) -> list[dict[str, float]]:
    """Compute `mAP`, `mAP_50` and `mAP_75` of every setting, without those that have no object.

    Args:
        stage: a postprocess stage; its knobs are turned.
        settings: all of the same knobs.
        kept: what every setting needs of the outputs.
        split: its ground truth is what detections are compared with.
        on_progress: called after every group of settings that share their suppression.
    """
    stages = [with_knobs(stage, setting) for setting in settings]
    truth = hotcoco.COCO(split.ground_truth())
    groups: dict[str, list[int]] = {}
    for index, setting in enumerate(settings):
        own = {name: value for name, value in setting.items() if name not in CUTS}
        groups.setdefault(repr(own), []).append(index)
    scores: dict[int, dict[str, float]] = {}
    for members in groups.values():
        found = _Found.of(_loosest([stages[index] for index in members]), kept, split)
        for index in members:
            scores[index] = _score(truth, found.cut(stages[index].config))
        on_progress(Progress("settings", len(scores), len(stages), {}))
    return [scores[index] for index in range(len(stages))]


def detections(stage: nn.Module, kept: Sequence[Cached], split: Split) -> list[dict[str, Any]]:
    """Return what a postprocess stage finds, as COCO results; its score is made of the same."""
    return [
        {"image_id": int(image), "category_id": int(key), "bbox": box, "score": score}
        for image, *box, score, key in _Found.of(stage, kept, split).rows.tolist()
    ]


def _loosest(stages: Sequence[nn.Module]) -> nn.Module:
    """Return a stage whose detections hold those of all others, which differ in cuts alone."""
    ends: dict[str, Callable[..., Any]] = {"score_threshold": min, "max_detections": max}
    present = [name for name in CUTS if hasattr(stages[0].config, name)]
    widest = {name: ends[name](getattr(stage.config, name) for stage in stages) for name in present}
    return with_knobs(stages[0], widest)


class _Found(NamedTuple):
    """What a stage finds in all images."""

    rows: Rows
    place: NDArray[np.int64]  # [K] among the detections of its image, from 0

    @classmethod
    def of(cls, stage: nn.Module, kept: Sequence[Cached], split: Split) -> _Found:
        """Run a stage over all images."""
        rows, places = [], []
        for item in kept:
            found = stage(item.outputs(), item.size[None])[0]
            rows.append(_rows(found, item, split))
            places.append(np.arange(len(found.scores)))
        table, place = np.concatenate(rows), np.concatenate(places)
        known = table[:, 6] != UNKNOWN
        return cls(table[known], place[known])

    def cut(self, config: Any) -> Rows:
        """Return the rows that a stricter stage finds."""
        above = np.float32(getattr(config, "score_threshold", 0.0))
        most = getattr(config, "max_detections", None)
        chosen = self.rows[:, 5] > above if above > 0 else np.ones(len(self.rows), bool)
        rows: Rows = self.rows[chosen if most is None else chosen & (self.place < most)]
        return rows


def _rows(found: Detections, item: Cached, split: Split) -> Rows:
    """Turn detections into rows, rounded as they are stored."""
    boxes = to_original(found.boxes.double(), item.size, item.original_size)
    boxes[:, 2:] -= boxes[:, :2]
    known = dict(enumerate(split.ids_found))
    by_label = (known.get(label) for label in range(item.classes))
    ids = np.array([UNKNOWN if key is None else key for key in by_label], np.float64)
    rows = np.empty((len(found.scores), 7))
    rows[:, 0] = split.images[item.image].id
    rows[:, 1:5] = boxes.float().numpy()
    rows[:, 5] = found.scores.numpy()
    rows[:, 6] = ids[found.labels.numpy()]
    return rows


def _score(truth: hotcoco.COCO, rows: Rows) -> dict[str, float]:
    """Compute COCO's mAP; nothing where there is no ground truth."""
    evaluator = hotcoco.COCOeval(truth, truth.load_res(rows), "bbox")
    evaluator.params.max_dets = COCO_LIMITS
    evaluator.evaluate()
    evaluator.accumulate()
    evaluated = evaluator.eval
    assert evaluated is not None
    precision = np.asarray(evaluated["precision"])[..., 0, -1]  # [IoU, recall, class]
    named = {"mAP": precision, "mAP_50": precision[0], "mAP_75": precision[5]}
    known = {name: values[values > -1] for name, values in named.items()}
    return {name: float(np.mean(values)) for name, values in known.items() if values.size}
