"""Hot paths beside their peers: run with `tox -e bench`, with nothing else running."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from detectors.assigners import DynamicSoftLabel
from detectors.boxes import grid_points
from detectors.interface import Target
from detectors.rtdetr.criterion import RTDETRCriterionConfig
from detectors.rtdetr.matcher import HungarianMatcher
from detectors.rtdetr.queries import Objects, TrainingOutputs
from tests.detectors.rtdetr_cases import plain_losses, random_objects, random_outputs

CLASSES = 80


def scene(images: int, objects: int) -> dict[str, Any]:
    """Predictions of a 640 x 640 input at three levels, and objects to find."""
    draw = torch.Generator().manual_seed(0)
    points, strides = grid_points([(80, 80), (40, 40), (20, 20)], (8, 16, 32), torch.device("cpu"))
    reach = torch.rand(images, len(points), 2, generator=draw) * 6 * strides[:, None]
    boxes = torch.cat([points - reach, points + reach], dim=-1)
    corners = torch.rand(images, objects, 2, generator=draw) * 500
    sides = 16 + torch.rand(images, objects, 2, generator=draw) * 120
    labels = torch.randint(CLASSES, (images, objects), generator=draw)
    found = torch.cat([corners, corners + sides], dim=-1)
    return {
        "logits": torch.randn(images, len(points), CLASSES, generator=draw) - 3,
        "boxes": boxes,
        "points": points,
        "strides": strides,
        "targets": [Target(*each) for each in zip(found, labels, strict=True)],
    }


def whole(logits: Tensor, boxes: Tensor, points: Tensor, strides: Tensor, targets: Any) -> Any:
    return DynamicSoftLabel()(logits, boxes, points, strides, targets)


def by_image(logits: Tensor, boxes: Tensor, points: Tensor, strides: Tensor, targets: Any) -> Any:
    assigner = DynamicSoftLabel()
    return [
        assigner(logits[i : i + 1], boxes[i : i + 1], points, strides, targets[i : i + 1])[0]
        for i in range(len(targets))
    ]


@pytest.mark.benchmark(group="assign 16 images, 8400 points, 80 classes, 20 objects")
@pytest.mark.parametrize("assign", [whole, by_image])
def test_assigner(benchmark: Any, assign: Callable[..., Any]) -> None:
    inputs = scene(images=16, objects=20)
    found = benchmark.pedantic(assign, kwargs=inputs, rounds=5, warmup_rounds=1)
    expected = whole(**inputs)
    assert all(torch.equal(a.gt_index, b.gt_index) for a, b in zip(found, expected, strict=True))


def together(outputs: TrainingOutputs, objects: Objects) -> dict[str, Tensor]:
    return RTDETRCriterionConfig().build(HungarianMatcher())(outputs, objects, None)


@pytest.mark.benchmark(group="match and compare 7 layers, 4 images, 300 queries, 20 objects")
@pytest.mark.parametrize("losses", [together, plain_losses])
def test_rtdetr_losses(benchmark: Any, losses: Callable[..., dict[str, Tensor]]) -> None:
    """A step with gradients, beside a loop over layers and images."""
    objects = random_objects(20, 20, 20, 20)
    outputs = random_outputs(layers=6, images=4, queries=300)

    def step() -> Tensor:
        total = sum(losses(outputs, objects).values())
        total.backward()
        return total

    total = benchmark.pedantic(step, rounds=10, warmup_rounds=2)
    torch.testing.assert_close(total, sum(plain_losses(outputs, objects).values()))
