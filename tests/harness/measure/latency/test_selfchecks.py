"""Does the measurement find what is known: a duration, an equality, a difference."""

import gc
import tempfile
import time

import numpy as np
import pytest
import torch
from torch import nn

from detectors.interface import STAGES, Detections
from harness.config.latency import LatencyConfig
from harness.measure.inputs import Inputs
from harness.measure.latency import Bench, measure_prepared, ratio
from harness.measure.latency.subjects import Prepared
from harness.measure.latency.timer import CpuTimer
from tests.harness.measure.latency.timing import of_stages
from tests.toy import TOY

INPUTS = (Inputs(torch.zeros(1, 3, 64, 64), torch.tensor([[64, 64]])),)
SIMULATED = LatencyConfig(images=1, seconds=1.0, warmup_seconds=1.0, reference=False)
REAL = LatencyConfig(
    images=1, seconds=1.5, warmup_seconds=0.5, target_interval=0.001, reference=False
)


@pytest.fixture(autouse=True)
def _own_locks(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


class Machine:
    """A clock whose speed drifts and wanders, and that stalls now and then.

    Its slowness is the product of a random walk, an autoregressive process with a memory of twenty
    calls, and heavy-tailed stalls of one call in thirty.
    """

    def __init__(self, seed):
        self.rng = np.random.default_rng(seed)
        self.now, self.drift, self.wander = 0, 0.0, 0.0

    def __call__(self):
        self.now += 50
        return self.now

    def spend(self, milliseconds):
        self.drift += 0.003 * self.rng.standard_normal()
        self.wander = 0.95 * self.wander + 0.03 * self.rng.standard_normal()
        slowness = np.exp(self.drift + self.wander + 0.02 * self.rng.standard_normal())
        if self.rng.random() < 1 / 30:
            slowness *= 1 + self.rng.pareto(1.5)
        self.now += int(1e6 * milliseconds * slowness)


def takes(machine, milliseconds):
    return Prepared(lambda images, sizes: _spend(machine, milliseconds), INPUTS, True)


def _spend(machine, milliseconds):
    machine.spend(milliseconds)
    return nothing_found()


def nothing_found():
    nothing = torch.zeros(0)
    return [Detections(nothing.reshape(0, 4), nothing, nothing.long())]


@pytest.fixture
def _uncollected(monkeypatch):
    """Spare the full collection before each of many sessions."""
    monkeypatch.setattr(gc, "collect", lambda: 0)


def simulated(seed, a, b):
    machine = Machine(seed)
    subjects = {"a": takes(machine, a), "b": takes(machine, b)}
    timings = measure_prepared(subjects, SIMULATED, Bench("cpu", CpuTimer(machine)), seed=seed)
    return ratio(timings["a"], timings["b"])


@pytest.mark.usefixtures("_uncollected")
def test_a_thing_is_seldom_called_different_from_itself():
    assert sum(not simulated(seed, 5, 5).tie for seed in range(40)) <= 4


@pytest.mark.usefixtures("_uncollected")
def test_ten_percent_more_are_called_slower():
    found = [simulated(seed, 5.5, 5) for seed in range(20)]
    assert sum(item.low > 1 for item in found) >= 19
    assert np.median([item.ratio for item in found]) == pytest.approx(1.1, rel=0.01)


class Spends(nn.Module):
    """A stage that spends a machine's time, and notes how much of it each call really took."""

    def __init__(self, machine, milliseconds):
        super().__init__()
        self.machine, self.milliseconds, self.log = machine, milliseconds, []

    def forward(self, value, sizes=None):
        start = self.machine.now
        self.machine.spend(self.milliseconds)
        self.log.append((start, self.machine.now))
        return value if sizes is None else nothing_found()

    def median_ms(self, windows):
        """Return the median duration of the calls that began inside windows."""
        inside = [
            (stop - start) / 1e6
            for start, stop in self.log
            if any(first <= start <= last for first, last in windows)
        ]
        assert len(inside) == 16
        return float(np.median(inside))


class Clock:
    """The clock of this machine, as something whose time can be spent."""

    @property
    def now(self):
        return time.perf_counter_ns()

    def spend(self, milliseconds):
        """Spin; to sleep would take longer, by a scheduler's grace."""
        until = self.now + 1e6 * milliseconds
        while self.now < until:
            pass


class Works(nn.Module):
    """A stage that does a fixed amount of arithmetic, however long it takes."""

    def __init__(self, inner, amount):
        super().__init__()
        self.inner, self.amount = inner, amount

    def forward(self, *arguments):
        total = 0
        for number in range(self.amount):
            total += number * number
        self.total = total
        return self.inner(*arguments)


class Nothing(nn.Module):
    def forward(self, value, sizes=None):
        return value if sizes is None else nothing_found()


def staged(**stages):
    """Return a detector whose stages do nothing but what is asked."""
    model = TOY.build().deploy()
    for name in STAGES:
        setattr(model, name, stages.get(name, Nothing()))
    return of_stages(model, INPUTS, trained=True)


def sixteen_passes(stages, timer):
    config = REAL.model_copy(update={"min_samples": 16, "max_samples": 16, "block": 2})
    quick = config.model_copy(update={"warmup_seconds": 0.0, "seconds": 1e6})
    return measure_prepared({"a": staged(**stages)}, quick, Bench("cpu", timer))["a"]


def test_stages_are_found_to_take_what_they_took():
    machine = Machine(0)
    known = zip(STAGES, (24, 16, 20, 28), strict=True)
    stages = {name: Spends(machine, milliseconds) for name, milliseconds in known}
    check_stages(stages, sixteen_passes(stages, CpuTimer(machine)), rel=1e-4)


def check_stages(stages, timing, rel):
    for name, metric, part in (
        ("backbone", "backbone_ms", "stages"),
        ("neck", "neck_ms", "stages"),
        ("head", "head_ms", "stages"),
        ("postprocess", "nms_ms", "parts"),
    ):
        took = stages[name].median_ms(timing.passes[part].windows)
        assert timing.metrics[metric] == pytest.approx(took, rel=rel), name


@pytest.mark.slow
def test_on_this_machine_stages_are_found_to_take_what_they_took():
    """However busy it is: what a call took longer than it was asked to counts on both sides."""
    known = dict(zip(STAGES, (120.0, 60.0, 80.0, 100.0), strict=True))
    stages = {name: Spends(Clock(), milliseconds) for name, milliseconds in known.items()}
    timing = sixteen_passes(stages, CpuTimer())
    check_stages(stages, timing, rel=0.02)
    for metric, least in (("network_ms", 120 + 60 + 80), ("latency_ms", sum(known.values()))):
        assert timing.metrics[metric] >= least


def real(seed, a, b):
    """Time two models by the processor's count: to wait for a core is not the model's doing."""
    subjects = {
        "a": staged(backbone=Works(Nothing(), a)),
        "b": staged(backbone=Works(Nothing(), b)),
    }
    timer = CpuTimer(time.thread_time_ns)
    timings = measure_prepared(subjects, REAL, Bench("cpu", timer), seed=seed)
    return ratio(timings["a"], timings["b"])


@pytest.mark.slow
def test_on_this_machine_a_model_is_seldom_called_different_from_itself():
    assert sum(not real(seed, 20_000, 20_000).tie for seed in range(40)) <= 4


@pytest.mark.slow
def test_on_this_machine_a_model_made_a_tenth_slower_is_called_slower():
    assert sum(real(seed, 22_000, 20_000).low > 1 for seed in range(20)) >= 19
