"""What Linux tells every user about its processors: who uses them, how fast and hot they are."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

SELDOM = 10  # readings of a source from one look at clocks and temperatures to the next
CLOCKS = 8  # cores whose clocks are read, so that a large machine costs no more than a small one
SENSORS = ("coretemp", "k10temp", "zenpower", "cpu_thermal", "x86_pkg_temp", "cpu-thermal")
HEAD = 512  # bytes of /proc/stat, enough for its first line


class ProcSource:
    """Reads the processors for a `Sampler`.

    Seconds since the start, summed over cores: `cpu_busy_s` of everyone, `cpu_own_s` of this
    process, `cpu_steal_s` that a hypervisor gave to others. `cpu_waited_s`: how long the thread
    that made this source was ready and had no core. `cpu_throttles`: how often heat slowed a core
    down. `cpu_clock_mhz` is the fastest of the cores this process may use.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self.absent: dict[str, str] = {}
        self._ticks = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
        self._root, self._reads = root, 0
        self._seldom: dict[str, float] = {}
        thread = threading.get_native_id()
        system = root / "sys/devices/system/cpu"
        self._stat = self._find([root / "proc/stat"], "cpu_busy_s", "no /proc/stat")
        self._wait = self._find(
            [root / f"proc/self/task/{thread}/schedstat"], "cpu_waited_s", "no schedstat in /proc"
        )
        self._clocks = self._find(
            [system / f"cpu{core}/cpufreq/scaling_cur_freq" for core in usable_cores()],
            "cpu_clock_mhz",
            "no cpufreq in /sys, as in a virtual machine",
        )[:CLOCKS]
        self._heat = self._find(
            _sensors(root), "cpu_temperature_c", "no sensor of the processor in /sys"
        )[:1]
        self._throttled = self._find(
            [system / f"cpu{core}/thermal_throttle/core_throttle_count" for core in usable_cores()],
            "cpu_throttles",
            "no thermal_throttle in /sys",
        )[:CLOCKS]

    def read(self) -> dict[str, float]:
        """Return what the kernel tells at this moment."""
        values = {"cpu_own_s": time.process_time()}
        for path in self._stat:
            values |= self._used(path)
        for path in self._wait:
            values["cpu_waited_s"] = int(_head(path).split()[1]) / 1e9
        if self._throttled:
            values["cpu_throttles"] = float(sum(int(_head(path)) for path in self._throttled))
        if self._reads % SELDOM == 0:
            self._seldom = self._slow()
        self._reads += 1
        return values | self._seldom

    def _used(self, path: str) -> dict[str, float]:
        user, nice, system, _, _, irq, softirq, steal = map(
            int, _head(path).split(b"\n", 1)[0].split()[1:9]
        )
        busy = user + nice + system + irq + softirq
        return {"cpu_busy_s": busy / self._ticks, "cpu_steal_s": steal / self._ticks}

    def _slow(self) -> dict[str, float]:
        readings: dict[str, tuple[list[str], Callable[[list[int]], float]]] = {
            "cpu_clock_mhz": (self._clocks, lambda found: max(found) / 1000),
            "cpu_temperature_c": (self._heat, lambda found: found[0] / 1000),
        }
        return {
            name: summarise([int(_head(path)) for path in paths])
            for name, (paths, summarise) in readings.items()
            if paths
        }

    def _find(self, candidates: list[Path], name: str, reason: str) -> list[str]:
        found = [str(path) for path in candidates if _is_readable(path)]
        if not found:
            self.absent[name] = reason
            if name == "cpu_busy_s":
                self.absent["cpu_steal_s"] = reason
        return found


def usable_cores() -> list[int]:
    """Return the numbers of the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def _sensors(root: Path) -> list[Path]:
    """List files with the temperature of the processor, in thousandths of a degree Celsius."""
    chips = (root / "sys/class/hwmon").glob("hwmon*/name")
    zones = (root / "sys/class/thermal").glob("thermal_zone*/type")
    found = [path.with_name("temp1_input") for path in sorted(chips) if _is_sensor(path)]
    return found + [path.with_name("temp") for path in sorted(zones) if _is_sensor(path)]


def _is_sensor(path: Path) -> bool:
    return _is_readable(path) and path.read_text().strip() in SENSORS


def _is_readable(path: Path) -> bool:
    try:
        return bool(_head(str(path)))
    except OSError:
        return False


def _head(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return os.read(descriptor, HEAD)
    finally:
        os.close(descriptor)


def quota_cores(file: Path = Path("/sys/fs/cgroup/cpu.max")) -> float | None:
    """Return the cores that a container may use, where it is limited."""
    try:
        quota, _, period = file.read_text(encoding="utf-8").strip().partition(" ")
    except (OSError, UnicodeDecodeError):
        return None
    return int(quota) / int(period) if quota.isdigit() else None
