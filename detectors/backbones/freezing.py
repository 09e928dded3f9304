"""Which parts of a backbone don't learn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Literal

from detectors.contract import Tuning


class Freezing(ABC):
    """What the configs of RT-DETR's backbones have in common; `auto` is as published."""

    freeze_norm: bool | Literal["auto"]
    frozen_stages: int | Literal["auto"]

    @property
    @abstractmethod
    def tuning(self) -> Tuning:
        """How it is trained from ImageNet, as published."""

    @property
    def all_norms_frozen(self) -> bool:
        """Whether no norm learns."""
        return self.tuning.freeze_norm if self.freeze_norm == "auto" else self.freeze_norm

    @property
    def parts_frozen(self) -> int:
        """Number of parts that don't learn, the stem first."""
        return self.tuning.frozen_stages if self.frozen_stages == "auto" else self.frozen_stages

    def freezes_norms(self, part: int) -> bool:
        """Return whether the norms of a part are frozen: 0 the stem, 1 the first stage, ..."""
        return self.all_norms_frozen or part < self.parts_frozen
