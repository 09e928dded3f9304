"""What can be chosen of the assigner by place and size alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from detectors.contract import Called


@dataclass(frozen=True)
class FCOSCenter(Called):
    """Give each object the points near its centre, of the level that fits its size.

    A level is responsible for boxes whose farthest side is between the limits of the level before
    and its own, both included; the first level has no lower limit, the last no upper one. A point
    that fits several objects goes to the one with the smallest area.

    Source: FCOS, arXiv:2006.09214, sec. 3.1 and 3.2: centre sampling with radius 1.5; distances up
    to 64, 128, ... pixels at strides 8, 16, ...
    Differs: trained against the overlap instead of a class of its own and a centre-ness.
    """

    makes: ClassVar[str] = "detectors.assigners.fcos:FCOSCenterChooser"

    center_radius: float = 1.5
    """Half the side of the centre region, in strides; in no published table."""
    limit: float = 8.0
    """Largest distance to a side that a level but the last is responsible for, in strides; in no
    published table."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        if min(self.center_radius, self.limit) <= 0:
            raise ValueError("center_radius and limit must be above 0")
