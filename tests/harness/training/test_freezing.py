"""Stages that a recipe freezes come out as they went in, in every way that training goes."""

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detectors.interface import Detector
from harness.config.recipe import Recipe, RecipeError
from harness.data import DataSet
from harness.training.checkpoint import CheckpointError
from harness.training.ema import MovingAverage
from harness.training.freezing import Frozen
from harness.training.loop import Loop
from harness.training.train import train
from tests.harness.training.test_train import fake as fake  # a fixture
from tests.toy import STRIDE, Toy, ToyConfig

CPU = torch.device("cpu")


@dataclass(frozen=True)
class NormedConfig(ToyConfig):
    """A toy with norms and dropout in its backbone."""

    def build(self) -> Detector:
        detector = Toy(self)
        detector.backbone = nn.Sequential(
            nn.Conv2d(3, self.width, STRIDE, STRIDE),
            nn.BatchNorm2d(self.width),
            nn.Dropout(0.5),
            nn.ReLU(),
        )
        return detector


def normed() -> Detector:
    torch.manual_seed(0)
    return NormedConfig().build()


def recipe(**changes: Any) -> Recipe:
    base = {"epochs": 2, "batch_size": 4, "lr": 0.01, "workers": 0, "ema_decay": None}
    return Recipe.model_validate({**base, **changes})


def changed(detector: Detector, before: dict[str, Tensor]) -> set[str]:
    """Return the stages of which some tensor is not as it was."""
    now = detector.state_dict()
    return {key.partition(".")[0] for key in now if not torch.equal(now[key], before[key])}


@pytest.mark.parametrize(
    ("frozen", "learns"),
    [((), {"backbone", "head"}), (("backbone",), {"head"}), (("neck", "head"), {"backbone"})],
)
@pytest.mark.parametrize(
    "changes", [{}, {"accumulate": 2}, {"ema_decay": 0.9, "ema_ramp": 1}, {"optimizer": "sgd"}]
)
def test_what_is_frozen_stays_and_the_rest_learns(
    fake: Any, frozen: tuple[str, ...], learns: set[str], changes: dict[str, Any]
) -> None:
    detector = normed()
    before = copy.deepcopy(detector.state_dict())
    data = fake(images=8, micro_batch=4 // changes.get("accumulate", 1))
    train(detector, data, recipe(frozen=frozen, **changes), seed=0, device="cpu")
    assert changed(detector, before) == learns
    assert all(parameter.requires_grad for parameter in detector.parameters())


def test_the_optimiser_does_not_know_what_is_frozen(fake: Any) -> None:
    detector = normed()
    loop = Loop(detector, fake(images=4, micro_batch=4), recipe(frozen=["backbone"]), 0, CPU)
    known = {id(item) for group in loop.stepper.optimizer.param_groups for item in group["params"]}
    assert known == {id(item) for item in detector.head.parameters()}


def test_a_frozen_stage_gives_the_same_features_while_the_rest_trains() -> None:
    detector = normed()
    images = torch.rand(2, 3, 64, 64)
    expected = detector.eval().backbone(images)
    frozen = Frozen(detector, ["backbone"])
    detector.train()
    assert not torch.equal(detector.backbone(images), expected)
    detector = normed()
    frozen = Frozen(detector, ["backbone"])
    detector.train()
    frozen.settle()
    assert torch.equal(detector.backbone(images), expected)
    assert detector.head.training


def test_thawing_leaves_alone_what_the_detector_itself_froze() -> None:
    detector = normed()
    detector.backbone[0].requires_grad_(False)
    Frozen(detector, ["backbone"]).thaw()
    assert not any(item.requires_grad for item in detector.backbone[0].parameters())
    assert all(item.requires_grad for item in detector.backbone[1].parameters())


def test_an_average_of_what_does_not_change_is_it_bit_by_bit() -> None:
    detector = normed()
    average = MovingAverage(detector, 0.9, 10)
    for _ in range(5):
        average.update(detector)
    assert changed(average.model, detector.state_dict()) == set()


def test_a_training_goes_on_with_what_it_froze_and_with_nothing_else(
    fake: Any, tmp_path: Path
) -> None:
    detector = normed()
    before = copy.deepcopy(detector.state_dict())
    data = fake(images=8, micro_batch=4)
    loop = Loop(detector, data, recipe(frozen=["backbone"]), 0, CPU)
    loop.keep_in(tmp_path)
    loop.run_epoch(lambda _: None)
    resumed = normed()
    again = train(
        resumed, data, recipe(frozen=["backbone"]), seed=0, device="cpu", checkpoint=tmp_path
    )
    assert again.details["resumed"] == 1
    assert changed(resumed, before) == {"head"}
    with pytest.raises(CheckpointError, match="recipe.frozen"):
        train(normed(), data, recipe(), seed=0, device="cpu", checkpoint=tmp_path)


def test_nothing_that_learns_is_refused(fake: Any) -> None:
    detector = normed()
    data: DataSet = fake(images=4, micro_batch=4)
    with pytest.raises(RecipeError, match=r"recipe.frozen: backbone, head is frozen, and nothing"):
        train(detector, data, recipe(frozen=["backbone", "head"]), seed=0, device="cpu")
