"""Designs: which combinations of the swept values become variants."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from harness.config.axes import Swept
from harness.config.knobs import Setup
from harness.study.designs import factorial
from harness.study.designs.factorial import DesignError

__all__ = ["Design", "DesignError", "variants"]

Design = Literal["grid", "zip", "one_factor", "fractional_factorial"]
Sweep = Mapping[str, Swept]
Overrides = dict[str, Any]


def variants(
    design: Design, sweep: Sweep, setup: Callable[[Overrides], Setup], resolution: int
) -> list[Overrides]:
    """Return what each variant of a study turns, in the order in which they are run.

    Args:
        design: `grid` is all combinations, `zip` side by side, `one_factor` one knob at a time
            away from the base, which comes first, `fractional_factorial` a part of the grid of two
            values a knob. In the first two a knob with a condition is left alone where that does
            not hold.
        sweep: dotted path to values.
        setup: returns what a trial is made of, by what it overrides.
        resolution: of a fractional factorial, see `factorial.Fraction`.

    Raises:
        DesignError: a sweep that the design cannot have.
    """
    conditional = [path for path, axis in sweep.items() if axis.when]
    if conditional and design not in ("grid", "zip"):
        raise DesignError(f"{conditional[0]} has `when:`, which needs grid or zip")
    match design:
        case "grid":
            return _crossed(sweep)
        case "zip":
            return _zipped(sweep)
        case "one_factor":
            base = setup({})
            turned = [{path: value} for path, axis in sweep.items() for value in axis.values]
            return [{}, *(change for change in turned if setup(change) != base)]
        case "fractional_factorial":
            values = {path: axis.values for path, axis in sweep.items()}
            return factorial.variants(values, resolution)


def _crossed(sweep: Sweep) -> list[Overrides]:
    rows: list[Overrides] = [{}]
    for path, axis in sweep.items():
        grown: list[Overrides] = []
        for row in rows:
            holds = axis.holds(row)
            grown += [{**row, path: value} for value in axis.values] if holds else [row]
        rows = grown
    return rows


def _zipped(sweep: Sweep) -> list[Overrides]:
    """Take values side by side; a knob with a condition has one for all rows, or one for each."""
    counts = {path: len(axis.values) for path, axis in sweep.items() if not axis.when}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{path} has {count}" for path, count in counts.items())
        raise DesignError(f"zip needs axes of one length; {told}")
    rows: list[Overrides] = [{} for _ in range(next(iter(counts.values()), 0))]
    for path, axis in sweep.items():
        turned = [row for row in rows if axis.holds(row)]
        values = axis.values * (len(turned) if axis.when and len(axis.values) == 1 else 1)
        if len(values) != len(turned):
            raise DesignError(
                f"zip: the condition of {path} holds in {len(turned)} rows, and it has"
                f" {len(values)} values; give one for all of them, or one for each"
            )
        for row, value in zip(turned, values, strict=True):
            row[path] = value
    return rows
