"""A short look at how still the machine is: the same piece of work over and over, and watched."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from harness.cli.doctor.finding import Finding, ok
from harness.machine import conditions
from harness.machine.conditions import Sampler, Source

SECONDS = 2.0
WORK = 20_000  # additions, about half a millisecond
JITTER = 1.25  # 95th percentile over median from which a machine counts as noisy
DRIFT = 0.03  # relative difference between the medians of the halves from which it does
WATCHED = {
    "gpu_clock_mhz": "GPU clock",
    "gpu_temperature_c": "GPU temperature",
    "gpu_reasons": "GPU slowdowns",
    "gpu_foreign_use": "others on the GPU",
    "cpu_clock_mhz": "CPU clock",
    "cpu_temperature_c": "CPU temperature",
    "cpu_throttles": "CPU slowdowns",
    "cpu_busy_s": "others on the CPU",
    "cpu_steal_s": "hypervisor",
    "cpu_waited_s": "waiting for a core",
}


class Probe(NamedTuple):
    """How a fixed piece of work went, and what the machine did meanwhile."""

    milliseconds: Sequence[float]
    sampler: Sampler

    @property
    def jitter(self) -> float:
        """95th percentile over median."""
        return float(np.quantile(self.milliseconds, 0.95) / np.median(self.milliseconds))

    @property
    def drift(self) -> float:
        """Relative difference of the later half's median to the earlier half's."""
        half = len(self.milliseconds) // 2
        before, after = self.milliseconds[:half], self.milliseconds[half:]
        return float(np.median(after) / np.median(before) - 1)


def run(
    device: str,
    *,
    seconds: float = SECONDS,
    sources: Sequence[Source] | None = None,
    clock: Callable[[], int] = time.perf_counter_ns,
) -> Probe:
    """Repeat a fixed piece of work on one core for a while.

    Args:
        device: what to watch, as torch spells it.
        seconds: how long.
        sources: to watch instead.
        clock: nanoseconds.
    """
    taken: list[float] = []
    with Sampler(device, sources=sources) as sampler:
        start = clock()
        while len(taken) < 2 or clock() - start < seconds * 1e9:
            before = clock()
            sum(range(WORK))
            taken.append((clock() - before) / 1e6)
    return Probe(taken, sampler)


def neighbours(probe: Probe, cores: int | None = None) -> list[Finding]:
    """Say whether others disturb the machine."""
    cores, tolerance = cores or os.cpu_count() or 1, conditions.TOLERANCE
    first, last = probe.sampler.samples[0], probe.sampler.samples[-1]
    shares = {
        "others": (conditions.others_share(first, last, cores), tolerance.others),
        "hypervisor": (conditions.steal_share(first, last, cores), tolerance.steal),
        "use of the GPU": (_gpu_use(probe), tolerance.foreign_use),
    }
    told = [f"{name} {share:.0%}" for name, (share, _) in shares.items() if share is not None]
    found = ", ".join([f"jitter x{probe.jitter:.2f}, drift {probe.drift:+.1%}", *told])
    taken = any(share is not None and share > bears for share, bears in shares.values())
    if not taken and probe.jitter <= JITTER and abs(probe.drift) <= DRIFT:
        return [ok("neighbours", found)]
    consequence = "noisy: intervals are wide, small differences are ties; trust ratios in turns"
    remedy = "stop what else runs, or measure on a machine of your own"
    return [Finding("neighbours", "limits", found, consequence, remedy)]


def _gpu_use(probe: Probe) -> float | None:
    """Return how busy the GPU was, which this process left idle."""
    use = [sample.values.get("gpu_utilization") for sample in probe.sampler.samples]
    known = [share for share in use if share is not None]
    return float(np.median(known)) if known else None


def readings(probe: Probe) -> list[Finding]:
    """Say which conditions can be watched during a measurement."""
    seen, absent = set(probe.sampler.samples[-1].values), set(probe.sampler.absent)
    if "gpu" in absent:
        absent |= {name for name in WATCHED if name.startswith("gpu_")}
    readable = [word for name, word in WATCHED.items() if name in seen]
    blind = [word for name, word in WATCHED.items() if name in absent]
    found = f"watched: {', '.join(readable) or 'nothing'}"
    if not blind:
        return [ok("conditions", found)]
    consequence = f"what these spoil goes unnoticed: {', '.join(blind)}"
    remedy = "measure on a machine of your own"
    return [Finding("conditions", "limits", found, consequence, remedy)]
