"""Cells: what a study repeats with other seeds, and how much the repetitions scatter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.records import least_squares, variants
from harness.records.least_squares import Fit
from harness.records.record import Record, digest

Floats = NDArray[np.float64]
Scatter = Literal["seeds", "equal seeds", "few seeds", "one seed"]
"""What is known of the scatter: that of repeated seeds, or nothing, as these gave equal values or
there were too few of them."""
ONE_SEED = "with one seed the scatter is unknown"
"""How a page, an answer, `run` and `compare` say what single trainings do not tell."""
UNTOLD = "unknown: one seed"
"""Their verdict, in place of better or worse."""


class Cells(NamedTuple):
    """A value's mean for every variant, and its scatter over seeds; C cells, S seeds."""

    firsts: list[Record]  # [C] the first trial of each
    counts: list[int]  # [C] seeds
    seeds: list[int]  # [S]; empty where they are no blocks
    fit: Fit  # coefficients [C + S]: cells, then seeds
    scatter: Scatter

    def mean(self, cell: int) -> Floats:
        """Return the contrast of a cell's mean, as if it had every seed."""
        contrast = np.zeros(len(self.firsts) + len(self.seeds))
        contrast[cell] = 1
        contrast[len(self.firsts) :] = 1 / max(len(self.seeds), 1)
        return contrast

    @property
    def values(self) -> list[float]:
        """The means of all cells, each as if it had every seed."""
        every = range(len(self.firsts))
        return [float(self.mean(cell) @ self.fit.coefficients) for cell in every]


def cells(
    records: Sequence[Record],
    values: Floats,
    *,
    blocks: bool = True,
    cell: Callable[[Record], tuple[str, ...]] | None = None,
) -> Cells:
    """Fit a mean a cell and a block a seed; what is left over is the scatter of repeated seeds.

    The same seed twice in a cell is no repetition, and counts by its mean.

    Args:
        records: [N].
        values: [N].
        blocks: whether a seed moves all cells alike.
        cell: names the cell of a trial; None for its variant in a study.
    """
    named = cell or _in_study(records)
    found: dict[tuple[tuple[str, ...], int], list[float]] = {}
    firsts: dict[tuple[str, ...], Record] = {}
    for record, value in zip(records, values, strict=True):
        name = named(record)
        firsts.setdefault(name, record)
        found.setdefault((name, record.seed), []).append(float(value))
    names = list(firsts)
    seeds = list(dict.fromkeys(seed for _, seed in found)) if blocks else []
    design = np.zeros((len(found), len(names) + len(seeds)))
    for row, (name, seed) in zip(design, found, strict=True):
        row[names.index(name)] = 1
        if blocks:
            row[len(names) + seeds.index(seed)] = 1
    fit = least_squares.fit(design, np.array([np.mean(each) for each in found.values()]))
    scatter: Scatter = "seeds" if fit.variance is not None else "equal seeds"
    if not fit.freedom:
        scatter = "one seed" if len(found) == len(names) else "few seeds"
    counts = [sum(other == name for other, _ in found) for name in names]
    return Cells(list(firsts.values()), counts, seeds, fit, scatter)


def _in_study(records: Sequence[Record]) -> Callable[[Record], tuple[str, ...]]:
    """Tell trials apart by what their study sweeps, and by their protocols."""
    paths = variants.knobs(records)
    return lambda record: (*variants.variant(record, paths), record.protocol_hash)


def configured(record: Record) -> tuple[str, ...]:
    """Tell trials of any studies apart by their detector, whatever was swept; not by their seed."""
    every = record.config | record.overrides
    knobs = {path: value for path, value in every.items() if path.startswith("detector.")}
    return record.detector, digest(knobs)


def comparable(records: Sequence[Record], values: Floats) -> Cells:
    """Fit cells, with seeds as blocks wherever the cells are joined by seeds that they share."""
    found = cells(records, values)
    if len(found.firsts) == 1:
        return cells(records, values, blocks=False)
    difference = found.mean(0) - np.array([found.mean(cell) for cell in range(len(found.firsts))])
    known = found.fit.known(difference)
    return found if known else cells(records, values, blocks=False)
