"""Which share of the time goes into operators that are not counted: known cases."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from harness.measure.complexity import coverage


def event(name, time, parent=None):
    made = SimpleNamespace(name=name, cpu_parent=parent, cpu_children=[], self_cpu_time_total=time)
    made.self_device_time_total = 2 * time
    if parent is not None:
        parent.cpu_children.append(made)
    return made


def test_time_belongs_to_the_outermost_operator_that_has_a_place():
    conv = event("aten::conv2d", 1.0)  # made of others
    inner = event("aten::convolution", 2.0, conv)
    copied = event("aten::copy_", 57.0, inner)  # cheap by itself, but a part of the convolution
    silu, pool = event("aten::silu", 30.0), event("aten::max_pool2d_with_indices", 10.0)
    outside = event("cudaLaunchKernel", 1000.0)
    found = coverage.summarise([conv, inner, copied, silu, pool, outside], on_gpu=False)
    assert found.groups == pytest.approx(
        {"counted": 0.59, "elementwise": 0.3, "cheap": 0.1, "around": 0.01}
    )
    assert found.uncounted == pytest.approx(0.41)
    assert found.operators == pytest.approx(
        {"silu": 0.3, "max_pool2d_with_indices": 0.1, "conv2d": 0.01}
    )


def test_on_a_gpu_the_kernels_count_and_nothing_is_nothing():
    assert coverage.summarise([event("aten::mm", 1.0)], on_gpu=True).uncounted == 0
    assert coverage.summarise([], on_gpu=True) == "the profiler saw no operator"


def test_a_network_of_products_and_one_of_sines(capfd):
    x, layer = torch.rand(512, 512), nn.Linear(512, 512)
    with torch.inference_mode():
        products = [coverage.measure(lambda: layer(x), "cpu") for _ in range(3)]
        sines = coverage.measure(lambda: x.sin(), "cpu")
    assert max(found.groups["counted"] for found in products) > 0.9  # others may disturb one
    assert sines.uncounted == 1
    assert list(sines.operators)[0] == "sin"
    assert capfd.readouterr().err == ""


def test_attention_counts_whichever_kernel_runs_it():
    query = torch.rand(1, 4, 256, 64)
    attend = nn.functional.scaled_dot_product_attention
    with torch.inference_mode():
        tries = [coverage.measure(lambda: attend(query, query, query), "cpu") for _ in range(3)]
    assert max(found.groups["counted"] for found in tries) > 0.9


@pytest.mark.gpu
def test_kernels_of_a_gpu_are_sorted():
    x = torch.rand(4096, 4096, device="cuda")
    found = coverage.measure(lambda: (x @ x).relu(), "cuda")
    assert 0.5 < found.groups["counted"] < 1
    assert "relu" in found.operators
