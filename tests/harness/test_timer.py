import time
from types import SimpleNamespace

import pytest
import torch
from torch.profiler import ProfilerActivity

from harness.timer import CpuTimer, CudaTimer, covered, timer_for


class FakeClock:
    def __init__(self):
        self.now = 0

    def __call__(self):
        return self.now

    def step(self, milliseconds):
        def work(value):
            self.now += int(milliseconds * 1e6)
            return value + 1

        return work


def test_each_step_gets_what_the_one_before_returned_and_a_time_of_its_own():
    clock = FakeClock()
    result, spans = CpuTimer(clock).time((clock.step(3), clock.step(4.5)), 0)
    assert result == 2
    assert [tuple(span) for span in spans] == [(3.0, None), (4.5, None)]


def test_a_cpu_computes_while_it_is_called_and_tells_no_more():
    clock = FakeClock()
    assert CpuTimer(clock).busy((clock.step(3),), 0) is None


def test_overlapping_work_counts_once():
    assert covered([]) == 0
    assert covered([(-3, -1), (2, 2.5)]) == 2.5
    assert covered([(0, 5), (1, 2), (3, 6)]) == 6
    assert covered([(0, 2), (5, 6)]) == 3
    assert covered([(5, 6), (0, 3), (2, 4), (1, 2)]) == 5


def test_the_timer_follows_the_device():
    assert isinstance(timer_for("cpu"), CpuTimer)


class FakeGpu:
    """A clock and a device, in place of `torch.cuda`: what is queued runs when one waits for it."""

    def __init__(self, monkeypatch):
        self.now, self.device, self.queue, self.asked = 0, 0, [], set()  # microseconds
        monkeypatch.setattr("torch.cuda.current_stream", lambda device: ("stream", str(device)))
        monkeypatch.setattr("torch.cuda.synchronize", self.synchronize)
        monkeypatch.setattr(
            "torch.cuda.Event", lambda enable_timing: FakeEvent(self, enable_timing)
        )

    def clock(self):
        return self.now * 1000

    def synchronize(self, device):
        assert str(device) == "cuda:1"
        for work in self.queue:
            work()
        self.queue.clear()
        self.now = self.device = max(self.now, self.device)

    def step(self, launching, computing):
        """Return a call that returns after `launching` microseconds, for the device to compute."""

        def run(start):
            self.device = max(self.device, start) + computing

        def call(value):
            self.now += launching
            self.queue.append(lambda start=self.now: run(start))
            return value + 1

        return call


class FakeEvent:
    def __init__(self, gpu, enable_timing):
        assert enable_timing
        self.gpu, self.at = gpu, None

    def record(self, stream):
        assert stream == ("stream", "cuda:1")

        def reach(start=self.gpu.now):
            self.at = self.gpu.device = max(self.gpu.device, start)

        self.gpu.queue.append(reach)

    def elapsed_time(self, other):
        assert not self.gpu.queue, "an event is read before the device has passed it"
        return (other.at - self.at) / 1000


def test_a_gpus_step_takes_from_idle_to_idle_and_its_events_tell_of_the_device(monkeypatch):
    gpu = FakeGpu(monkeypatch)
    timer = CudaTimer("cuda:1", gpu.clock)
    gpu.step(100, 50_000)(0)  # queued before; no step pays for it
    result, spans = timer.time((gpu.step(200, 3000), gpu.step(4000, 1000)), 0)
    assert result == 2
    # 0.2 ms to launch, then 3 ms; 4 ms to launch, then 1 ms, and the device waits as long.
    assert [span.wall_ms for span in spans] == pytest.approx([3.2, 5.0])
    assert [span.device_ms for span in spans] == pytest.approx([3.2, 5.0])
    assert timer.clock() == gpu.clock() == (50_100 + 3200 + 5000) * 1000


class FakeProfiler:
    """In place of `torch.profiler.profile`: sees what a device does until it is left."""

    def __init__(self, gpu, ranges):
        self.gpu, self.ranges, self.seen = gpu, ranges, None

    def __call__(self, activities, acc_events):
        assert activities == [ProfilerActivity.CUDA]
        assert acc_events  # or torch 2.6 keeps none for `events`
        return self

    def __enter__(self):
        assert not self.gpu.queue, "work from before would be counted"
        return self

    def __exit__(self, *failure):
        assert not self.gpu.queue, "work is under way that would not be counted"

    def events(self):
        return [
            SimpleNamespace(
                device_type=SimpleNamespace(name=kind),
                time_range=SimpleNamespace(start=start, end=end),
            )
            for kind, start, end in self.ranges
        ]


@pytest.mark.parametrize(
    ("ranges", "busy"),
    [
        ([("CUDA", 100, 1100), ("CPU", 0, 9000), ("CUDA", 2000, 2500), ("CUDA", 600, 1200)], 1.6),
        ([("CPU", 0, 9000)], None),
        ([], None),
    ],
)
def test_a_gpu_is_busy_while_kernels_run_and_not_between_them(monkeypatch, ranges, busy):
    gpu = FakeGpu(monkeypatch)
    monkeypatch.setattr("torch.profiler.profile", FakeProfiler(gpu, ranges))
    called = []
    gpu.step(100, 50_000)(0)

    def last(value):
        called.append(value)
        return gpu.step(10, 20)(value)

    found = CudaTimer("cuda:1", gpu.clock).busy((gpu.step(10, 20), last), 0)
    assert found == (busy if busy is None else pytest.approx(busy))
    assert called == [1]


def test_the_timer_of_a_gpu_times_that_gpu(monkeypatch):
    FakeGpu(monkeypatch)
    timer = timer_for("cuda:1")
    assert isinstance(timer, CudaTimer)
    assert timer.device == torch.device("cuda:1")


@pytest.mark.gpu
def test_a_gpu_is_timed_by_its_own_clock_too_and_says_when_it_computes():
    timer = timer_for("cuda:0")
    assert isinstance(timer, CudaTimer)
    matrix = torch.ones(4096, 4096, device="cuda:0")

    def product(value):
        return value @ matrix

    def wait(value):
        time.sleep(0.02)
        return value

    timer.time((product,), matrix)
    _, spans = timer.time((product, wait), matrix)
    assert spans[0].device_ms is not None
    assert 0 < spans[0].device_ms <= spans[0].wall_ms
    assert spans[1].wall_ms > 20
    busy = timer.busy((product, wait, product), matrix)
    assert busy == pytest.approx(2 * spans[0].device_ms, rel=0.3)
