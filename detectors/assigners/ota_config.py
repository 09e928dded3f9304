"""What can be chosen of the assigner that transports labels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from detectors.contract import Called


@dataclass(frozen=True)
class OTA(Called):
    """Carry labels to points at the lowest total cost; each point takes what it gets most of.

    Every object supplies as many labels as its largest overlaps add up to, the background the rest,
    and every point near an object demands one. Sinkhorn's iterations find the plan.

    Source: OTA, arXiv:2103.14259, sec. 3 and algorithm 1.
    Differs: points that no object may take are left out, which is the limit of an infinite cost
    there; an object may take those inside its box and `center_radius` strides around its centre,
    or the nearest point where there is none.
    """

    makes: ClassVar[str] = "detectors.assigners.ota:OTAChooser"

    topk: int = 20
    """Largest overlaps that are added up to an object's supply; in no published table."""
    iou_weight: float = 1.5
    """Weight of minus the logarithm of the overlap, beside the focal loss of the classes; in no
    published table."""
    center_radius: float = 2.5
    """Half the side of the region of an object's points, in strides; in no published table."""
    epsilon: float = 0.1
    """How evenly labels are spread: the weight of the plan's entropy; in no published table."""
    iterations: int = 50
    """Of Sinkhorn's algorithm; in no published table."""
    alpha: float = 0.25
    """Share of the focal loss for what the class is, the rest for what it is not."""
    gamma: float = 2.0
    """Exponent of the focal loss: how much less a score counts that is right already."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        if min(self.topk, self.iterations) < 1:
            raise ValueError("topk and iterations must be at least 1")
        if min(self.epsilon, self.center_radius) <= 0:
            raise ValueError("epsilon and center_radius must be above 0")
        if min(self.iou_weight, self.gamma) < 0 or not 0 <= self.alpha <= 1:
            raise ValueError("iou_weight and gamma must not be negative, alpha in [0, 1]")
