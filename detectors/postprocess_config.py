"""What of postprocessing can be chosen; all of it acts only after training."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from detectors.config import inference_only
from detectors.contract import Built


@dataclass(frozen=True)
class NMSConfig(Built):
    """Thresholds and limits of non-maximum suppression."""

    makes: ClassVar[str] = "detectors.postprocess:NMS"

    score_threshold: float = inference_only(0.001)
    """A class of a box is a candidate when its score is above. Published figures use 0.001
    (rtmdet/table2) or 0.05 (the ablations, rtmdet/table5a_kernel and its neighbours)."""
    iou_threshold: float = inference_only(0.65)
    """Overlap above which the weaker of two boxes goes; rtmdet/readme_pre_pr9494 used 0.6."""
    max_candidates: int = inference_only(30000)
    """Most candidates of an image that enter suppression, the best ones."""
    max_detections: int = inference_only(300)
    """Most detections of an image, the best ones; 300 in rtmdet/table2, 100 in the ablations."""
    class_agnostic: bool = inference_only(False)
    """Whether boxes of different classes suppress each other; in no published table."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        if not (0 <= self.score_threshold < 1 and 0 <= self.iou_threshold <= 1):
            raise ValueError("score_threshold must be in [0, 1) and iou_threshold in [0, 1]")
        if min(self.max_candidates, self.max_detections) < 1:
            raise ValueError("max_candidates and max_detections must be at least 1")


@dataclass(frozen=True)
class TopKConfig(Built):
    """How many detections a detector makes that needs no suppression."""

    makes: ClassVar[str] = "detectors.postprocess:TopK"

    max_detections: int = inference_only(300)
    """Most detections of an image, the best ones; 300 in rtdetr/table2."""
    score_threshold: float = inference_only(0.0)
    """A class of a box is a detection when its score is above; 0 keeps all, as in
    rtdetr/table2."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        if self.max_detections < 1:
            raise ValueError("max_detections must be at least 1")
        if not 0 <= self.score_threshold < 1:
            raise ValueError("score_threshold must be in [0, 1)")
