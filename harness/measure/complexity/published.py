"""What was printed of the operations of our detectors, checked to the printed digits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple


class Rule(NamedTuple):
    """How a printed figure follows from a count."""

    factor: int  # operations a count
    cut: bool  # whether digits were cut off instead of rounded

    def printed(self, count: int, digits: int) -> str:
        """Write a count in thousand millions as it would have been printed."""
        scaled = self.factor * count / 10 ** (9 - digits)
        whole = math.floor(scaled) if self.cut else math.floor(scaled + 0.5)
        return f"{whole / 10**digits:.{digits}f}"


RULES = {"paddle": Rule(2, cut=True), "mmengine": Rule(1, cut=False), "ptflops": Rule(1, cut=False)}
"""By convention; see `harness.measure.complexity.conventions`."""

_RTMDET = ("mmengine", "ptflops")
PRINTED: dict[str, tuple[str, tuple[str, ...]]] = {
    "rtmdet_tiny": ("8.1", _RTMDET),
    "rtmdet_s": ("14.8", _RTMDET),
    "rtmdet_m": ("39.27", _RTMDET),
    "rtmdet_l": ("80.23", _RTMDET),
    "rtmdet_x": ("141.67", _RTMDET),
    "rtdetr_r18": ("60", ("paddle",)),
    "rtdetr_r34": ("92", ("paddle",)),
    "rtdetr_r50_m": ("100", ("paddle",)),
    "rtdetr_r50": ("136", ("paddle",)),
    "rtdetr_r101": ("259", ("paddle",)),
    "rtdetr_hgnetv2_l": ("110", ("paddle",)),
    "rtdetr_hgnetv2_x": ("234", ("paddle",)),
}
"""Figure in thousand millions at `SIZE`, of the training graph, and the conventions it is held to.

Source: studies/papers/rtmdet.yaml, rtmdet/readme_mmdet_det; studies/papers/rtdetr.yaml, tables 2
and B, and the README for HGNetv2.
"""
SIZE = (640, 640)  # of the input that the printed figures are for


class Check(NamedTuple):
    """A printed figure beside a count."""

    printed: str
    found: dict[str, str]  # by convention, to as many digits

    @property
    def by(self) -> list[str]:
        """Conventions that give every printed digit."""
        return [name for name, text in self.found.items() if text == self.printed]

    def __str__(self) -> str:
        """Say what follows, e.g. `14.8 G follows from mmengine; ptflops gives 14.9`."""
        by = self.by
        others = [f"{name} gives {text}" for name, text in self.found.items() if name not in by]
        lead = f"follows from {', '.join(by)}" if by else "does not follow"
        return "; ".join([f"{self.printed} G {lead}", *others])


def check(name: str, size: tuple[int, int], counts: Mapping[str, int]) -> Check | None:
    """Compare the counts of a detector as it was published with what was printed of it.

    Args:
        name: of the detector, its knobs untouched but for the input's size.
        size: of the input, pixels.
        counts: of the training graph, by convention; a missing one is left out.

    Returns:
        None where nothing was printed.
    """
    if name not in PRINTED or tuple(size) != SIZE:
        return None
    printed, conventions = PRINTED[name]
    digits = len(printed.partition(".")[2])
    found = {
        each: RULES[each].printed(counts[each], digits) for each in conventions if each in counts
    }
    return Check(printed, found)
