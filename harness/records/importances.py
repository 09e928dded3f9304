"""How much each knob of a search mattered, as `harness.analysis.importance` works it out."""

from __future__ import annotations

from typing import NamedTuple


class Share(NamedTuple):
    """What one knob has of the importance of all."""

    knob: str
    share: float  # in [0, 1]; those of all knobs add up to 1
    by_luck: float  # the share that it exceeds in 1 of 20 cases where no knob matters


class Importance(NamedTuple):
    """How much each knob mattered for one objective."""

    metric: str
    shares: list[Share]  # the greatest first
    trials: int


class Importances(NamedTuple):
    """How much each knob of a search mattered, by objective, or why that is not known."""

    found: list[Importance]
    why_not: str = ""  # of those that are not known; a sentence
