"""Losses of detectors, element by element; weights, sums and normalisers are the criterion's."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional

from detectors.boxes import giou


def quality_focal_loss(logits: Tensor, qualities: Tensor, beta: float = 2.0) -> Tensor:
    """Return cross entropy against soft labels, less where the score is right already.

    Args:
        logits: [..., C], before sigmoid.
        qualities: [..., C] wanted scores in [0, 1]: the overlap at the object's class, 0 elsewhere.
        beta: exponent of the distance between score and quality.

    Returns:
        [..., C].

    Source: Generalized Focal Loss, arXiv:2006.04388, eq. 4.
    """
    entropy = functional.binary_cross_entropy_with_logits(logits, qualities, reduction="none")
    return entropy * (qualities - logits.sigmoid()).abs().pow(beta)


def giou_loss(boxes: Tensor, targets: Tensor) -> Tensor:
    """Return one minus the generalised overlap of boxes [..., 4] with their targets, in [0, 2].

    Source: Generalized Intersection over Union, arXiv:1902.09630, algorithm 2.
    """
    return 1 - giou(boxes, targets)
