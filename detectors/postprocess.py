"""From predictions to detections: threshold, best candidates, suppression where it is needed."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from detectors.interface import Detections, Outputs, as_float32
from detectors.postprocess_config import NMSConfig, TopKConfig
from detectors.suppression import group_nms, static_nms

MOST_PAIRED = 4096  # candidates whose pairs are all compared at once, 64 MiB of them
STEPS = 32  # of `static_nms` where it may fall short; longer chains of suppression are rare


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

    def without_waiting(self) -> StaticNMS:
        """Return a stage that finds the same without waiting for the device, where it converges."""
        return StaticNMS(self.config, STEPS, min(self.config.max_candidates, MOST_PAIRED))

    def candidates(self, outputs: Outputs) -> Tensor:
        """Return how many boxes of each image would enter suppression, [B]."""
        scores: Tensor = as_float32(outputs).scores()
        above = scores > self.config.score_threshold
        return above.sum(dim=(1, 2)).clamp(max=self.config.max_candidates)

    def _select(self, scores: Tensor, boxes: Tensor, size: Tensor) -> Detections:
        """Return one image's candidates, best first, clipped; equal scores in the outputs' order.

        Args:
            scores: [N, C].
            boxes: [N, 4].
            size: [2] (h, w).
        """
        index, labels = (scores > self.config.score_threshold).nonzero(as_tuple=True)
        chosen, best = scores[index, labels].sort(descending=True, stable=True)
        chosen, best = chosen[: self.config.max_candidates], best[: self.config.max_candidates]
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


class PaddedDetections(NamedTuple):
    """What was found in a batch, in tensors of fixed size; zeros after the last detection."""

    boxes: Tensor  # [B, K, 4] xyxy, input pixels; best first
    scores: Tensor  # [B, K] in [0, 1]
    labels: Tensor  # [B, K] int64
    counts: Tensor  # [B] int64, detections of each image
    converged: Tensor  # [B] bool; where false, more steps might find others

    def unpad(self) -> list[Detections]:
        """Return the detections of each image; waits for the device."""
        parts = zip(self.boxes, self.scores, self.labels, self.counts.tolist(), strict=True)
        return [
            Detections(boxes[:count], scores[:count], labels[:count])
            for boxes, scores, labels, count in parts
        ]


class StaticNMS(nn.Module):
    """NMS that never waits for the device, and so can be captured in a CUDA graph.

    It finds what `NMS` finds, where `steps` suffice. Candidates of one score at the limit of
    `max_candidates` may differ.

    Args:
        config: of the `NMS` whose place it takes.
        steps: of `static_nms`; fewer than there are candidates are quicker, and `converged` tells
            afterwards whether they were enough.
        paired: the K best candidates whose pairs are all compared; None for all `max_candidates`.
            `converged` tells where an image has more.

    Raises:
        ValueError: more candidates than memory is reasonable for.
    """

    def __init__(
        self, config: NMSConfig, steps: int | None = None, paired: int | None = None
    ) -> None:
        super().__init__()
        self.paired = config.max_candidates if paired is None else paired
        if self.paired > MOST_PAIRED:
            raise ValueError(
                f"max_candidates {self.paired}: all pairs are compared at once; "
                f"set max_candidates to {MOST_PAIRED} or fewer"
            )
        self.config, self.steps = config, steps

    def forward(self, outputs: Outputs, sizes: Tensor) -> PaddedDetections:
        """Find objects.

        Args:
            outputs: of a dense head.
            sizes: [B, 2] (h, w) of the real image inside the input, pixels.
        """
        outputs = as_float32(outputs)
        boxes, scores, labels, alive = self._select(outputs, sizes)
        complete = self._is_complete(outputs)
        groups = torch.zeros_like(labels) if self.config.class_agnostic else labels
        keep, converged = static_nms(boxes, groups, alive, self.config.iou_threshold, self.steps)
        most = min(self.config.max_detections, keep.shape[1])
        place = torch.where(keep, keep.cumsum(1) - 1, most).clamp(max=most)  # [B, K]
        boxes, scores, labels = (_put(part, place, most) for part in (boxes, scores, labels))
        counts = keep.sum(dim=1).clamp(max=most)
        return PaddedDetections(boxes, scores, labels, counts, converged & complete)

    def _is_complete(self, outputs: Outputs) -> Tensor:
        """Say of which images all candidates are compared, [B] bool."""
        if self.paired >= self.config.max_candidates:
            return outputs.boxes.new_ones(len(outputs.boxes), dtype=torch.bool)
        above: Tensor = outputs.scores() > self.config.score_threshold
        return above.sum(dim=(1, 2)) <= self.paired

    def _select(self, outputs: Outputs, sizes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return the best pairs of box and class, and which of them are candidates.

        Returns:
            boxes [B, K, 4], scores [B, K], labels [B, K], alive [B, K]; best first, equal scores in
            the order of the outputs.
        """
        scores = outputs.scores()
        classes, scores = scores.shape[2], scores.flatten(1)  # [B, N * C]
        scores, index = scores.topk(min(self.paired, scores.shape[1]))  # [B, K]
        index, place = index.sort(dim=1)
        scores, order = scores.gather(1, place).sort(dim=1, descending=True, stable=True)
        index = index.gather(1, order)
        limits = sizes.flip(1).repeat(1, 2)[:, None].to(outputs.boxes)  # [B, 1, 4] w, h, w, h
        boxes = outputs.boxes.gather(1, (index // classes)[:, :, None].expand(-1, -1, 4))
        boxes = boxes.clamp(min=0).minimum(limits)
        real = (boxes[..., 2:] > boxes[..., :2]).all(dim=2)
        return boxes, scores, index % classes, real & (scores > self.config.score_threshold)


def _put(values: Tensor, place: Tensor, most: int) -> Tensor:
    """Move rows [B, K, ...] to their places among `most` zeros; place `most` is nowhere."""
    index = place if values.dim() == 2 else place[:, :, None].expand(values.shape)
    room = values.new_zeros((len(values), most + 1, *values.shape[2:]))
    return room.scatter(1, index, values)[:, :most]


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
