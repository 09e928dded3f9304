"""The driver's own readings of an NVIDIA GPU, through NVML, which needs no root."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

SLOWDOWNS = {  # bits of NVML's clock event reasons that stretch the calls they meet
    0x08: "hardware slowdown",
    0x20: "thermal slowdown by the driver",
    0x40: "thermal slowdown by the hardware",
    0x80: "power brake",
}
SELDOM = 10
"""Readings of a source from one look at the list of processes, which takes the driver long, to the
next."""
NOT_FOUND = 6  # NVML_ERROR_NOT_FOUND: nobody has used the GPU since

Question = Callable[[Any, Any], Any]

_QUESTIONS: dict[str, Question] = {
    "driver": lambda nvml, gpu: nvml.nvmlSystemGetDriverVersion(),
    "cuda_of_driver": lambda nvml, gpu: nvml.nvmlSystemGetCudaDriverVersion_v2(),
    "clock_mhz": lambda nvml, gpu: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_SM),
    "clock_memory_mhz": lambda nvml, gpu: nvml.nvmlDeviceGetClockInfo(gpu, nvml.NVML_CLOCK_MEM),
    "clock_max_mhz": lambda nvml, gpu: nvml.nvmlDeviceGetMaxClockInfo(gpu, nvml.NVML_CLOCK_SM),
    "power_w": lambda nvml, gpu: nvml.nvmlDeviceGetPowerUsage(gpu) / 1000,
    "power_limit_w": lambda nvml, gpu: nvml.nvmlDeviceGetEnforcedPowerLimit(gpu) / 1000,
    "temperature_c": lambda nvml, gpu: nvml.nvmlDeviceGetTemperature(
        gpu, nvml.NVML_TEMPERATURE_GPU
    ),
    "utilization": lambda nvml, gpu: nvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100,
    "reasons": lambda nvml, gpu: nvml.nvmlDeviceGetCurrentClocksEventReasons(gpu),
    "energy_j": lambda nvml, gpu: nvml.nvmlDeviceGetTotalEnergyConsumption(gpu) / 1000,
    "processes": lambda nvml, gpu: {
        process.pid
        for ask in (
            nvml.nvmlDeviceGetComputeRunningProcesses,
            nvml.nvmlDeviceGetGraphicsRunningProcesses,
        )
        for process in ask(gpu)
    },
}
_SAMPLED = ("clock_mhz", "clock_memory_mhz", "power_w", "temperature_c", "utilization", "reasons")


class Unavailable(Exception):
    """A reading that a machine does not give; the text says why."""


class Gpu:
    """One GPU, as its driver sees it."""

    def __init__(self, library: Any, handle: Any) -> None:
        self.library, self.handle = library, handle

    def ask(self, name: str) -> Any:
        """Return a reading, in the unit at the end of its name; utilization is in [0, 1].

        Raises:
            Unavailable: the driver does not tell.
        """
        return self._answer(lambda: _QUESTIONS[name](self.library, self.handle), name)

    def used_by(self, since_us: int) -> dict[int, float]:
        """Return the processes that have computed, and the share of the multiprocessors they used.

        Args:
            since_us: microseconds since 1970.

        Raises:
            Unavailable: the driver does not tell.
        """
        try:
            samples = self.library.nvmlDeviceGetProcessUtilization(self.handle, since_us)
        except self.library.NVMLError as error:
            if getattr(error, "value", None) == NOT_FOUND:
                return {}
            raise Unavailable(f"NVML does not tell who computes: {error}") from error
        shares: dict[int, float] = {}
        for sample in samples:
            shares[sample.pid] = max(shares.get(sample.pid, 0.0), sample.smUtil / 100)
        return shares

    def _answer(self, ask: Callable[[], Any], name: str) -> Any:
        try:
            return ask()
        except (self.library.NVMLError, AttributeError) as error:
            raise Unavailable(f"NVML does not tell {name}: {error}") from error


@contextmanager
def opened(uuid: str) -> Iterator[Gpu]:
    """Connect to a GPU by its UUID, without the prefix `GPU-`.

    Raises:
        Unavailable: no package, library, driver or such GPU.
    """
    with _library() as library:
        try:
            handle = library.nvmlDeviceGetHandleByUUID(f"GPU-{uuid}")
        except library.NVMLError as error:
            raise Unavailable(f"NVML does not know the GPU: {error}") from error
        yield Gpu(library, handle)


def device_count() -> int:
    """Count the GPUs that the driver knows, whether torch can use them or not.

    Raises:
        Unavailable: there is no driver to ask.
    """
    with _library() as library:
        return int(library.nvmlDeviceGetCount())


@contextmanager
def _library() -> Iterator[Any]:
    try:
        import pynvml  # only with a GPU

        pynvml.nvmlInit()
    except Exception as error:  # no package, no library, no driver: NVML has a class for each
        raise Unavailable(f"NVML does not answer: {error}") from error
    try:
        yield pynvml
    finally:
        pynvml.nvmlShutdown()


def uuid_of(device: str) -> str:
    """Return the UUID of a GPU that torch uses, without the prefix `GPU-`."""
    import torch  # slow to import

    return str(getattr(torch.cuda.get_device_properties(device), "uuid", ""))


class GpuSource:
    """Reads a GPU for a `Sampler`; what it cannot read, it asks for once.

    `gpu_reasons` are the bits of NVML's clock event reasons. With every tenth reading come
    `gpu_foreign`, the number of other processes that hold memory there, and `gpu_foreign_use`, the
    share of the multiprocessors that others computed on since the last time, in [0, 1].
    """

    def __init__(self, gpu: Gpu, pid: int | None = None) -> None:
        self.absent: dict[str, str] = {}
        self._gpu = gpu
        self._pid = os.getpid() if pid is None else pid
        self._reads, self._since_us = 0, time.time_ns() // 1000

    def read(self) -> dict[str, float]:
        """Return what the driver tells at this moment."""
        values: dict[str, float] = {}
        for name in _SAMPLED:
            self._put(values, f"gpu_{name}", partial(self._gpu.ask, name))
        if self._reads % SELDOM == 0:
            self._put(values, "gpu_foreign", self._foreign)
            self._put(values, "gpu_foreign_use", self._foreign_use)
        self._reads += 1
        return values

    def _put(self, values: dict[str, float], name: str, ask: Callable[[], float]) -> None:
        if name in self.absent:
            return
        try:
            values[name] = float(ask())
        except Unavailable as why:
            self.absent[name] = str(why)

    def _foreign(self) -> float:
        return float(len(self._others(self._gpu.ask("processes"))))

    def _foreign_use(self) -> float:
        self._others(self._gpu.ask("processes"))
        since, self._since_us = self._since_us, time.time_ns() // 1000
        shares = self._gpu.used_by(since)
        return sum(share for pid, share in shares.items() if pid != self._pid)

    def _others(self, pids: set[int]) -> set[int]:
        if self._pid not in pids:
            raise Unavailable(
                "the driver does not list this process under its own number, as in a container"
            )
        return pids - {self._pid}
