"""What can be chosen of the suppression that torchvision's detectors have behind or inside them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from detectors.config import inference_only
from detectors.postprocess_config import NMSConfig


@dataclass(frozen=True)
class PartedNMSConfig(NMSConfig):
    """Suppression whose candidates are limited level by level, or class by class."""

    makes: ClassVar[str] = "harness.adapters.torchvision.suppression:PartedNMS"

    max_candidates: int = inference_only(1000)
    """Most candidates of each level, or of each class, that enter suppression, the best ones."""
    limited_by: Literal["level", "class"] = inference_only("level")
    """Of what `max_candidates` is the limit."""


@dataclass(frozen=True)
class InsideConfig:
    """Thresholds and limits of a two-stage detector, whose suppression is inside the network."""

    score_threshold: float = inference_only(0.05)
    """Score above which a class of a box enters the last suppression."""
    iou_threshold: float = inference_only(0.5)
    """Overlap above which the weaker of two boxes goes, in the last suppression."""
    max_detections: int = inference_only(100)
    """Most detections of an image, the best ones."""
    proposals: int = inference_only(1000)
    """Most proposals of an image that the second stage looks at, and of each level before that."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        if not (0 <= self.score_threshold < 1 and 0 <= self.iou_threshold <= 1):
            raise ValueError("score_threshold must be in [0, 1) and iou_threshold in [0, 1]")
        if min(self.max_detections, self.proposals) < 1:
            raise ValueError("max_detections and proposals must be at least 1")
