"""What the machine did while something was timed, and which of the timings it spoilt.

A `Sampler` reads the machine a few times a second beside a measurement, without root. Afterwards
`taint` says which windows of the measurement are spoilt and why, and `keep` which of them to use.
Who measures counts what was dropped; `tally` and `summary` are for the record.
"""

from __future__ import annotations

import os
import statistics
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import Any, NamedTuple, Protocol

from harness.machine import nvml
from harness.machine.procfs import ProcSource
from harness.machine.trace import Sample, Trace, Window, growth

PERIOD_S = 0.1
TICKS_S = 0.5
"""The least time over which processor seconds are compared, since Linux counts them in steps of
10 ms a core."""


class Source(Protocol):
    """Something that can be read at any time, cheaply."""

    absent: dict[str, str]
    """Readings that it does not give: why."""

    def read(self) -> dict[str, float]:
        """Return what it says at this moment, by name."""


class Tolerance(NamedTuple):
    """What a window bears before it is tainted."""

    others: float = 0.1
    """Share of all cores that other processes use."""
    steal: float = 0.05
    """Share of all cores that a hypervisor gives to others."""
    waited: float = 0.05
    """Share of the window in which the measuring thread was ready and had no core."""
    foreign_use: float = 0.05
    """Share of a GPU's multiprocessors that other processes use."""
    clock: float = 0.1
    """Relative difference between a clock and its median over all windows."""


TOLERANCE = Tolerance()


class Taint(NamedTuple):
    """Something that spoilt a window."""

    window: int  # its index
    kind: str  # slowdown | throttled | clock | others | steal | waited | foreign
    detail: str  # in words, with the figure


