"""A foreign model under the contract of a detector, and the two kinds of what comes out of one."""

from __future__ import annotations

from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor, nn

from detectors.interface import Detections, Detector
from harness.adapters.foreign import Foreign
from harness.adapters.ready_config import ReadyConfig

IN_ONE_PIECE = "the network is in one piece"


class ScoredOutputs(NamedTuple):
    """Predictions whose scores are known as such, not as logits; satisfies `Outputs`."""

    confidences: Tensor  # [B, N, C] in [0, 1]
    boxes: Tensor  # [B, N, 4] xyxy, input pixels, not clipped

    @property
    def logits(self) -> Tensor:
        """[B, N, C], before sigmoid."""
        return self.confidences.logit(eps=torch.finfo(self.confidences.dtype).tiny)

    def scores(self) -> Tensor:
        """Return the class scores, [B, N, C] in [0, 1]."""
        return self.confidences


class ReadyOutputs(NamedTuple):
    """Detections that a network makes by itself; there are no logits."""

    boxes: Tensor  # [B, K, 4] xyxy, input pixels, not clipped
    scores: Tensor  # [B, K] in [0, 1]; 0 or below where nothing was found
    labels: Tensor  # [B, K] int64; below 0 where nothing was found


class Ready(nn.Module):
    """Keeps the best of a network's own detections, and clips them to the image."""

    inside = "inside the network"
    """Why the time of suppression, or of what takes its place, is none of this stage's."""

    def __init__(self, config: ReadyConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, outputs: ReadyOutputs, sizes: Tensor) -> list[Detections]:
        """Find objects.

        Args:
            outputs: of a network that makes detections by itself.
            sizes: [B, 2] (h, w) of the real image inside the input, pixels.

        Returns:
            One `Detections` per image, boxes clipped to `sizes`; those without area are dropped.
        """
        return [
            self._keep(*parts) for parts in zip(*outputs, sizes, strict=True)
        ]  # boxes, scores, labels, size

    def _keep(self, boxes: Tensor, scores: Tensor, labels: Tensor, size: Tensor) -> Detections:
        limits = size.flip(0).repeat(2).to(boxes)  # w, h, w, h
        clipped = boxes.clamp(min=0).minimum(limits)
        real = (clipped[:, 2:] > clipped[:, :2]).all(dim=1)
        found = real & (scores > self.config.score_threshold) & (labels >= 0)
        best, order = scores[found].sort(descending=True, stable=True)
        kept = slice(self.config.max_detections)
        return Detections(clipped[found][order][kept], best[kept], labels[found][order][kept])


class ForeignDetector(Detector):
    """A detector whose network is one stage.

    A subclass sets `config`, `network` and `postprocess`. `network` takes images, and returns a
    NamedTuple that satisfies `Outputs`, or `ReadyOutputs` where `postprocess` is `Ready`.
    """

    stages: ClassVar[tuple[str, ...]] = ("postprocess",)
    apart: ClassVar[str] = IN_ONE_PIECE
    config: Foreign
    network: nn.Module
    criterion = None

    def forward(self, images: Tensor) -> Any:
        """Predict, without a threshold, or find; see the class."""
        return self.network(images)

    def require_criterion(self) -> nn.Module:
        """Refuse: no loss of a foreign model is known.

        Raises:
            ValueError: always.
        """
        raise NotTrainableError(f"{self.config.name}: a foreign model has no losses here")


class NotTrainableError(ValueError):
    """Something that only a detector of ours can be asked for."""
