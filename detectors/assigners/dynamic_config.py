"""What can be chosen of the assigners that take an object's cheapest predictions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from detectors.contract import Called


@dataclass(frozen=True)
class DynamicSoftLabel(Called):
    """Give each object the predictions that cost it least, as many as its overlaps add up to.

    Only points inside some box, or near its centre under a hard prior, are candidates; an object
    with no such point of its own still takes the cheapest candidate. A prediction that several
    objects want goes to the one it costs least.

    Source: RTMDet, arXiv:2212.07784, sec. 3.3; open-mmlab/mmdetection v3.3.0
    mmdet/models/task_modules/assigners/dynamic_soft_label_assigner.py (Apache-2.0), equal in
    assignments (tests/detectors/test_assigners.py). Plain class cost and hard prior are those of
    `SimOTA`.
    Differs: costs of candidates only; classes are summed once a prediction, not once a pair.
    """

    makes: ClassVar[str] = "detectors.assigners.dynamic:DynamicSoftLabelChooser"

    topk: int = 13
    """Largest overlaps that are added up to an object's number of predictions, and the most that
    it can take; in no published table."""
    cls_weight: float = 1.0
    """Weight of the class cost, 0 for none. Published: 1 (rtmdet/table6a_cost)."""
    iou_weight: float = 3.0
    """Weight of the overlap cost, 0 for none. Published: 3 (rtmdet/table6a_cost)."""
    center_weight: float = 1.0
    """Weight of the centre cost, 0 for none. Published: 1 (rtmdet/table6a_cost)."""
    class_cost: Literal["soft", "plain"] = "soft"
    """Cross entropy against the overlap, focused; or against one. Swept by rtmdet/table6a_cost."""
    iou_cost: Literal["log", "linear"] = "log"
    """Minus the logarithm of the overlap, or one minus it. Swept by rtmdet/table6a_cost."""
    center_prior: Literal["soft", "hard"] = "soft"
    """A cost that grows with the distance from the box's centre; or a bar to all points outside the
    box or its centre region. Swept by rtmdet/table6a_cost."""
    center_radius: float = 3.0
    """Distance, in strides, at which the soft centre cost is 1; or half the side of the hard centre
    region, 2.5 in SimOTA. In no published table."""
    center_base: float = 10.0
    """Factor by which the soft centre cost grows a stride; in no published table."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        if self.topk < 1:
            raise ValueError("topk must be at least 1")
        if min(self.cls_weight, self.iou_weight, self.center_weight, self.center_radius) < 0:
            raise ValueError("weights and center_radius must not be negative")
        if self.center_base <= 0:
            raise ValueError("center_base must be above 0")


@dataclass(frozen=True)
class SimOTA(Called):
    """Give each object its cheapest predictions near its centre: `DynamicSoftLabel`, but hard.

    The class cost is the cross entropy against one, the overlap's its logarithm; a point outside
    box or centre region is taken only by an object without a better one.

    Source: YOLOX, arXiv:2107.08430, sec. 2.1; open-mmlab/mmdetection v3.3.0
    mmdet/models/task_modules/assigners/sim_ota_assigner.py (Apache-2.0), equal in assignments
    (tests/detectors/test_assigners.py).
    """

    makes: ClassVar[str] = "detectors.assigners.dynamic:SimOTAChooser"

    topk: int = 10
    """Largest overlaps that are added up to an object's number of predictions, and the most that
    it can take; in no published table."""
    cls_weight: float = 1.0
    """Weight of the class cost, 0 for none; in no published table."""
    iou_weight: float = 3.0
    """Weight of the overlap cost, 0 for none; in no published table."""
    center_radius: float = 2.5
    """Half the side of the centre region, in strides; in no published table."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        self._dynamic()

    def _dynamic(self) -> DynamicSoftLabel:
        return DynamicSoftLabel(
            topk=self.topk,
            cls_weight=self.cls_weight,
            iou_weight=self.iou_weight,
            class_cost="plain",
            center_prior="hard",
            center_radius=self.center_radius,
        )
