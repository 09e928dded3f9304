"""Designs: which combinations of the swept values become variants."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from harness.config import knobs
from harness.config.knobs import Setup
from harness.study.designs import factorial
from harness.study.designs.factorial import DesignError

__all__ = ["Design", "DesignError", "variants"]

Design = Literal["grid", "zip", "one_factor", "fractional_factorial"]
Sweep = Mapping[str, Sequence[Any]]
Overrides = dict[str, Any]


def variants(design: Design, sweep: Sweep, base: Setup, resolution: int) -> list[Overrides]:
    """Return what each variant of a study turns, in the order in which they are run.

    Args:
        design: `grid` is all combinations, `zip` side by side, `one_factor` one knob at a time
            away from the base, which comes first, `fractional_factorial` a part of the grid of two
            values a knob.
        sweep: dotted path to values.
        base: the study's own setting.
        resolution: of a fractional factorial, see `factorial.Fraction`.

    Raises:
        DesignError: a sweep that the design cannot have.
    """
    match design:
        case "grid":
            return [
                dict(zip(sweep, row, strict=True)) for row in itertools.product(*sweep.values())
            ]
        case "zip":
            return _zipped(sweep)
        case "one_factor":
            turned = [{path: value} for path, values in sweep.items() for value in values]
            return [{}, *(change for change in turned if knobs.turn(base, change) != base)]
        case "fractional_factorial":
            return factorial.variants(sweep, resolution)


def _zipped(sweep: Sweep) -> list[Overrides]:
    if len({len(values) for values in sweep.values()}) > 1:
        counts = ", ".join(f"{path} has {len(values)}" for path, values in sweep.items())
        raise DesignError(f"zip needs axes of one length; {counts}")
    return [dict(zip(sweep, row, strict=True)) for row in zip(*sweep.values(), strict=True)]
