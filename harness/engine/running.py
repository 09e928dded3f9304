"""A trial that an executor carries out, as its driver sees it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from harness.engine.entries import Claim
from harness.records.progress import Progress


@dataclass
class Running:
    """A trial that the executor carries out."""

    claim: Claim
    began: float = field(default_factory=time.monotonic)
    started: float = field(default_factory=time.time)
    progress: Progress | None = None

    def told(self) -> dict[str, Any]:
        """Return what other processes are told of it."""
        progress = self.progress
        if progress is None:
            return {}
        told: dict[str, Any] = {name: progress.values.get(name) for name in ("mAP", "eta_s")}
        return told | {"phase": progress.phase, "done": progress.done, "total": progress.total}
