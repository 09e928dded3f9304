"""What can be chosen of a detector whose queries find one thing each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from detectors.config import inference_only
from detectors.contract import Built


@dataclass(frozen=True)
class BestClassConfig(Built):
    """How many detections a detector makes whose queries have one class each, the surest."""

    makes: ClassVar[str] = "harness.adapters.transformers.best:BestClass"

    max_detections: int = inference_only(100)
    """Most detections of an image, the best ones."""
    score_threshold: float = inference_only(0.0)
    """A query is a detection when the score of its surest class is above; 0 keeps all."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        if self.max_detections < 1:
            raise ValueError("max_detections must be at least 1")
        if not 0 <= self.score_threshold < 1:
            raise ValueError("score_threshold must be in [0, 1)")
