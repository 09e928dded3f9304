"""Learning rates worked out by hand, and which parameters decay."""

import json
import re
from pathlib import Path

import pytest
import torch
from torch import nn

import detectors
from detectors.rtdetr.weights import RENAMES
from harness.config import knobs
from harness.config import recipe as recipes
from harness.config.recipe import Recipe, RecipeError
from harness.released import resolve_auto
from harness.training.optimize import learning_rate, make, param_groups, set_learning_rate

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


def test_a_cosine_begins_at_once() -> None:
    recipe = RTMDET.model_copy(update={"warmup_steps": 0, "schedule": "cosine", "lr_end": 0.0})
    shares = [learning_rate(step, 6, recipe) / 0.004 for step in (0, 2, 3, 4)]
    assert shares == pytest.approx([1.0, 0.75, 0.5, 0.25])  # cos(pi / 3) = 1 / 2


def test_steps_fall_after_8_and_11_of_12_epochs() -> None:
    recipe = RTMDET.model_copy(update={"warmup_steps": 0, "schedule": "step"})
    rates = [learning_rate(step, 120, recipe) for step in (0, 79, 80, 109, 110, 119)]
    assert rates == pytest.approx([4e-3, 4e-3, 4e-4, 4e-4, 4e-5, 4e-5])


def test_the_rate_follows_the_batch_that_it_is_stated_for() -> None:
    recipe = recipes.load("rtmdet", {"batch_size": 64})
    assert recipe.scaled_lr == pytest.approx(0.001)
    assert learning_rate(1000, STEPS, recipe) == pytest.approx(0.001)
    assert recipes.load("rtmdet").scaled_lr == 0.004
    assert recipes.load("short", {"batch_size": 64}).scaled_lr == recipes.load("short").lr


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


def momentum_steps(**knobs: object) -> list[float]:
    """Return where SGD goes from 1 in two steps, each with a gradient of 1, and a rate of 0.1."""
    model = nn.Linear(1, 1, bias=False)
    nn.init.ones_(model.weight)
    settings = {"epochs": 1, "batch_size": 1, "lr": 0.1, "optimizer": "sgd", **knobs}
    optimizer = make(model, Recipe.model_validate(settings))
    places = []
    for _ in range(2):
        model.weight.grad = torch.ones_like(model.weight)
        optimizer.step()
        places.append(model.weight.item())
    return places


def test_sgd_as_worked_out_by_hand() -> None:
    plain = {"weight_decay": 0.0, "momentum": 0.5}
    assert momentum_steps(**plain) == pytest.approx([0.9, 0.9 - 0.1 * 1.5])
    assert momentum_steps(**plain, nesterov=True) == pytest.approx([0.85, 0.85 - 0.1 * 1.75])
    assert momentum_steps(weight_decay=0.5, momentum=0.0) == pytest.approx([0.85, 0.7075])


def test_an_optimiser_that_does_not_exist_is_refused() -> None:
    with pytest.raises(RecipeError, match="nesterov looks ahead along the momentum, which is 0"):
        recipes.load("short", {"nesterov": True, "momentum": 0})
    with pytest.raises(RecipeError, match=r"no_decay: '\(' cannot be searched"):
        recipes.load("short", {"no_decay": ["("]})


def decays(groups: list[dict[str, object]], model: nn.Module) -> dict[str, tuple[float, bool]]:
    """Return each parameter's share of the rate, and whether it decays."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        names[id(parameter)]: (group["lr_share"], group["weight_decay"] > 0)
        for group in groups
        for parameter in group["params"]
    }


def test_what_is_spared_may_be_named_or_nothing() -> None:
    model = Staged()
    named = decays(param_groups(model, 0.1, no_decay=(r"^head.*bias$",)), model)
    assert {name for name, (_, decay) in named.items() if not decay} == {
        "head.0.bias",
        "head.1.bias",
    }
    everything = decays(param_groups(model, 0.1, no_decay="none"), model)
    assert all(decay for _, decay in everything.values())
    with pytest.raises(RecipeError, match=r"no parameter's name has 'nrom' in it"):
        param_groups(model, 0.1, no_decay=("nrom",))


ENCODER = r"^(?=.*encoder(?=.*bias|.*norm.*weight)).*$"
DECODER = r"^(?=.*decoder(?=.*bias|.*norm.*weight)).*$"
NORMS = r"^(?=.*backbone)(?=.*norm).*$"


@pytest.mark.parametrize(
    ("name", "reference", "recipe", "rate", "spared"),
    [
        ("rtdetr_r18", "r18vd", "rtdetr", 0.1, (ENCODER, DECODER, NORMS)),
        ("rtdetr_r34", "r34vd", "rtdetr", 0.1, (ENCODER, DECODER, NORMS)),
        ("rtdetr_r50_m", "r50vd_m", "rtdetr", 0.1, (ENCODER, DECODER)),
        ("rtdetr_r50", "r50vd", "rtdetr", 0.1, (ENCODER, DECODER)),
        ("rtdetr_r101", "r101vd", "rtdetr_r101", 0.01, ()),
    ],
)
def test_groups_of_rtdetr_are_those_of_the_reference(
    shared: Path, name: str, reference: str, recipe: str, rate: float, spared: tuple[str, ...]
) -> None:
    start = knobs.start(detectors.CONFIGS[name], recipes.load(recipe), "shapes")
    setup = resolve_auto(start, from_weights=True)
    model, chosen = setup.detector.build(), setup.recipe
    assert chosen is not None
    assert chosen.backbone_lr == rate
    found = decays(param_groups(model, 0.1, rate, chosen.no_decay), model)
    spec = json.loads((shared / "reference" / f"spec_rtdetr_{reference}.json").read_text("utf-8"))
    expected = {}
    for upstream, *_ in spec["state_dict"]:
        ours = upstream
        for pattern, name in RENAMES:
            ours = re.sub(pattern, name, ours)
        if ours in found:
            share = rate if "backbone" in upstream else 1.0
            decay = not any(re.match(pattern, upstream) for pattern in spared)
            expected[ours] = (share, decay)
    assert found == expected
    trainable = sum(each.numel() for each in model.parameters() if each.requires_grad)
    assert trainable == spec["trainable_params"]


def test_a_rate_that_nobody_resolved_is_refused() -> None:
    with pytest.raises(RecipeError, match="recipe.backbone_lr is auto here"):
        make(Staged(), Recipe(epochs=1, batch_size=1, lr=0.4, backbone_lr="auto"))


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
