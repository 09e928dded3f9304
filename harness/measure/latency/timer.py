"""Timers: how long calls take on a CPU, and on a GPU both by its own clock and by the wall's."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import torch

Clock = Callable[[], int]  # nanoseconds, monotonic
Step = Callable[[Any], Any]
SYNC = "wall clock, the device synchronised before and after each step; its events beside"
"""How a step's time is taken, as protocols name it; a CPU is done when a call returns."""


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

    def busy(self, steps: Sequence[Step], value: Any) -> float | None:
        """Return for how many milliseconds of one such call the device computes.

        It disturbs what is timed afterwards, so it comes last. None where the caller waits for
        nobody but itself, or where the device does not tell.
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

    def busy(self, steps: Sequence[Step], value: Any) -> None:
        """Return nothing: the caller itself computes; see `Timer`."""


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

    def busy(self, steps: Sequence[Step], value: Any) -> float | None:
        """Return the milliseconds of kernels and copies of one call; see `Timer`.

        Two events around a call would not tell: they enclose the gaps in which the device waits
        for the next launch.
        """
        torch.cuda.synchronize(self.device)
        kinds = [torch.profiler.ProfilerActivity.CUDA]
        with torch.profiler.profile(activities=kinds, acc_events=True) as profiler:
            for step in steps:
                value = step(value)
            torch.cuda.synchronize(self.device)
        ranges = [
            (event.time_range.start, event.time_range.end)
            for event in profiler.events()
            if event.device_type.name == "CUDA"
        ]
        return covered(ranges) / 1e3 if ranges else None


def covered(ranges: Iterable[tuple[float, float]]) -> float:
    """Return how much of a line ranges (start, end) cover together, in their unit."""
    total, reached = 0.0, -math.inf
    for start, end in sorted(ranges):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def timer_for(device: str) -> Timer:
    """Return the timer of a device, as torch spells it, e.g. `cpu` or `cuda:0`."""
    return CudaTimer(device) if torch.device(device).type == "cuda" else CpuTimer()
