"""What a running trial tells whoever watches it."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple


class Progress(NamedTuple):
    """One step forward in one phase of a trial."""

    phase: str  # "train", "evaluate", "latency", ...
    done: int  # steps finished in this phase
    total: int  # steps in this phase
    values: dict[str, float]  # what to show beside the bar: loss, lr, mAP, ...


OnProgress = Callable[[Progress], None]


def ignore(progress: Progress) -> None:
    """Watch nothing."""
