"""From predictions to detections: threshold, best candidates, suppression where it is needed."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torchvision.ops import nms

from detectors.config import inference_only
from detectors.interface import Detections, Outputs, as_float32


@dataclass(frozen=True)
class NMSConfig:
    """Thresholds and limits of non-maximum suppression."""

    score_threshold: float = inference_only(0.001)
    """A class of a box is a candidate when its score is above. Published figures use 0.001
    (rtmdet/table2) or 0.05 (the ablations, rtmdet/table5a_kernel and its neighbours)."""
    iou_threshold: float = inference_only(0.65)
    """Overlap above which the weaker of two boxes goes; rtmdet/readme_pre_pr9494 used 0.6."""
    max_candidates: int = inference_only(30000)
    """Most candidates of an image that enter suppression, the best ones."""
    max_detections: int = inference_only(300)
    """Most detections of an image, the best ones; 300 in rtmdet/table2, 100 in the ablations."""
    class_agnostic: bool = inference_only(False)
    """Whether boxes of different classes suppress each other; in no published table."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        if not (0 <= self.score_threshold < 1 and 0 <= self.iou_threshold <= 1):
            raise ValueError("score_threshold must be in [0, 1) and iou_threshold in [0, 1]")
        if min(self.max_candidates, self.max_detections) < 1:
            raise ValueError("max_candidates and max_detections must be at least 1")

    def build(self) -> NMS:
        """Make the stage."""
        return NMS(self)


class NMS(nn.Module):
    """Keep the best of overlapping boxes; a box may be found as several classes.

    Source: open-mmlab/mmdetection v3.3.0 mmdet/models/dense_heads/base_dense_head.py (Apache-2.0).
    Differs: `max_candidates` counts over all levels, not on each one, which can change an image
    only where fewer than `max_detections` of so many candidates survive.
    """

    def __init__(self, config: NMSConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, outputs: Outputs, sizes: Tensor) -> list[Detections]:
        """Find objects.

        Args:
            outputs: of a dense head.
            sizes: [B, 2] (h, w) of the real image inside the input, pixels.

        Returns:
            One `Detections` per image, boxes clipped to `sizes`.
        """
        outputs = as_float32(outputs)
        triples = zip(outputs.scores(), outputs.boxes, sizes, strict=True)
        return [self._suppress(self._select(*triple)) for triple in triples]

    def candidates(self, outputs: Outputs) -> Tensor:
        """Return how many boxes of each image would enter suppression, [B]."""
        scores: Tensor = as_float32(outputs).scores()
        above = scores > self.config.score_threshold
        return above.sum(dim=(1, 2)).clamp(max=self.config.max_candidates)

    def _select(self, scores: Tensor, boxes: Tensor, size: Tensor) -> Detections:
        """Return one image's candidates, best first, clipped.

        Args:
            scores: [N, C].
            boxes: [N, 4].
            size: [2] (h, w).
        """
        index, labels = (scores > self.config.score_threshold).nonzero(as_tuple=True)
        chosen = scores[index, labels]
        if len(chosen) > self.config.max_candidates:
            chosen, best = chosen.topk(self.config.max_candidates)
        else:
            chosen, best = chosen.sort(descending=True, stable=True)
        limits = size.flip(0).repeat(2).to(boxes)  # w, h, w, h
        clipped = boxes[index[best]].clamp(min=0).minimum(limits)
        real = (clipped[:, 2:] > clipped[:, :2]).all(dim=1)
        return Detections(clipped[real], chosen[real], labels[best][real])

    def _suppress(self, found: Detections) -> Detections:
        """Return the survivors among one image's candidates, best first."""
        groups = torch.zeros_like(found.labels) if self.config.class_agnostic else found.labels
        keep = group_nms(found.boxes, found.scores, groups, self.config.iou_threshold)
        keep = keep[: self.config.max_detections]
        return Detections(found.boxes[keep], found.scores[keep], found.labels[keep])


def group_nms(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """Suppress within each group.

    Args:
        boxes: [K, 4] xyxy, pixels.
        scores: [K], best first.
        groups: [K] int64; boxes of different groups leave each other alone.
        iou_threshold: overlap above which the weaker of two boxes goes.

    Returns:
        Indices of the survivors, best first.
    """
    if boxes.device.type == "cpu":
        return _nms_by_group(boxes, scores, groups, iou_threshold)
    return _nms_apart(boxes, scores, groups, iou_threshold)


def _nms_by_group(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """Run once a group: least work, since only boxes of one group are compared."""
    counts = groups.bincount()
    order = groups.argsort(stable=True)
    keep = torch.zeros(len(boxes), dtype=torch.bool)
    for members in torch.split(order, counts[counts > 0].tolist()):
        keep[members[nms(boxes[members], scores[members], iou_threshold)]] = True
    return keep.nonzero().squeeze(1)


def _nms_apart(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """Run once, with the groups moved apart: fewest calls, which is what an accelerator wants.

    In double precision, since the shift would cost small boxes their last digits in single.
    """
    if len(boxes) == 0:
        return groups
    shift = groups.double() * (boxes.max().double() - boxes.min().double() + 1)
    keep: Tensor = nms(boxes.double() + shift[:, None], scores.double(), iou_threshold)
    return keep


@dataclass(frozen=True)
class TopKConfig:
    """How many detections a detector makes that needs no suppression."""

    max_detections: int = inference_only(300)
    """Most detections of an image, the best ones; 300 in rtdetr/table2."""
    score_threshold: float = inference_only(0.0)
    """A class of a box is a detection when its score is above; 0 keeps all, as in
    rtdetr/table2."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        if self.max_detections < 1:
            raise ValueError("max_detections must be at least 1")
        if not 0 <= self.score_threshold < 1:
            raise ValueError("score_threshold must be in [0, 1)")

    def build(self) -> TopK:
        """Make the stage."""
        return TopK(self)


class TopK(nn.Module):
    """Keep the best pairs of a box and a class; a box may be found as several classes.

    Source: lyuwenyu/RT-DETR@068dfde rtdetr_pytorch/src/zoo/rtdetr/rtdetr_postprocessor.py
    (Apache-2.0), equal in numbers (tests/detectors/test_postprocess.py).
    Differs: boxes are clipped to the image, and there is a threshold.
    """

    def __init__(self, config: TopKConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, outputs: Outputs, sizes: Tensor) -> list[Detections]:
        """Find objects; waits for the device only where there is a threshold.

        Args:
            outputs: of a detector whose predictions do not repeat each other.
            sizes: [B, 2] (h, w) of the real image inside the input, pixels.

        Returns:
            One `Detections` per image, boxes clipped to `sizes`; those without area stay.
        """
        outputs = as_float32(outputs)
        scores = outputs.scores()
        classes = scores.shape[2]
        scores = scores.flatten(1)  # [B, N * C]
        scores, best = scores.topk(min(self.config.max_detections, scores.shape[1]))  # [B, K]
        index = (best // classes)[:, :, None].expand(-1, -1, 4)
        limits = sizes.flip(1).repeat(1, 2)[:, None].to(outputs.boxes)  # [B, 1, 4] w, h, w, h
        boxes = outputs.boxes.gather(1, index).clamp(min=0).minimum(limits)
        found = map(Detections, boxes, scores, best % classes)
        if self.config.score_threshold == 0:
            return list(found)
        above = (scores > self.config.score_threshold).sum(dim=1).tolist()
        return [
            Detections(*(part[:count] for part in each))
            for each, count in zip(found, above, strict=True)
        ]
