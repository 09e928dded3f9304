"""What a training tells about itself: losses, and where its time goes."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor

from harness.training import processes


class NotFiniteError(ArithmeticError):
    """Training ran into a loss or a weight that is infinite or not a number."""


class Clock:
    """Counts optimiser steps and images, and where the time between them goes.

    Totals are over the whole training, what processes that were ended have done included.
    """

    def __init__(self, steps: int, device: torch.device) -> None:
        self.step, self.steps = 0, steps
        self.totals = {"images": 0.0, "seconds": 0.0, "waiting": 0.0, "device": 0.0}
        self._before = dict(self.totals)  # the epoch
        self._device = device
        self._marks: list[tuple[Any, Any]] = []  # events around what the device has to do
        self._first, self._spent, self._began = 0, 0.0, time.perf_counter()

    def state(self) -> dict[str, Any]:
        """Return what another process needs to go on."""
        counted = {"step": self.step, "totals": self.totals, "before": self._before}
        return {**counted, "seconds": self.elapsed()}

    def resume(self, state: dict[str, Any]) -> None:
        """Go on from where a process was ended."""
        self.step = self._first = state["step"]
        self.totals, self._before = state["totals"], state["before"]
        self._spent = state["seconds"]

    def elapsed(self) -> float:
        """Return the wall time since the beginning, without that between processes."""
        return self._spent + time.perf_counter() - self._began

    def end_epoch(self) -> None:
        """Count the speed from here."""
        self._before = dict(self.totals)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Count the time inside as spent on waiting for data."""
        started = time.perf_counter()
        yield
        spent = time.perf_counter() - started
        self.totals["waiting"] += spent
        self.totals["seconds"] += spent

    @contextmanager
    def working(self) -> Iterator[None]:
        """Count the time inside as spent on steps."""
        started, begin = time.perf_counter(), self._mark()
        yield
        if begin is not None:
            self._marks.append((begin, self._mark()))
        spent = time.perf_counter() - started
        self.totals["seconds"] += spent
        self.totals["device"] += spent if begin is None else 0.0

    def _mark(self) -> Any:
        if self._device.type != "cuda":
            return None
        event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
        event.record()
        return event

    def read(self) -> None:
        """Fetch the time that the device took, which is waited for."""
        started = time.perf_counter()
        for begin, end in self._marks:
            end.synchronize()
            self.totals["device"] += begin.elapsed_time(end) / 1000
        self.totals["seconds"] += time.perf_counter() - started if self._marks else 0.0
        self._marks.clear()

    def tick(self, images: int) -> None:
        """Count one step."""
        self.step += 1
        self.totals["images"] += images

    def images_per_second(self) -> float:
        """Return the speed of the epoch so far."""
        images, seconds = (self.totals[key] - self._before[key] for key in ("images", "seconds"))
        return images / max(seconds, 1e-9)

    def values(self) -> dict[str, float]:
        """Return what to show beside a progress bar."""
        spent = time.perf_counter() - self._began
        eta_s = spent / (self.step - self._first) * (self.steps - self.step)
        return {"eta_s": eta_s, "images_per_second": self.images_per_second()}

    def throughput(self) -> dict[str, float]:
        """Return images a second of all steps, and shares of their time."""
        self.read()
        seconds = max(self.totals["seconds"], 1e-9)
        return {
            "images_per_second": self.totals["images"] / seconds,
            "waiting_share": self.totals["waiting"] / seconds,
            "device_share": min(self.totals["device"] / seconds, 1.0),
        }


class Losses(NamedTuple):
    """The losses of a part of a batch, still on the device."""

    names: list[str]
    values: Tensor  # [len(names)]
    images: Tensor  # [B] indices into the split
    share: float  # of the batch


class NotFinite(NamedTuple):
    """A loss that is infinite or not a number."""

    where: str
    images: list[int]  # indices into the split


class Meter:
    """Collects the losses of an epoch on the device, and reads and checks many at once."""

    def __init__(
        self,
        epoch: int,
        latest: dict[str, float] | None = None,
        sums: dict[str, float] | None = None,
        counts: dict[str, float] | None = None,
    ) -> None:
        self.epoch = epoch
        self.latest = latest or {}
        self.sums = sums or {}
        self.counts = counts or {}
        self._unread: list[tuple[int, Losses]] = []

    def state(self) -> dict[str, dict[str, float]]:
        """Return what was read, as arguments of another meter."""
        return {"latest": self.latest, "sums": self.sums, "counts": self.counts}

    def add(self, step: int, losses: list[Losses]) -> None:
        """Take the losses of a step, from 1, without waiting for the device."""
        self._unread += [(step, each) for each in losses]

    def read(self) -> NotFinite | None:
        """Fetch what was collected; all of it, or the first loss that is not finite."""
        if not self._unread:
            return None
        numbers = torch.cat([item.values for _, item in self._unread]).tolist()
        rows = []
        for step, item in self._unread:
            row = dict(zip(item.names, numbers, strict=False))
            del numbers[: len(row)]
            for name, value in row.items():
                if not math.isfinite(value):
                    where = f"epoch {self.epoch}, step {step}: {name} is {value}"
                    return NotFinite(where, item.images.tolist())
            rows.append((row, item.share))
        self._unread.clear()
        for row, share in rows:
            self._count({"loss": sum(row.values()), **row}, share)
        return None

    def _count(self, row: dict[str, float], share: float) -> None:
        self.latest = row
        for name, value in row.items():
            self.sums[name] = self.sums.get(name, 0.0) + value * share
            self.counts[name] = self.counts.get(name, 0.0) + share

    def means(self) -> dict[str, float]:
        """Return each loss's mean over the micro-batches, of all processes, that had it."""
        parts = processes.gather((self.sums, self.counts))
        names = dict.fromkeys(name for sums, _ in parts for name in sums)
        return {
            name: sum(sums.get(name, 0.0) for sums, _ in parts)
            / sum(counts.get(name, 0.0) for _, counts in parts)
            for name in names
        }
