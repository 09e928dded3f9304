"""Timers: how long calls take on a CPU, and on a GPU both by its own clock and by the wall's."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import torch

Clock = Callable[[], int]  # nanoseconds, monotonic
Step = Callable[[Any], Any]


class Span(NamedTuple):
    """How long one step took."""

    wall_ms: float  # from idle to idle, as the caller waits
    device_ms: float | None  # between two events of the device; None where it has none


class Timer(Protocol):
    """Times steps that run on one device."""

    @property
    def clock(self) -> Clock:
        """The clock that a budget is kept with."""

    def time(self, steps: Sequence[Step], value: Any) -> tuple[Any, list[Span]]:
        """Pass a value through steps, the device idle before and after each.

        Args:
            steps: each takes what the one before returned.
            value: what the first one takes.

        Returns:
            What the last step returned, and a span for each step.
        """


class CpuTimer:
    """Times steps that are done when they return."""

    def __init__(self, clock: Clock = time.perf_counter_ns) -> None:
        self.clock = clock

    def time(self, steps: Sequence[Step], value: Any) -> tuple[Any, list[Span]]:
        """Pass a value through steps; see `Timer`."""
        clock, marks = self.clock, []
        for step in steps:
            start = clock()
            value = step(value)
            marks.append((start, clock()))
        return value, [Span((stop - start) / 1e6, None) for start, stop in marks]


class CudaTimer:
    """Times steps that queue work on a GPU."""

    def __init__(self, device: str, clock: Clock = time.perf_counter_ns) -> None:
        self.device = torch.device(device)
        self.clock = clock
        event: Any = torch.cuda.Event
        self._start, self._stop = event(enable_timing=True), event(enable_timing=True)

    def time(self, steps: Sequence[Step], value: Any) -> tuple[Any, list[Span]]:
        """Pass a value through steps; see `Timer`."""
        spans = []
        stream = torch.cuda.current_stream(self.device)
        torch.cuda.synchronize(self.device)
        for step in steps:
            start = self.clock()
            self._start.record(stream)
            value = step(value)
            self._stop.record(stream)
            torch.cuda.synchronize(self.device)
            stop = self.clock()
            spans.append(Span((stop - start) / 1e6, self._start.elapsed_time(self._stop)))
        return value, spans


def timer_for(device: str) -> Timer:
    """Return the timer of a device, as torch spells it, e.g. `cpu` or `cuda:0`."""
    return CudaTimer(device) if torch.device(device).type == "cuda" else CpuTimer()
