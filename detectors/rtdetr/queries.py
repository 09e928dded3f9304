"""What passes between RT-DETR's denoising, decoder and criterion in training."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from detectors.queries import Matches, Predictions


class Noise(NamedTuple):
    """D denoising queries an image, which start from objects that were shifted and relabelled.

    Groups stand one after the other; each holds every object twice, first shifted a little, then
    shifted far, filled up to the image with most objects.
    """

    labels: Tensor  # [B, D] int64; the number of classes where a query fills up
    boxes: Tensor  # [B, D, 4] cxcywh before sigmoid
    groups: int
    positives: Matches  # the queries that were shifted a little; their objects are known

    @property
    def queries(self) -> int:
        """The number of denoising queries, D."""
        return self.labels.shape[1]


class TrainingOutputs(NamedTuple):
    """Everything that RT-DETR's losses look at."""

    layers: Predictions  # of every decoder layer, first to last
    encoder: Predictions  # of the selected tokens, before the decoder; L = 1
    denoising: Predictions | None  # of the denoising queries, every decoder layer
