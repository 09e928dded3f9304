"""Energy per image, above what the device takes when idle."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from harness.machine import nvml
from harness.machine.nvml import Unavailable

UPDATES = 20
"""Updates of the counter that a window must span: each end of it is uncertain by one."""


class Counter(Protocol):
    """A counter of joules since some moment."""

    period_s: float
    """Longest time from one of its updates to the next."""

    def read(self) -> float:
        """Return the joules so far."""


class Reading(NamedTuple):
    """A counter at a moment."""

    time_ns: int
    joules: float


class Energy(NamedTuple):
    """What an image costs."""

    energy_j: float  # per image, above idle
    uncertainty_j: float  # from the counter's updates at the ends of the windows
    idle_w: float
    busy_w: float
    seconds: float  # of the window that was measured
    images: int


def per_image(
    idle: tuple[Reading, Reading], busy: tuple[Reading, Reading], images: int, period_s: float
) -> Energy:
    """Divide the energy of a window among its images, the idle power subtracted.

    Args:
        idle: beginning and end of a window in which the device did nothing.
        busy: beginning and end of the window with the images.
        images: how many were processed.
        period_s: longest time from one update of the counter to the next.

    Raises:
        Unavailable: a window is too short for the counter, or the work does not stand out.

    Source: the window rule is ours; that NVIDIA's counter is updated every 20 to 100 ms and a short
    window may read 0 is from the notes on PETSc's PetscLogGpuEnergyMeter and of Zeus 0.6.1.
    """
    shortest = UPDATES * period_s
    for name, window in (("idle", idle), ("busy", busy)):
        if _seconds(window) < shortest:
            raise Unavailable(
                f"the {name} window of {_seconds(window):.2f} s is below {shortest:.2f} s, "
                f"{UPDATES} updates of the energy counter"
            )
    idle_w, busy_w = _watts(idle), _watts(busy)
    above = (busy_w - idle_w) * _seconds(busy)
    uncertainty = period_s * (busy_w + idle_w * _seconds(busy) / _seconds(idle))
    if above <= uncertainty:
        raise Unavailable(f"{busy_w:.1f} W at work do not stand out from {idle_w:.1f} W idle")
    return Energy(above / images, uncertainty / images, idle_w, busy_w, _seconds(busy), images)


def measure(
    call: Callable[[], object],
    counter: Counter,
    *,
    images: int = 1,
    seconds: float = 2.0,
    clock: Callable[[], int] = time.perf_counter_ns,
    sleep: Callable[[float], None] = time.sleep,
) -> Energy:
    """Measure the energy of calls in a row, after an idle window of the same length.

    Args:
        call: processes its images and returns when the device is done.
        counter: of the device.
        images: a call.
        seconds: of each window; longer where the counter needs it.
        clock: nanoseconds.
        sleep: waits, so many seconds.

    Raises:
        Unavailable: see `per_image`.
    """
    wanted = max(seconds, UPDATES * counter.period_s)
    first = _read(counter, clock)
    sleep(wanted)
    start, calls = _read(counter, clock), 0
    while clock() - start.time_ns < wanted * 1e9:
        call()
        calls += 1
    stop = _read(counter, clock)
    return per_image((first, start), (start, stop), calls * images, counter.period_s)


@contextmanager
def opened(device: str) -> Iterator[Counter]:
    """Open the energy counter of a device.

    Args:
        device: as torch spells it.

    Raises:
        Unavailable: it has none, or none that this user may read.
    """
    if not device.startswith("cuda"):
        yield Rapl()
        return
    with nvml.opened(nvml.uuid_of(device)) as gpu:
        gpu.ask("energy_j")
        yield NvmlCounter(gpu)


class NvmlCounter:
    """The energy of a whole GPU board; Volta and later."""

    period_s = 0.1

    def __init__(self, gpu: nvml.Gpu) -> None:
        self._gpu = gpu

    def read(self) -> float:
        """Return the joules since the driver was loaded."""
        return float(self._gpu.ask("energy_j"))


class Rapl:
    """The energy of all processor packages, whoever uses them.

    Raises:
        Unavailable: there is no such counter, or only root may read it.

    Source: Linux, Documentation/power/powercap/powercap.rst.
    """

    period_s = 0.01

    def __init__(self, root: Path = Path("/")) -> None:
        zones = sorted((root / "sys/class/powercap").glob("intel-rapl:*"))
        self._zones = [zone for zone in zones if zone.name.count(":") == 1]
        if not self._zones:
            raise Unavailable("the processor has no energy counter in /sys/class/powercap")
        try:
            self._ranges = [_number(zone / "max_energy_range_uj") for zone in self._zones]
            self._last = self._counts()
        except OSError as error:
            raise Unavailable("only root may read the processor's energy counter") from error
        self._total = 0

    def read(self) -> float:
        """Return the joules since the counter was opened; to be read before it wraps twice."""
        counts = self._counts()
        pairs = zip(counts, self._last, self._ranges, strict=True)
        self._total += sum((count - last) % (most + 1) for count, last, most in pairs)
        self._last = counts
        return self._total / 1e6

    def _counts(self) -> list[int]:
        return [_number(zone / "energy_uj") for zone in self._zones]


def _number(path: Path) -> int:
    return int(path.read_text())


def _read(counter: Counter, clock: Callable[[], int]) -> Reading:
    return Reading(clock(), counter.read())


def _seconds(window: Sequence[Reading]) -> float:
    return (window[1].time_ns - window[0].time_ns) / 1e9


def _watts(window: Sequence[Reading]) -> float:
    return (window[1].joules - window[0].joules) / _seconds(window)
