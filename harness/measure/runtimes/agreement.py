"""Whether two ways to run one detector predict the same."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from detectors.interface import QueryOutputs, as_float32

BEST = 100  # predictions of an image that are compared: as many as COCO counts
LOWEST = -7.0  # a logit below is a score under 0.001, the lowest threshold of published figures
SHORTEST = 8.0  # pixels; the sides of smaller boxes are taken for this long


class Tolerance(NamedTuple):
    """How far predictions may be apart; one agrees that exceeds neither of the first two."""

    logits: float  # largest difference of a class, before sigmoid
    boxes: float  # largest difference of a coordinate, as a share of the box's longer side
    others: float  # share of a decoder's queries that may have no counterpart
    share: float = 0.01  # of a dense head's predictions that may disagree


TOLERANCES = {
    "fp32": Tolerance(logits=0.01, boxes=0.002, others=0.01),
    "tf32": Tolerance(logits=0.2, boxes=0.04, others=0.05),
    "fp16": Tolerance(logits=0.2, boxes=0.04, others=0.05),
    "bf16": Tolerance(logits=1.0, boxes=0.2, others=0.25),
}
"""By the precision of the network, chosen to catch a network that is wrong, not one that is coarse,
which is what mAP is asked for.

In float32 only the order of sums differs: a logit moves by 1e-5, a thousandth of what is allowed,
which moves a score by 0.0025. TF32 and float16 round to 10 bits and bfloat16 to 7 instead of 23.
A trained RTMDet-tiny moves by 0.005 and 0.1 % of a side in float16, by 0.045 and 0.6 % in bfloat16;
20 times as much is allowed, since deeper detectors round more often. Rounding also decides which of
two nearly equal cells becomes a query, most often in an untrained RT-DETR: of its best queries up
to 2 % are others in float16, and 16 % in bfloat16.
"""


class Agreement(NamedTuple):
    """What a comparison of predictions found."""

    compared: int
    apart: int
    allowed: float  # share of the compared that may be apart
    logits: float  # largest difference of a class over the predictions; infinite with NaN
    boxes: float  # largest difference of a coordinate, share of the box's longer side
    typical_logits: float  # the same, median over the predictions
    typical_boxes: float

    @property
    def holds(self) -> bool:
        """Whether few enough predictions are apart."""
        return self.apart <= self.allowed * self.compared

    def __str__(self) -> str:
        """Say what was found."""
        return (
            f"{self.apart} of {self.compared} best predictions are apart, where {self.allowed:.0%} "
            f"may be; the largest differences are {self.logits:.2g} in a logit and "
            f"{self.boxes:.2g} of a box's side"
        )


class _Rows(NamedTuple):
    """Predictions of one image."""

    logits: Tensor  # [N, C], before sigmoid
    boxes: Tensor  # [N, 4] xyxy, input pixels
    best: Tensor  # [K] int64, rows with the highest scores


def compare(pairs: Iterable[tuple[Any, Any]], tolerance: Tolerance) -> Agreement:
    """Compare the best predictions of a detector with those of another way to run it.

    The `BEST` predictions of an image, by either side's scores, are looked for on the other side: a
    dense head's in the same row, a decoder's queries wherever they are, as queries have no order.

    Args:
        pairs: outputs of the reference and of the other for the same images, at least one pair.
        tolerance: beyond which predictions are apart.
    """
    found, allowed = [], 0.0
    for reference, other in pairs:
        queries = isinstance(reference, QueryOutputs)
        allowed = tolerance.others if queries else tolerance.share
        for rows in zip(_images(reference), _images(other), strict=True):
            found.append(_by_query(*rows, tolerance) if queries else _by_row(*rows))
    logits, boxes = (torch.cat(part) for part in zip(*found, strict=True))
    apart = ~((logits <= tolerance.logits) & (boxes <= tolerance.boxes))
    return Agreement(
        compared=len(apart),
        apart=int(apart.sum()),
        allowed=allowed,
        logits=float(logits.max()),
        boxes=float(boxes.max()),
        typical_logits=float(logits.median()),
        typical_boxes=float(boxes.median()),
    )


def _images(outputs: Any) -> list[_Rows]:
    outputs = as_float32(outputs)
    scores = outputs.scores().amax(-1).nan_to_num(0)
    best = scores.topk(min(BEST, scores.shape[1])).indices
    parts = (outputs.logits.clamp(min=LOWEST), outputs.boxes, best)
    return [_Rows(*rows) for rows in zip(*(part.cpu() for part in parts), strict=True)]


def _by_row(reference: _Rows, other: _Rows) -> tuple[Tensor, Tensor]:
    """Return how far the best predictions of either side are from those in the same row, [K]."""
    both = torch.unique(torch.cat((reference.best, other.best)))
    ours, theirs = ((rows.logits[both], rows.boxes[both]) for rows in (reference, other))
    return _distance(ours, theirs)


def _by_query(reference: _Rows, other: _Rows, tolerance: Tolerance) -> tuple[Tensor, Tensor]:
    """Return how far the best queries of either side are from the nearest of the other, [K]."""
    sides = ((reference, other), (other, reference))
    logits, boxes = zip(*(_nearest(*pair, tolerance) for pair in sides), strict=True)
    return torch.cat(logits), torch.cat(boxes)


def _nearest(wanted: _Rows, among: _Rows, tolerance: Tolerance) -> tuple[Tensor, Tensor]:
    """Return how far the best predictions of one side are from the nearest of the other."""
    best = wanted.logits[wanted.best, None], wanted.boxes[wanted.best, None]
    logits, boxes = _distance(best, (among.logits[None], among.boxes[None]))  # [K, N]
    index = torch.maximum(logits / tolerance.logits, boxes / tolerance.boxes).argmin(1)[:, None]
    return logits.gather(1, index)[:, 0], boxes.gather(1, index)[:, 0]


def _distance(
    reference: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Return the largest difference of a class, and of a coordinate as a share of the side."""
    left, top, right, bottom = reference[1].unbind(-1)
    sides = torch.maximum(right - left, bottom - top).clamp(min=SHORTEST)
    logits = (reference[0] - other[0]).abs().amax(-1)
    boxes = (reference[1] - other[1]).abs().amax(-1) / sides
    return logits.nan_to_num(torch.inf), boxes.nan_to_num(torch.inf)
