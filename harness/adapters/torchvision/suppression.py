"""Suppression as torchvision's dense detectors have it behind their heads."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchvision.ops import batched_nms

from detectors.interface import Detections, as_float32
from detectors.postprocess import NMS
from harness.adapters.torchvision.suppression_config import PartedNMSConfig


class PartedOutputs(NamedTuple):
    """Predictions of several levels, one after another; satisfies `Outputs`."""

    confidences: Tensor  # [B, N, C] in [0, 1]
    boxes: Tensor  # [B, N, 4] xyxy, input pixels, not clipped
    parts: tuple[int, ...]  # predictions of each level, N together

    @property
    def logits(self) -> Tensor:
        """[B, N, C], before sigmoid."""
        return self.confidences.logit(eps=torch.finfo(self.confidences.dtype).tiny)

    def scores(self) -> Tensor:
        """Return the class scores, [B, N, C] in [0, 1]."""
        return self.confidences


class PartedNMS(NMS):
    """Keep the best of overlapping boxes of one class; boxes without area stay.

    Source: torchvision 0.29 models/detection fcos.py, retinanet.py and ssd.py,
    `postprocess_detections` (BSD-3-Clause), equal in numbers
    (tests/harness/adapters/test_torchvision.py).
    """

    config: PartedNMSConfig
    without_waiting: Any = None  # suppression of fixed size does not know parts

    def forward(self, outputs: Any, sizes: Tensor) -> list[Detections]:
        """Find objects.

        Args:
            outputs: `PartedOutputs`.
            sizes: [B, 2] (h, w) of the real image inside the input, pixels.

        Returns:
            One `Detections` per image, boxes clipped to `sizes`.
        """
        outputs = as_float32(outputs)
        triples = zip(outputs.scores(), outputs.boxes, sizes, strict=True)
        return [self._found(*triple, outputs.parts) for triple in triples]

    def candidates(self, outputs: Any) -> Tensor:
        """Return how many boxes of each image would enter suppression, [B]."""
        scores = as_float32(outputs).scores()
        parts = self._parts(scores, outputs.parts)
        counts = [
            (part > self.config.score_threshold)
            .flatten(1)
            .sum(1)
            .clamp(max=self.config.max_candidates)
            for part, _, _ in parts
        ]
        return torch.stack(counts).sum(0)

    def _parts(self, scores: Tensor, parts: tuple[int, ...]) -> Iterator[tuple[Tensor, int, int]]:
        """Yield the scores [..., n, c] of each part, its first prediction and its first class."""
        if self.config.limited_by == "class":
            for label in range(scores.shape[-1]):
                yield scores[..., label : label + 1], 0, label
            return
        first = 0
        for part in torch.split(scores, list(parts), dim=-2):
            yield part, first, 0
            first += part.shape[-2]

    def _found(
        self, scores: Tensor, boxes: Tensor, size: Tensor, parts: tuple[int, ...]
    ) -> Detections:
        """Return one image's detections, best first."""
        chosen, places, labels = [], [], []
        for part, first, label in self._parts(scores, parts):
            classes = part.shape[1]
            above = (part.flatten() > self.config.score_threshold).nonzero()[:, 0]
            best, order = part.flatten()[above].topk(min(self.config.max_candidates, len(above)))
            index = above[order]
            chosen.append(best)
            places.append(first + index // classes)
            labels.append(label + index % classes)
        score, label_of = torch.cat(chosen), torch.cat(labels)
        limits = size.flip(0).repeat(2).to(boxes)  # w, h, w, h
        found = boxes[torch.cat(places)].clamp(min=0).minimum(limits)
        groups = torch.zeros_like(label_of) if self.config.class_agnostic else label_of
        keep = batched_nms(found, score, groups, self.config.iou_threshold)
        keep = keep[: self.config.max_detections]
        return Detections(found[keep], score[keep], label_of[keep])
