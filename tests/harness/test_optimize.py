"""Learning rates worked out by hand, and which parameters decay."""

import pytest
import torch
from torch import nn

from harness.optimize import learning_rate, make, param_groups, set_learning_rate
from harness.recipe import Recipe

RTMDET = Recipe(
    epochs=300, batch_size=256, lr=0.004, warmup_steps=1000, warmup_start=1e-5, lr_end=0.05
)
STEPS = 300 * 462


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 4e-8),  # 1e-5 of the rate
        (333, 0.004 * (1e-5 + 0.99999 / 3)),  # a third of the way from step 0 to step 999
        (999, 0.004),
        (1000, 0.004),
        (150 * 462, 0.004),
        (200 * 462, 0.004 * (0.05 + 0.95 * 0.75)),  # cos(pi / 3) = 1 / 2
        (225 * 462, 0.004 * 0.525),
        (300 * 462, 0.0002),
    ],
)
def test_learning_rate_of_rtmdet(step: int, expected: float) -> None:
    assert learning_rate(step, STEPS, RTMDET) == pytest.approx(expected, rel=1e-9)


def test_warm_up_that_reaches_into_the_cosine_multiplies_it() -> None:
    recipe = RTMDET.model_copy(update={"warmup_steps": 9, "warmup_start": 0.2, "flat_until": 0.0})
    # Half of the warm-up, 0.6, times half of the cosine, 0.525.
    assert learning_rate(4, 8, recipe) == pytest.approx(0.004 * 0.6 * 0.525)


@pytest.mark.parametrize("change", [{"schedule": "constant"}, {"flat_until": 1.0}])
def test_a_schedule_without_cosine_stays_flat(change: dict[str, object]) -> None:
    recipe = RTMDET.model_copy(update={"warmup_steps": 0, **change})
    assert {learning_rate(step, 10, recipe) for step in range(10)} == {0.004}


class Sharing(nn.Module):
    """Every kind of parameter, with one convolution met twice and a frozen layer."""

    def __init__(self) -> None:
        super().__init__()
        conv = nn.Conv2d(2, 2, 3)
        self.levels = nn.ModuleList([nn.Sequential(conv, nn.BatchNorm2d(2)) for _ in range(3)])
        self.norms = nn.ModuleList([nn.GroupNorm(1, 2), nn.LayerNorm(2), nn.RMSNorm(2)])
        self.attention = nn.MultiheadAttention(2, 1)
        self.queries = nn.Parameter(torch.zeros(4))
        self.frozen = nn.Linear(2, 2).requires_grad_(False)


def test_groups_hold_every_trainable_parameter_once() -> None:
    model = Sharing()
    decayed, spared = param_groups(model, 0.05)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.05, 0.0)
    expected = {
        "levels.0.0.weight",
        "attention.in_proj_weight",
        "attention.out_proj.weight",
        "queries",
    }
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    assert {names[id(parameter)] for parameter in decayed["params"]} == expected
    both = [names[id(parameter)] for group in (decayed, spared) for parameter in group["params"]]
    assert sorted(both) == sorted(name for name in names.values() if not name.startswith("frozen"))


def test_decay_shrinks_weights_and_not_biases() -> None:
    model = nn.Linear(1, 1)
    nn.init.ones_(model.weight)
    nn.init.ones_(model.bias)
    optimizer = make(model, Recipe(epochs=1, batch_size=1, lr=0.1, weight_decay=0.5))
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert model.weight.item() == pytest.approx(1 - 0.1 * 0.5)
    assert model.bias.item() == 1.0


def test_an_empty_group_is_left_out() -> None:
    assert len(param_groups(nn.Linear(2, 2, bias=False), 0.1)) == 1


class Staged(nn.Module):
    """A backbone and a head that share a convolution; the backbone's own norm is spared."""

    def __init__(self) -> None:
        super().__init__()
        shared = nn.Conv2d(2, 2, 1)
        self.head = nn.Sequential(nn.Conv2d(2, 2, 1), shared)
        self.backbone = nn.Sequential(shared, nn.BatchNorm2d(2))


def test_the_backbone_learns_with_its_share_of_the_rate() -> None:
    model = Staged()
    optimizer = make(model, Recipe(epochs=1, batch_size=1, lr=0.4, backbone_lr=0.1))
    set_learning_rate(optimizer, 0.2)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = {
        names[id(parameter)]: (round(group["lr"], 9), group["weight_decay"])
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert found == {
        "head.0.weight": (0.2, 0.05),
        "head.0.bias": (0.2, 0.0),
        "head.1.weight": (0.02, 0.05),
        "head.1.bias": (0.02, 0.0),
        "backbone.1.weight": (0.02, 0.0),
        "backbone.1.bias": (0.02, 0.0),
    }


def test_a_backbone_like_the_rest_makes_no_groups_of_its_own() -> None:
    assert [group["lr_share"] for group in param_groups(Staged(), 0.1)] == [1.0, 1.0]
