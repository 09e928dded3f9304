"""Knobs that are `auto` become the published ones with weights, and neutral ones without."""

from typing import Any

import pytest
import torch

import detectors
from harness.config import knobs
from harness.config import recipe as recipes
from harness.config.knobs import Setup
from harness.released import resolve_auto
from tests.toy import TOY

PUBLISHED = {
    "rtdetr_r18": (False, 0, 0.1),
    "rtdetr_r34": (False, 0, 0.1),
    "rtdetr_r50_m": (True, 1, 0.1),
    "rtdetr_r50": (True, 1, 0.1),
    "rtdetr_r101": (True, 1, 0.01),
    "rtdetr_hgnetv2_l": (True, 1, 0.05),
    "rtdetr_hgnetv2_x": (True, 1, 0.01),
}
"""Norms frozen, parts frozen, share of the rate: ../shared/papers/recipes.md, Variants."""


def setup(detector: Any, **changes: Any) -> Setup:
    plain = knobs.start(detector, recipes.load("smoke", {"backbone_lr": "auto"}), "shapes")
    return knobs.turn(plain, changes)


def used(found: Setup) -> tuple[Any, ...]:
    assert found.recipe is not None
    backbone = found.detector.backbone
    return backbone.freeze_norm, backbone.frozen_stages, found.recipe.backbone_lr


@pytest.mark.parametrize("name", PUBLISHED)
def test_with_weights_as_published_and_without_nothing_is_held_back(name: str) -> None:
    plain = setup(detectors.CONFIGS[name])
    assert used(resolve_auto(plain, from_weights=True)) == PUBLISHED[name]
    assert used(resolve_auto(plain, from_weights=False)) == (False, 0, 1.0)


def test_what_is_set_is_left_as_it_is() -> None:
    changes = {
        "detector.backbone.freeze_norm": False,
        "detector.backbone.frozen_stages": 3,
        "recipe.backbone_lr": 0.5,
    }
    plain = setup(detectors.CONFIGS["rtdetr_r50"], **changes)
    for from_weights in (False, True):
        assert resolve_auto(plain, from_weights) == plain


@pytest.mark.parametrize("detector", [TOY, detectors.CONFIGS["rtmdet_tiny"]])
def test_a_backbone_that_nobody_slows_down_learns_at_the_full_rate(detector: Any) -> None:
    for from_weights in (False, True):
        found = resolve_auto(setup(detector), from_weights)
        assert found.recipe is not None
        assert (found.recipe.backbone_lr, found.detector) == (1.0, detector)


def test_a_setup_without_a_recipe_is_resolved_too() -> None:
    plain = knobs.start(detectors.CONFIGS["rtdetr_r50"], None, "shapes")
    assert resolve_auto(plain, True).detector.backbone.freeze_norm is True


@pytest.mark.parametrize("name", ["rtdetr_r50", "rtdetr_hgnetv2_l"])
def test_a_detector_that_is_built_by_itself_is_as_published(name: str) -> None:
    with torch.device("meta"):
        found = detectors.create(name)
        plain = resolve_auto(setup(detectors.CONFIGS[name]), from_weights=True).detector.build()
    assert found.state_dict().keys() == plain.state_dict().keys()
    frozen = [key for key, value in found.named_parameters() if not value.requires_grad]
    assert frozen == [key for key, value in plain.named_parameters() if not value.requires_grad]
    assert not any(key.endswith("num_batches_tracked") for key in found.backbone.state_dict())
