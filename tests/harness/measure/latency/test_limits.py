import math

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from harness.measure.latency import limits
from harness.measure.latency.limits import Limits, Rate, measure, reference, roofline
from harness.measure.latency.timer import CpuTimer


def test_limits_of_this_machine_are_found():
    found = measure("cpu", seconds=0.2)
    assert 0 < found.compute.value < math.inf
    assert 0 < found.memory.value < math.inf
    assert found.compute.samples == found.memory.samples >= limits.FEWEST
    assert found.details["side"] in limits.SIDES["cpu"]
    for rate in (found.compute, found.memory):
        assert rate.low is None or rate.low <= rate.value <= rate.high


class Machine:
    """A clock that multiplies `flops` and copies `bandwidth` a second, whatever runs."""

    def __init__(self, flops, bandwidth):
        self.now, self.flops, self.bandwidth = 0.0, flops, bandwidth

    def __call__(self):
        return int(self.now)


class Claims(CpuTimer):
    def __init__(self, machine):
        super().__init__(machine)
        self.machine = machine

    def time(self, steps, value):
        machine = self.machine
        assert len(steps) == 1

        def claim(given):
            if given.ndim == 2:
                machine.now += 2e9 * given.shape[0] ** 3 / machine.flops
            else:
                machine.now += 2e9 * given.numel() * 4 / machine.bandwidth
            return given

        return super().time((claim,), value)


def test_rates_are_worked_out_from_operations_and_bytes():
    found = measure("cpu", timer=Claims(Machine(1e12, 1e10)))
    assert found.compute.value == pytest.approx(1e12, rel=1e-3)
    assert found.compute.low == pytest.approx(1e12, rel=1e-3)
    assert found.memory.value == pytest.approx(1e10, rel=1e-3)


@pytest.mark.parametrize("seconds", [1.0, 4.0])
def test_limits_are_found_in_the_time_given(seconds):
    machine = Machine(2e10, 2e9)
    found = measure("cpu", seconds=seconds, timer=Claims(machine))
    pair = 2e9 * (
        found.details["side"] ** 3 / machine.flops + limits.COPIES["cpu"] / machine.bandwidth
    )
    assert limits.FEWEST < found.compute.samples < limits.MOST
    assert seconds * 2 / 3 * 1e9 <= machine.now <= seconds * 1e9 + 2 * pair


def test_a_slow_machine_is_spared_the_large_sizes():
    found = measure("cpu", timer=Claims(Machine(1e8, 1e10)))
    assert list(found.details["flops_by_side"]) == [256]
    assert found.compute.samples == limits.FEWEST


def test_roofline_by_hand():
    device = Limits("fp32", Rate(2e9, 1e9, 4e9, 9), Rate(1e9, None, None, 9), {}, {})
    bound = roofline(macs=1e9, bytes_moved=5e8, seconds=4.0, limits=device)
    assert (bound.attainable_s, bound.fraction, bound.bound) == (1.0, 0.25, "compute")
    assert (bound.low, bound.high) == (None, None)
    assert roofline(1e9, 3e9, 4.0, device).bound == "memory"
    assert roofline(1e9, 3e9, 4.0, device).fraction == 0.75
    known = device._replace(memory=Rate(1e9, 0.5e9, 2e9, 9))
    bound = roofline(1e9, 5e8, 4.0, known)
    assert (bound.low, bound.high) == (0.125, 0.5)


def test_reference_1_never_changes():
    module, images = reference("cpu")
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        result = module(images)
    products = {
        "stem and dense": 160**2 * 32 * 3 * 9 + 80**2 * 64 * 32 * 9,
        "depthwise, pointwise, down": 80**2 * 64 * (25 + 128) + 40**2 * 128 * 128 * 9,
        "linear": 400 * 128 * (384 + 84),
        "attention": 2 * 400 * 400 * 128,
    }
    assert sum(products.values()) == module.macs
    assert counter.get_total_flops() == 2 * module.macs
    assert module.name == "reference-1"
    assert sum(parameter.numel() for parameter in module.parameters()) == 237_332
    assert result.shape == (1, 400, 84)
    assert float(result.double().sum()) == pytest.approx(15430.105, rel=1e-5)
    assert float(result.std()) > 0.1


def test_reference_at_another_precision_computes_the_same():
    module, images = reference("cpu", "bf16")
    with torch.inference_mode():
        result = module(images)
    assert result.dtype == torch.bfloat16
    assert float(result.double().sum()) == pytest.approx(15430.105, rel=1e-2)


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16"])
def test_limits_of_a_gpu(precision):
    found = measure("cuda:0", precision)
    assert found.compute.value > 1e12
    assert found.memory.value > 1e11
