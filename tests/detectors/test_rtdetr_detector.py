"""RT-DETR as a whole: what training waits for, and what leaves it untouched."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import detectors
from detectors.config import describe
from detectors.interface import Detector, Target
from tests.detectors.rtdetr_cases import count_waits

SIZE = (96, 128)
NARROW = {
    "backbone.width_mult": 0.125,
    "neck.hidden_dim": 32,
    "neck.feedforward_dim": 32,
    "head.hidden_dim": 32,
    "head.feedforward_dim": 32,
    "head.num_layers": 3,
    "head.num_queries": 30,
    "input.size": SIZE,
    "num_classes": 3,
}
TWO = Target(torch.tensor([[4.0, 5, 40, 50], [1, 2, 30, 30]]), torch.tensor([0, 2]))
NONE = Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
FAMILIES = ["rtdetr_r18", "rtdetr_r50", "rtdetr_hgnetv2_l"]


def build(name: str = "rtdetr_r18", **knobs: Any) -> Detector:
    torch.manual_seed(0)
    turned = {path.replace("__", "."): value for path, value in knobs.items()}
    return detectors.create(name, NARROW | turned)


@pytest.fixture(scope="module")
def images() -> Tensor:
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(1))


def test_a_step_waits_for_the_device_once(images: Tensor) -> None:
    model = build().train()
    with count_waits() as reads:
        sum(model.losses(images, [TWO, NONE]).values()).backward()
    assert reads == {"cpu": 1}


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("targets", [[TWO, NONE], [NONE, NONE]], ids=["objects", "none"])
@pytest.mark.parametrize("mixed", [False, True])
def test_all_that_learns_has_a_gradient_even_without_objects(
    name: str, targets: list[Target], mixed: bool, images: Tensor
) -> None:
    """Processes that train together need them."""
    model = build(name).train()
    with torch.autocast("cpu", torch.bfloat16, enabled=mixed):
        losses = model.losses(images, targets)
    assert {value.dtype for value in losses.values()} == {torch.float32}
    sum(losses.values()).backward()
    learning = {key: p.grad for key, p in model.named_parameters() if p.requires_grad}
    assert [key for key, grad in learning.items() if grad is None] == []
    assert all(grad.isfinite().all() for grad in learning.values() if grad is not None)


def test_what_is_marked_as_acting_at_inference() -> None:
    marked = [
        knob.path for knob in describe(detectors.CONFIGS["rtdetr_r18"]) if knob.inference_only
    ]
    assert marked == [
        "head.layers_used",
        "postprocess.max_detections",
        "postprocess.score_threshold",
    ]


def test_the_exit_leaves_training_untouched(images: Tensor) -> None:
    losses = []
    for used in (0, 1):
        model = build(head__layers_used=used).train()
        losses.append(model.losses(images, [TWO, NONE]))
    assert losses[0] == losses[1]


@pytest.mark.parametrize("used", [1, 2, 3])
def test_a_saved_detector_leaves_after_any_layer(used: int, images: Tensor, tmp_path: Path) -> None:
    trained = build().eval()
    folder = detectors.weights.save(trained, tmp_path / "weights", "rtdetr_r18")
    model = detectors.create(
        "rtdetr_r18", NARROW | {"head.layers_used": used}, weights=folder
    ).eval()
    with torch.no_grad():
        features = trained.neck(trained.backbone(images))
        logits = trained.head.train_outputs(features, None).layers.logits[used - 1]
        torch.testing.assert_close(model(images).logits, logits)
        deployed = model.deploy()
        torch.testing.assert_close(deployed(images).logits, logits, rtol=1e-3, atol=1e-3)
    assert len(deployed.head.layers) == used
    assert len(model.head.layers) == 3
