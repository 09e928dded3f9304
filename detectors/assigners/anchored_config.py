"""What can be chosen of the assigners that compare objects with anchors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from detectors.contract import Called


@dataclass(frozen=True)
class ATSS(Called):
    """Give each object the nearby anchors that overlap it more than nearby anchors usually do.

    Of each level the nearest anchors are candidates; the bar is the mean of their overlaps plus
    one standard deviation. An anchor that several objects take goes to the one it overlaps most.

    Source: ATSS, arXiv:1912.02424, algorithm 1; open-mmlab/mmdetection v3.3.0
    mmdet/models/task_modules/assigners/atss_assigner.py (Apache-2.0), equal in assignments
    (tests/detectors/test_assigners.py).
    """

    makes: ClassVar[str] = "detectors.assigners.anchored:ATSSChooser"

    topk: int = 9
    """Nearest anchors of each level; in no published table."""
    anchor_scale: float = 8.0
    """Side of an anchor, in strides; in no published table."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        if self.topk < 1 or self.anchor_scale <= 0:
            raise ValueError("topk must be at least 1 and anchor_scale above 0")


@dataclass(frozen=True)
class MaxIoU(Called):
    """Give each anchor the object that it overlaps most, if it overlaps enough.

    Anchors between the two bars are ignored. Then each object takes the anchors that overlap it
    most of all, whatever they had before; all of them where several are equal, and the last object
    where several want one.

    Source: Faster R-CNN, arXiv:1506.01497, sec. 3.1.2; open-mmlab/mmdetection v3.3.0
    mmdet/models/task_modules/assigners/max_iou_assigner.py (Apache-2.0), equal in assignments
    (tests/detectors/test_assigners.py).
    Differs: one anchor a point; an object that no anchor overlaps takes none, there every anchor
    where `min_overlap` is 0.
    """

    makes: ClassVar[str] = "detectors.assigners.anchored:MaxIoUChooser"

    positive_overlap: float = 0.5
    """Overlap from which an anchor is an object's; 0.7 in Faster R-CNN. In no published table."""
    negative_overlap: float = 0.4
    """Overlap below which an anchor is background; 0.3 in Faster R-CNN. In no published table."""
    min_overlap: float = 0.0
    """Best overlap from which an object takes its best anchors; 0.3 in Faster R-CNN. In no
    published table."""
    match_low_quality: bool = True
    """Whether objects take their best anchors, however little these overlap; in no published
    table."""
    anchor_scale: float = 8.0
    """Side of an anchor, in strides; in no published table."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        if not 0 <= self.negative_overlap <= self.positive_overlap <= 1:
            raise ValueError("must be 0 <= negative_overlap <= positive_overlap <= 1")
        if self.min_overlap < 0 or self.anchor_scale <= 0:
            raise ValueError("min_overlap must not be negative and anchor_scale above 0")
