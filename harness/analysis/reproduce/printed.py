"""The published operations of a detector as it was released, beside its count."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from harness.analysis.reproduce import tables
from harness.analysis.reproduce.counts import FACTOR
from harness.analysis.reproduce.verdicts import as_printed


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


def check(name: str, counts: Mapping[str, int]) -> Check | None:
    """Compare the counts of a detector as it was released with what was printed of it.

    Args:
        name: of the detector, its knobs untouched.
        counts: of the training graph, by convention; a missing one is left out.

    Returns:
        None where nothing was printed.
    """
    zoo = tables.released(name)
    if zoo is None:
        return None
    printed, column = zoo
    billions = {
        each: Decimal(counts[each] * FACTOR.get(each, 1)) / 10**9
        for each in map(str, column.conventions)
        if each in counts
    }
    found = {each: as_printed(count, printed, cut=column.cut) for each, count in billions.items()}
    return Check(printed, found)
