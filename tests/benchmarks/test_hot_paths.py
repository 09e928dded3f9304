"""Hot paths beside their peers: run with `tox -e bench`, with nothing else running."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from detectors.matching import HungarianMatcher
from detectors.queries import Objects
from detectors.rtdetr.criterion import RTDETRCriterionConfig
from detectors.rtdetr.queries import TrainingOutputs
from tests.detectors.rtdetr_cases import plain_losses, random_objects, random_outputs


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
