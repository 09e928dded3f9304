"""The moving average against numbers worked out by hand."""

import math

import pytest
import torch
from torch import nn

from harness.training.ema import MovingAverage, momentum


def constant(value: float) -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, value)
    return layer


def test_momentum_falls_from_one_to_one_minus_decay() -> None:
    # 0.9998 exp(-1 / 2000) + 0.0002 = 0.9998 * 0.9995001250 + 0.0002
    assert momentum(0, 0.9998, 2000) == pytest.approx(0.9995002249, abs=1e-9)
    # 0.9998 / e + 0.0002
    assert momentum(1999, 0.9998, 2000) == pytest.approx(0.3680058653, abs=1e-9)
    assert momentum(10**7, 0.9998, 2000) == pytest.approx(0.0002, abs=1e-12)


def test_averages_as_worked_out_by_hand() -> None:
    model = constant(1.0)
    average = MovingAverage(model, decay=0.5, ramp=1.0)
    values = []
    for weight in (3.0, 5.0, -1.0):
        nn.init.constant_(model.weight, weight)
        average.update(model)
        values.append(average.model.weight.item())
    # The first update copies; then shares 0.5 e^-2 + 0.5 = 0.567668 and 0.5 e^-3 + 0.5 = 0.524894.
    second = 3 + 0.567667642 * 2
    assert values == pytest.approx([3.0, second, second + 0.524893534 * (-1 - second)], rel=1e-6)


def test_the_ramp_of_rtdetr_is_the_same() -> None:
    """Upstream keeps decay * (1 - exp(-n / 2000)) of the average in its n-th update, from 1."""
    for update in (0, 1, 500, 10**5):
        kept = 0.9999 * (1 - math.exp(-(update + 1) / 2000))
        assert 1 - momentum(update, 0.9999, 2000) == pytest.approx(kept, rel=1e-9)


def test_buffers_are_averaged_and_counters_copied() -> None:
    model = nn.BatchNorm2d(1)
    average = MovingAverage(model, decay=0.5, ramp=1e-9)  # shares: a copy, then one half each
    for mean, count in ((2.0, 7), (4.0, 9)):
        model.running_mean.fill_(mean)
        model.num_batches_tracked.fill_(count)
        average.update(model)
    assert average.model.running_mean.item() == pytest.approx(3.0)
    assert average.model.num_batches_tracked.item() == 9


def test_a_shared_tensor_is_averaged_once() -> None:
    shared = constant(0.0)
    model = nn.ModuleList([shared, nn.Sequential(shared)])
    average = MovingAverage(model, decay=0.75, ramp=1e-9)
    average.update(model)
    nn.init.constant_(shared.weight, 1.0)
    average.update(model)
    assert average.model[0].weight.item() == pytest.approx(0.25)
    assert average.model[0] is average.model[1][0]


def test_the_copy_neither_trains_nor_touches_the_model() -> None:
    model = constant(2.0)
    average = MovingAverage(model, decay=0.9, ramp=10.0)
    average.update(model)
    average.model.weight.fill_(math.pi)
    assert model.weight.item() == 2.0
    assert model.training
    assert not average.model.training
    assert not average.model.weight.requires_grad
    assert not torch.equal(average.model.weight, model.weight)


def test_another_model_may_be_followed_from_some_update_on() -> None:
    first, second = constant(0.0), constant(8.0)
    average = MovingAverage(first, decay=0.5, ramp=1e-9)
    for model in (first, second, second):
        average.update(model)
    assert average.model.weight.item() == pytest.approx(6.0)


def test_weights_that_are_loaded_meanwhile_are_averaged() -> None:
    model = constant(0.0)
    average = MovingAverage(model, decay=0.5, ramp=1e-9)
    average.update(model)
    model.load_state_dict(constant(4.0).state_dict())
    average.update(model)
    assert average.model.weight.item() == pytest.approx(2.0)
