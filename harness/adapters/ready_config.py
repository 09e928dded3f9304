"""What can be chosen of detections that a network makes by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from detectors.config import inference_only
from detectors.contract import Built


@dataclass(frozen=True)
class ReadyConfig(Built):
    """Which of a network's own detections are kept."""

    makes: ClassVar[str] = "harness.adapters.model:Ready"

    score_threshold: float = inference_only(0.0)
    """Detections of this score or below are dropped; 0 drops what only fills up a tensor."""
    max_detections: int = inference_only(300)
    """Most detections of an image, the best ones."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        if self.max_detections < 1:
            raise ValueError("max_detections must be at least 1")
        if not 0 <= self.score_threshold < 1:
            raise ValueError("score_threshold must be in [0, 1)")
