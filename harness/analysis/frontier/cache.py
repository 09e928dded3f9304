"""Outputs of a network over a split, of which only what postprocessing could need is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from detectors.interface import Detector, as_float32
from harness.data import Split, loading_processes, normalize, val_loader
from harness.records.progress import OnProgress, Progress, ignore

NONE = -1.0  # score of a pair of box and class that was not kept: below every threshold
BATCH = 8  # as `harness.measure.accuracy.evaluate`, so that both see the same numbers


class CacheError(ValueError):
    """Outputs that take more memory than they may."""


class Needed(NamedTuple):
    """Which pairs of box and class postprocessing could look at."""

    threshold: float  # those whose score is above; at 0, all
    limit: int | None  # the best so many of an image; None for no limit


class KeptOutputs(NamedTuple):
    """Outputs of one image without the boxes that no setting needs."""

    confidences: Tensor  # [1, N, C] in [0, 1]; `NONE` for pairs that were not kept
    boxes: Tensor  # [1, N, 4] xyxy, input pixels, not clipped

    @property
    def logits(self) -> Tensor:
        """Return the logits, [1, N, C]; not a number for pairs that were not kept."""
        return self.confidences.logit()

    def scores(self) -> Tensor:
        """Return the class scores, [1, N, C]."""
        return self.confidences


class Cached(NamedTuple):
    """What is kept of one image, on the CPU."""

    image: int  # index into the split's images
    size: Tensor  # int64 [2] (h, w) of the real image inside the input
    original_size: Tensor  # int64 [2] (h, w)
    classes: int
    boxes: Tensor  # [R, 4] xyxy, input pixels, in the order of the outputs
    rows: Tensor  # int32 [P] into `boxes`, rising
    labels: Tensor  # int32 [P], rising within a row
    scores: Tensor  # [P]

    @property
    def bytes(self) -> int:
        """Memory of the tensors."""
        tensors = (self.boxes, self.rows, self.labels, self.scores)
        return sum(item.numel() * item.element_size() for item in tensors)

    def outputs(self) -> KeptOutputs:
        """Return outputs from which postprocessing finds what it finds in the original ones."""
        scores = torch.full((1, len(self.boxes), self.classes), NONE)
        scores[0, self.rows.long(), self.labels.long()] = self.scores
        return KeptOutputs(scores, self.boxes[None])


@torch.inference_mode()
def cache(
    detector: Detector,
    split: Split,
    needed: Needed,
    most_bytes: float,
    on_progress: OnProgress = ignore,
) -> list[Cached]:
    """Run a network over a split once.

    Args:
        detector: deployed, on its device, at its precision.
        split: where the images come from.
        needed: what to keep.
        most_bytes: memory for it.
        on_progress: called after every batch, phase `network`, counting images.

    Raises:
        CacheError: it takes more memory.
    """
    input, weight = detector.config.input, next(detector.parameters())
    kept: list[Cached] = []
    total = 0
    workers = loading_processes("auto", weight.device.type)
    for batch in val_loader(split, input, BATCH, workers):
        images = normalize(batch.images.to(weight.device), input).to(weight.dtype)
        outputs = as_float32(detector(images))
        where = zip(batch.indices.tolist(), batch.sizes, batch.original_sizes, strict=True)
        for place, predicted in zip(where, _by_image(outputs), strict=True):
            kept.append(_keep(*predicted, needed, place))
            total += kept[-1].bytes
        if total > most_bytes:
            raise CacheError(
                f"the outputs of {len(kept)} of {len(split)} images take {total / 1e9:.1f} GB of "
                f"memory, {most_bytes / 1e9:.1f} are allowed: raise the least score_threshold "
                f"({needed.threshold:g}), or frontier.gigabytes"
            )
        on_progress(Progress("network", len(kept), len(split), {}))
    return kept


def _by_image(outputs: Any) -> Iterator[tuple[Tensor, Tensor]]:
    return zip(outputs.scores(), outputs.boxes, strict=True)


def _keep(
    scores: Tensor, boxes: Tensor, needed: Needed, place: tuple[int, Tensor, Tensor]
) -> Cached:
    """Keep the pairs that are needed, those that tie with the last of them included.

    Args:
        scores: [N, C].
        boxes: [N, 4].
        needed: which pairs.
        place: index, size and original size of the image.
    """
    flat, classes = scores.flatten(), scores.shape[1]
    chosen = torch.ones_like(flat, dtype=torch.bool)
    if needed.threshold > 0:
        chosen = flat > needed.threshold
    if needed.limit is not None and len(flat) > needed.limit:
        chosen &= flat >= flat.topk(needed.limit).values[-1]
    pairs = chosen.nonzero().squeeze(1)
    rows, inverse = torch.unique(pairs // classes, return_inverse=True)
    return Cached(
        *place,
        classes,
        boxes[rows].cpu(),
        inverse.int().cpu(),
        (pairs % classes).int().cpu(),
        flat[pairs].cpu(),
    )


def total_bytes(kept: Sequence[Cached]) -> int:
    """Return the memory that all images take."""
    return sum(item.bytes for item in kept)