class Sampler:
    """Reads the machine in a background thread while a `with` block runs.

    Made on the thread that measures: what that thread waits for cores is among the readings. After
    the block `samples` holds what was read, the first at its beginning and the last at its end,
    `absent` what could not be read and why, and `share_of_core` what the reading itself took.

    Args:
        device: as torch spells it; on a GPU both the GPU and the processors are read.
        period_s: from one reading to the next.
        sources: instead of the device's own.
        clock: nanoseconds, the one that the measurement is timed with.
    """

    def __init__(
        self,
        device: str,
        *,
        period_s: float = PERIOD_S,
        sources: Sequence[Source] | None = None,
        clock: Callable[[], int] = time.perf_counter_ns,
    ) -> None:
        self.samples: list[Sample] = []
        self.absent: dict[str, str] = {}
        self.share_of_core = 0.0
        self._device, self._period_s, self._clock = device, period_s, clock
        self._sources: list[Source] = [] if sources is None else list(sources)
        self._own = sources is None
        self._stop, self._open = threading.Event(), ExitStack()
        self._thread = threading.Thread(target=self._run, name="conditions", daemon=True)

    def __enter__(self) -> Sampler:
        """Read once, then begin to read in the background."""
        if self._own:
            self._sources = self._connect()
        self._sample()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop, and read a last time."""
        self._stop.set()
        self._thread.join()
        self._sample()
        self._open.close()
        for source in self._sources:
            self.absent |= source.absent

    def _connect(self) -> list[Source]:
        sources: list[Source] = [ProcSource()]
        if self._device.startswith("cuda"):
            try:
                gpu = self._open.enter_context(nvml.opened(nvml.uuid_of(self._device)))
                sources.append(nvml.GpuSource(gpu))
            except nvml.Unavailable as why:
                self.absent["gpu"] = str(why)
        return sources

    def _run(self) -> None:
        start, used = time.perf_counter(), time.thread_time()
        while not self._stop.wait(self._period_s):
            self._sample()
        spent = time.thread_time() - used
        self.share_of_core = spent / max(time.perf_counter() - start, 1e-9)

    def _sample(self) -> None:
        values: dict[str, float] = {}
        for source in list(self._sources):
            try:
                values |= source.read()
            except (OSError, ValueError, IndexError) as error:  # a file that went away or changed
                self._sources.remove(source)
                self.absent |= source.absent | {type(source).__name__: f"reading failed: {error}"}
        self.samples.append(Sample(self._clock(), values))


def taint(
    windows: Sequence[Window],
    samples: Sequence[Sample],
    tolerance: Tolerance = TOLERANCE,
    *,
    cores: int | None = None,
) -> list[Taint]:
    """Say which windows of a measurement were spoilt, and by what.

    A window is judged by the readings from the last before it to the first after it. A reading that
    is absent taints nothing: what was not watched is in `Sampler.absent`.

    Args:
        windows: start and stop, in nanoseconds of the samples' clock.
        samples: in the order of time.
        tolerance: what a window bears.
        cores: of the machine.

    Returns:
        Taints in the order of windows, several for a window with several causes.
    """
    if not samples:
        return []
    cores = cores or os.cpu_count() or 1
    trace = Trace(samples)
    usual = _usual_clocks(windows, trace)
    found = []
    for index, window in enumerate(windows):
        around = trace.around(window)
        reasons = [*_slowed(around), *_clocks(around, usual, tolerance.clock)]
        reasons += _foreign(trace.spoken_of(window, "gpu_foreign_use"), tolerance)
        reasons += _waited(around, tolerance)
        reasons += _taken(trace.around(window, TICKS_S), cores, tolerance)
        found += [Taint(index, kind, detail) for kind, detail in reasons]
    return found


def keep(count: int, taints: Sequence[Taint]) -> list[int]:
    """Return the windows to use: those without taint, or all where most are tainted.

    What happens to most windows is the rule on this machine and no exception: to keep the few
    others would be to choose a result. Who gets all of them back says so beside the figure.

    Args:
        count: of windows.
        taints: as `taint` returns them.
    """
    tainted = {item.window for item in taints}
    if mostly(count, taints):
        return list(range(count))
    return [index for index in range(count) if index not in tainted]


def mostly(count: int, taints: Sequence[Taint]) -> bool:
    """Say whether most windows are tainted, so that the rest tells nothing by itself.

    Args:
        count: of windows.
        taints: as `taint` returns them.
    """
    return len({item.window for item in taints}) * 2 > count


def tally(taints: Sequence[Taint]) -> dict[str, int]:
    """Count tainted windows by what spoilt them, and once each under `windows`."""
    kinds = Counter(kind for _, kind in {(item.window, item.kind) for item in taints})
    return {"windows": len({item.window for item in taints}), **dict(sorted(kinds.items()))}


def remark(count: int, taints: Sequence[Taint]) -> str:
    """Say what spoilt how many windows, and whether `keep` drops them; empty where none was.

    Args:
        count: of windows.
        taints: as `taint` returns them.
    """
    if not taints:
        return ""
    kinds = tally(taints)
    spoilt = f"{kinds.pop('windows')} of {count} rounds disturbed"
    causes = ", ".join(f"{kind} {number}" for kind, number in kinds.items())
    fate = "most, so all kept" if mostly(count, taints) else "dropped"
    return f"{spoilt} ({causes}), {fate}"


def summary(samples: Sequence[Sample]) -> dict[str, Any]:
    """Describe a trace as JSON values.

    Returns:
        `samples` and `seconds`; of each reading its least, median and greatest value, and of those
        that only grow (seconds, numbers of throttlings) by how much they grew; the names of the
        slowdowns that were seen.
    """
    if not samples:
        return {"samples": 0}
    names = sorted({name for sample in samples for name in sample.values})
    readings = {name: [s.values[name] for s in samples if name in s.values] for name in names}
    masks = [int(mask) for mask in readings.pop("gpu_reasons", [])]
    described = {
        name: {"growth": values[-1] - values[0]}
        if _grows(name)
        else {"min": min(values), "median": statistics.median(values), "max": max(values)}
        for name, values in readings.items()
    }
    seconds = (samples[-1].time_ns - samples[0].time_ns) / 1e9
    slowdowns = {word for mask in masks for word in _words(mask)}
    facts = {"samples": len(samples), "seconds": seconds, "readings": described}
    return facts | ({"slowdowns": sorted(slowdowns)} if masks else {})


def others_share(first: Sample, last: Sample, cores: int) -> float | None:
    """Return the share of all cores that other processes used between two samples."""
    busy, own = growth((first, last), "cpu_busy_s"), growth((first, last), "cpu_own_s")
    seconds = (last.time_ns - first.time_ns) / 1e9
    if busy is None or own is None or seconds <= 0:
        return None
    return max(0.0, (busy - own) / seconds / cores)


def steal_share(first: Sample, last: Sample, cores: int) -> float | None:
    """Return the share of all cores that a hypervisor gave to others between two samples."""
    steal, seconds = growth((first, last), "cpu_steal_s"), (last.time_ns - first.time_ns) / 1e9
    return None if steal is None or seconds <= 0 else steal / seconds / cores


_Reasons = list[tuple[str, str]]


def _slowed(around: Sequence[Sample]) -> _Reasons:
    masks = [int(sample.values.get("gpu_reasons", 0)) for sample in around]
    seen = sorted({word for mask in masks for word in _words(mask)})
    reasons = [("slowdown", ", ".join(seen))] if seen else []
    throttles = growth(around, "cpu_throttles")
    if throttles:
        reasons.append(("throttled", f"heat slowed cores down {throttles:.0f} times"))
    return reasons


def _words(mask: int) -> list[str]:
    return [word for bit, word in nvml.SLOWDOWNS.items() if mask & bit]


def _usual_clocks(windows: Sequence[Window], trace: Trace) -> dict[str, float]:
    """Return the median of each clock over what surrounds the windows."""
    samples = [sample for window in windows for sample in trace.around(window)]
    names = ("gpu_clock_mhz", "gpu_clock_memory_mhz", "cpu_clock_mhz")
    readings = {name: [s.values[name] for s in samples if name in s.values] for name in names}
    return {name: statistics.median(values) for name, values in readings.items() if values}


def _clocks(around: Sequence[Sample], usual: Mapping[str, float], bears: float) -> _Reasons:
    reasons = []
    for name, median in usual.items():
        clocks = [sample.values[name] for sample in around if name in sample.values]
        far = max(clocks, key=lambda clock: abs(clock - median), default=median)
        if median and abs(far / median - 1) > bears:
            reasons.append(("clock", f"{name} {far:.0f} against {median:.0f} at other times"))
    return reasons


def _foreign(uses: Sequence[float], tolerance: Tolerance) -> _Reasons:
    use = max(uses, default=0.0)
    if use <= tolerance.foreign_use:
        return []
    return [("foreign", f"other processes used {use:.0%} of the GPU")]


def _waited(around: Sequence[Sample], tolerance: Tolerance) -> _Reasons:
    waited = growth(around, "cpu_waited_s")
    seconds = (around[-1].time_ns - around[0].time_ns) / 1e9
    if waited is None or seconds <= 0 or waited / seconds <= tolerance.waited:
        return []
    return [("waited", f"the thread had no core for {waited / seconds:.0%} of the time")]


def _taken(around: Sequence[Sample], cores: int, tolerance: Tolerance) -> _Reasons:
    others = others_share(around[0], around[-1], cores)
    steal = steal_share(around[0], around[-1], cores)
    reasons = []
    if others is not None and others > tolerance.others:
        reasons.append(("others", f"other processes used {others:.0%} of {cores} cores"))
    if steal is not None and steal > tolerance.steal:
        reasons.append(("steal", f"the hypervisor took {steal:.0%} of {cores} cores"))
    return reasons


def _grows(name: str) -> bool:
    return name == "cpu_throttles" or (name.startswith("cpu_") and name.endswith("_s"))
