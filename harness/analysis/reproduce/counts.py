"""What the architecture of a detector determines, counted as a table's columns have it."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from functools import cached_property
from typing import Any, get_args

import torch

from detectors.config import KnobError
from harness.analysis.reproduce.schema import SCALE, Column, Convention, Counted
from harness.analysis.reproduce.verdicts import Judged, as_printed, count
from harness.config.yaml_source import StudyError
from harness.measure import complexity

COUNTED: tuple[str, ...] = get_args(Counted)
FACTOR: dict[str, int] = {"flops": 2, "paddle": 2}
"""Operations for each that is counted; 1 where it is not named."""
STAGE = {"backbone_share": "backbone", "neck_share": "neck"}


class Counts:
    """The counts of one detector as it is trained, each taken when it is first asked for."""

    def __init__(self, config: Any) -> None:
        """Take a detector's config, at the table's size and number of classes."""
        self.config = config

    @cached_property
    def detector(self) -> Any:
        """The detector, without memory for its weights.

        Raises:
            StudyError: it cannot be built.
        """
        try:
            with torch.device("meta"):
                return self.config.build()
        except KnobError:
            raise
        except (ValueError, RuntimeError) as error:
            raise StudyError(f"{self.config} cannot be built: {error}") from error

    @cached_property
    def graph(self) -> dict[str, Any]:
        """What is counted as the detector runs on one image."""
        return complexity.describe_training(self.detector, self.config.input.size)

    @cached_property
    def mmengine(self) -> int | None:
        """What mmengine counts, which has to compute; None where its counter fails."""
        return complexity.count_mmengine(self.config.build(), self.config.input.size)

    def operations(self, convention: Convention) -> int | None:
        """Return the operations as one of the published conventions counts them."""
        if convention == "mmengine":
            return self.mmengine
        if convention in ("macs", "flops"):
            return int(self.graph["macs"]) * FACTOR.get(convention, 1)
        return int(self.graph["conventions"][convention]) * FACTOR.get(convention, 1)

    def figures(self, column: Column) -> Iterator[tuple[str, Decimal]]:
        """Yield what a column may print, in its unit, by how it is counted; what is slow last."""
        scale = Decimal(str(SCALE.get(column.unit, 1)))
        if column.metric == "params":
            yield "parameters", _parameters(self.detector) / scale
        elif column.metric in STAGE:
            part = getattr(self.detector, STAGE[column.metric])
            yield "parameters", _parameters(part) / _parameters(self.detector) / scale
        for convention in sorted(column.conventions, key=lambda name: name == "mmengine"):
            found = self.operations(convention)
            if found is not None:
                yield convention, found / scale

    def judge(self, column: Column, printed: str, **known: Any) -> Judged:
        """Judge a published figure of the detector; arguments are those of `count`."""
        counted: dict[str, Decimal] = {}
        for name, value in self.figures(column):
            counted[name] = value
            if as_printed(value, printed, cut=column.cut) == printed:
                break
        return count(printed, counted, cut=column.cut, **known)


def _parameters(module: Any) -> Decimal:
    return Decimal(complexity.count_parameters(module)["params"])
