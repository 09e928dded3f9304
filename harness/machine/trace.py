"""A trace of readings of the machine, by time."""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import NamedTuple

Window = tuple[int, int]  # start and stop, nanoseconds of `time.perf_counter_ns`


class Sample(NamedTuple):
    """Readings at one moment, named and with their units as in `ProcSource` and `GpuSource`."""

    time_ns: int  # of `time.perf_counter_ns`, the clock of the timers
    values: dict[str, float]


class Trace:
    """Samples that can be found by time."""

    def __init__(self, samples: Sequence[Sample]) -> None:
        self.samples = samples
        self.times = [sample.time_ns for sample in samples]

    def around(self, window: Window, least_s: float = 0.0) -> Sequence[Sample]:
        """Return the samples from the last before a window to the first after it.

        Args:
            window: start and stop.
            least_s: they reach further, to both sides alike, until they span this time.
        """
        middle, half = sum(window) // 2, int(least_s * 1e9 / 2)
        start, stop = min(window[0], middle - half), max(window[1], middle + half)
        first = max(bisect.bisect_right(self.times, start) - 1, 0)
        last = min(bisect.bisect_left(self.times, stop), len(self.times) - 1)
        return self.samples[min(first, last) : last + 1]

    def spoken_of(self, window: Window, name: str) -> list[float]:
        """Return the values of a reading about the time since it was last read, as far as needed.

        Args:
            window: start and stop.
            name: of the reading, which not every sample has.
        """
        values = []
        for sample in self.samples[bisect.bisect_right(self.times, window[0]) :]:
            if name in sample.values:
                values.append(sample.values[name])
                if sample.time_ns >= window[1]:
                    break
        return values


def growth(around: Sequence[Sample], name: str) -> float | None:
    """Return by how much a reading grew from the first sample to the last."""
    first, last = around[0].values.get(name), around[-1].values.get(name)
    return None if first is None or last is None else last - first
