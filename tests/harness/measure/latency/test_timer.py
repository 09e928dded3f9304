import time

import pytest
import torch

from harness.measure.latency.timer import CpuTimer, CudaTimer, covered, timer_for


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
    assert covered([(0, 2), (5, 6)]) == 3
    assert covered([(5, 6), (0, 3), (2, 4), (1, 2)]) == 5


def test_the_timer_follows_the_device():
    assert isinstance(timer_for("cpu"), CpuTimer)


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
