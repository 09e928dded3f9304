"""Axes: the values that a sweep or a search gives one knob, and when it turns the knob at all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, TypeAlias

from pydantic import Field, field_validator
from pydantic import model_validator as whole_validator

from harness.config.settings import Settings

Number: TypeAlias = int | float


class Conditional(Settings):
    """A knob that is turned under some values of others only."""

    when: dict[str, Annotated[tuple[Any, ...], Field(min_length=1)]] = {}
    """Other axes, each with the value or values under which this knob is turned."""

    @field_validator("when", mode="before")
    @classmethod
    def _single(cls, given: Any) -> Any:
        """Read single values."""
        if not isinstance(given, Mapping):
            return given
        return {k: v if isinstance(v, list | tuple) else (v,) for k, v in given.items()}

    def holds(self, overrides: Mapping[str, Any]) -> bool:
        """Say whether the knob is turned under what was chosen for the axes above it."""
        return all(
            path in overrides and short(overrides[path]) in map(short, allowed)
            for path, allowed in self.when.items()
        )


class Swept(Conditional):
    """The values that a sweep gives one knob."""

    values: Annotated[tuple[Any, ...], Field(min_length=1)]
    """All of them are tried; a bare list is short for it."""

    @whole_validator(mode="before")
    @classmethod
    def _short(cls, given: Any) -> Any:
        """Read a bare list."""
        if isinstance(given, list | tuple):
            return {"values": tuple(given)}
        if not isinstance(given, Mapping | Swept):
            raise ValueError("expected a list of values")
        return given


class Axis(Conditional):
    """The values that a search may give one knob, and when it turns the knob at all."""

    choices: tuple[Any, ...] | None = None
    """Values to choose among; a bare list is short for it."""
    low: Number | None = None
    """Smallest number of a range."""
    high: Number | None = None
    """Largest number of a range, itself included."""
    step: Number | None = None
    """Distance of a range's numbers; a knob that takes whole numbers has 1."""
    log: bool = False
    """Whether a range's orders of magnitude are equally likely."""

    @whole_validator(mode="before")
    @classmethod
    def _short(cls, given: Any) -> Any:
        """Read a bare list."""
        if isinstance(given, list | tuple):
            return {"choices": tuple(given)}
        if not isinstance(given, Mapping | Axis):
            raise ValueError("expected a list of values, or low and high")
        return given

    @whole_validator(mode="after")
    def _one_kind(self) -> Axis:
        numbers = (self.low, self.high, self.step)
        if self.choices is not None:
            if self.log or any(number is not None for number in numbers):
                raise ValueError("choices stand alone; low, high, step and log belong to a range")
            if not self.choices:
                raise ValueError("choices are empty")
            return self
        if self.low is None or self.high is None:
            raise ValueError("a range needs low and high")
        _check_range(self.low, self.high, self.step, log=self.log)
        return self


def _check_range(low: Number, high: Number, step: Number | None, *, log: bool) -> None:
    if not low < high:
        raise ValueError(f"low must be below high, got {low} and {high}")
    if log and (low <= 0 or step is not None):
        raise ValueError("log needs low above 0, and takes no step")
    if step is None:
        return
    if step <= 0:
        raise ValueError("step must be above 0")
    steps = math.floor((high - low) / step + 1e-9)
    if not math.isclose(low + steps * step, high):
        raise ValueError(f"high is no whole number of steps from low; use {low + steps * step:g}")


def short(value: Any) -> str:
    """Write a value as tables and searches name it, e.g. "[320, 320]" or "SimOTA(topk=10)"."""
    if isinstance(value, Mapping):
        inner = ", ".join(f"{k}={short(v)}" for k, v in value.items() if k != "type")
        kind = str(value.get("type", ""))
        return f"{kind}({inner})" if inner or not kind else kind
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(short, value))}]"
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
