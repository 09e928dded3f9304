"""Losses of detectors, element by element; weights and sums are the criterion's."""

from __future__ import annotations

import torch
from torch import Tensor, distributed
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


def focal_loss(logits: Tensor, label: float, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Return cross entropy against one label for all, less where the score is right already.

    Args:
        logits: [..., C], before sigmoid.
        label: 1 for an object, 0 for background.
        alpha: weight of an object; background has the rest of 1.
        gamma: exponent of the distance between score and label.

    Returns:
        [..., C].

    Source: Focal Loss for Dense Object Detection, arXiv:1708.02002, eq. 5.
    """
    entropy = functional.binary_cross_entropy_with_logits(
        logits, torch.full_like(logits, label), reduction="none"
    )
    share = alpha * label + (1 - alpha) * (1 - label)
    return share * entropy * (logits.sigmoid() - label).abs().pow(gamma)


def varifocal_loss(
    logits: Tensor, qualities: Tensor, labelled: Tensor, alpha: float = 0.75, gamma: float = 2.0
) -> Tensor:
    """Return cross entropy against soft labels, weighted by the label or by the wrong score.

    Args:
        logits: [..., C], before sigmoid.
        qualities: [..., C] wanted scores in [0, 1]: the overlap at the object's class, 0 elsewhere.
        labelled: [..., C] bool, true at the object's class; there the quality is the weight.
        alpha: weight elsewhere, multiplied by a power of the score.
        gamma: exponent of the score.

    Returns:
        [..., C].

    Source: VarifocalNet, arXiv:2008.13367, eq. 2.
    """
    wrong = alpha * logits.detach().sigmoid().pow(gamma)
    weight = torch.where(labelled, qualities, wrong)
    return functional.binary_cross_entropy_with_logits(logits, qualities, weight, reduction="none")


def giou_loss(boxes: Tensor, targets: Tensor) -> Tensor:
    """Return one minus the generalised overlap of boxes [..., 4] with their targets, in [0, 2].

    Source: Generalized Intersection over Union, arXiv:1902.09630, algorithm 2.
    """
    return 1 - giou(boxes, targets)


def average_over_processes(value: Tensor) -> Tensor:
    """Return the mean over all processes, where there are several."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    value = value.clone()
    distributed.all_reduce(value)
    return value / distributed.get_world_size()
