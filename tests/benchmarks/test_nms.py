"""NMS and the resize of a photograph beside their peers: `tox -e bench`, nothing else running."""

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.ops import batched_nms
from torchvision.transforms.v2 import functional as transforms

from detectors.boxes import grid_points
from detectors.interface import InputConfig
from detectors.suppression import group_nms, static_nms
from harness.data.resize import fitted, place, resize

CLASSES = 80
CANDIDATES = {  # number, and how unlike the classes are
    "many": (20000, 0.5),
    "some": (3000, 1.0),
    "few": (300, 2.0),
    "few of many classes": (100, 0.0),
}


def candidates(count: int, spread: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the best predictions of a 640 x 640 input at three levels.

    Args:
        count: how many.
        spread: of the classes' logits; the greater, the fewer classes share the best.
    """
    draw = torch.Generator().manual_seed(0)
    points, strides = grid_points([(80, 80), (40, 40), (20, 20)], (8, 16, 32), torch.device("cpu"))
    reach = torch.rand(len(points), 2, generator=draw) * 6 * strides[:, None]
    boxes = torch.cat([points - reach, points + reach], dim=1)
    logits = torch.randn(len(points), CLASSES, generator=draw)
    logits += spread * torch.randn(CLASSES, generator=draw) - 3
    scores, chosen = logits.flatten().sigmoid().topk(count)
    return boxes[chosen // CLASSES], scores, chosen % CLASSES


@pytest.mark.benchmark(group="suppress among 80 classes")
@pytest.mark.parametrize("suppress", [group_nms, batched_nms])
@pytest.mark.parametrize("size", CANDIDATES)
def test_nms(benchmark: Any, suppress: Callable[..., Tensor], size: str) -> None:
    boxes, scores, labels = candidates(*CANDIDATES[size])
    benchmark.group += f", {len(boxes)} candidates"
    arguments = (boxes, scores, labels, 0.65)
    kept = benchmark.pedantic(suppress, args=arguments, rounds=10, warmup_rounds=1)
    expected = batched_nms(boxes, scores, labels, 0.65)
    assert torch.equal(torch.sort(kept).values, torch.sort(expected).values)


def static(boxes: Tensor, scores: Tensor, labels: Tensor, limit: float) -> Tensor:
    alive = torch.ones_like(labels, dtype=torch.bool)
    return static_nms(boxes, labels, alive, limit, steps=16).keep.nonzero().squeeze(1)


@pytest.mark.benchmark(group="suppress 300 candidates in tensors of fixed size")
@pytest.mark.parametrize("suppress", [static, batched_nms])
def test_static_nms(benchmark: Any, suppress: Callable[..., Tensor]) -> None:
    boxes, scores, labels = candidates(*CANDIDATES["few"])
    arguments = (boxes, scores, labels, 0.65)
    kept = benchmark.pedantic(suppress, args=arguments, rounds=10, warmup_rounds=1)
    assert torch.equal(kept, batched_nms(*arguments).sort().values)


Image = NDArray[np.uint8]  # [H, W, 3]
INPUT = InputConfig(size=(640, 640), channels="bgr")  # as photographs are read


def ours(image: Image) -> Tensor:
    return place(resize(image, fitted(image.shape[:2], INPUT)), INPUT)


def by_opencv(image: Image) -> Tensor:
    height, width = fitted(image.shape[:2], INPUT)
    small = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    edges = (0, 640 - height, 0, 640 - width)
    grey = (INPUT.pad_value,) * 3
    padded = cv2.copyMakeBorder(small, *edges, cv2.BORDER_CONSTANT, value=grey)
    return torch.from_numpy(padded).permute(2, 0, 1).contiguous()


def by_torchvision(image: Image) -> Tensor:
    height, width = fitted(image.shape[:2], INPUT)
    whole = torch.from_numpy(image).permute(2, 0, 1)
    small = transforms.resize(whole, [height, width], antialias=False)
    edges = [0, 0, 640 - width, 640 - height]
    return transforms.pad(small, edges, fill=INPUT.pad_value)


def by_interpolation(image: Image) -> Tensor:
    """Resize in floating point."""
    size = fitted(image.shape[:2], INPUT)
    whole = torch.from_numpy(image).permute(2, 0, 1).float()[None]
    canvas = torch.full((3, 640, 640), INPUT.pad_value, dtype=torch.uint8)
    canvas[:, : size[0], : size[1]] = interpolate(whole, size, mode="bilinear")[0].round()
    return canvas


@pytest.mark.benchmark(group="letterbox a photograph of 960 x 720 into 640 x 640")
@pytest.mark.parametrize("letterbox", [ours, by_opencv, by_torchvision, by_interpolation])
def test_letterbox(benchmark: Any, letterbox: Callable[[Image], Tensor]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (72, 96, 3)).astype(np.uint8)
    image = cv2.resize(noise, (960, 720), interpolation=cv2.INTER_CUBIC)  # smooth, as photographs
    found = benchmark.pedantic(letterbox, args=(image,), rounds=20, warmup_rounds=2)
    expected = ours(image)
    assert found.shape == (3, 640, 640)
    assert (found.int() - expected.int()).abs().max() <= (0 if letterbox is ours else 3)
