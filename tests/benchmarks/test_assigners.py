"""Assigners beside loops over images that take the papers' formulas literally: `tox -e bench`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn.functional import binary_cross_entropy, one_hot
from torch.nn.functional import binary_cross_entropy_with_logits as entropy_of_logits
from torchvision.ops import box_iou, generalized_box_iou, sigmoid_focal_loss

from detectors.assigners import (
    ATSS,
    OTA,
    DynamicSoftLabel,
    FCOSCenter,
    Hungarian,
    MaxIoU,
    SimOTA,
    TaskAligned,
)
from detectors.boxes import grid_points
from detectors.interface import Target

CLASSES = 80
ROUNDS = 5
SLOW = 10.0  # seconds; what takes longer is timed once
LEVELS = ((0.0, 64.0, 6400), (64.0, 128.0, 1600), (128.0, torch.inf, 400))  # limits, points


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


def sides(points: Tensor, gt: Tensor) -> Tensor:
    """Return the distances of points to the four sides of boxes, [N, M, 4]."""
    return torch.cat((points[:, None] - gt[:, :2], gt[:, 2:] - points[:, None]), dim=-1)


def middle(points: Tensor, strides: Tensor, gt: Tensor, radius: float) -> Tensor:
    """Return which points are in the region around the centre of boxes, [N, M]."""
    offset = (points[:, None] - (gt[:, :2] + gt[:, 2:]) / 2).abs()
    return (offset < radius * strides[:, None, None]).all(-1)


def anchors(points: Tensor, strides: Tensor) -> Tensor:
    return torch.cat((points - 4 * strides[:, None], points + 4 * strides[:, None]), dim=1)


def dynamic(cost: Tensor, ious: Tensor, valid: Tensor, topk: int) -> Tensor:
    """Take the cheapest [N valid, M] for each object, and settle; return [N] objects."""
    counts = ious.topk(topk, dim=0).values.sum(0).int().clamp(min=1)
    matching = torch.zeros_like(cost)
    for gt in range(cost.shape[1]):
        matching[cost[:, gt].topk(int(counts[gt]), largest=False).indices, gt] = 1
    several = matching.sum(1) > 1
    if several.any():
        winner = cost[several].argmin(1)
        matching[several] = 0
        matching[several, winner] = 1
    found = torch.full((len(valid),), -1)
    taken = torch.where(matching.sum(1) > 0, matching.argmax(1), -1)
    found[valid] = taken
    return found


def dynamic_soft_label(
    logits: Tensor, boxes: Tensor, points: Tensor, strides: Tensor, target: Target
) -> Tensor:
    gt, labels = target
    valid = (sides(points, gt).amin(-1) > 0).any(1)
    ious = box_iou(boxes[valid], gt)
    shape = (*ious.shape, CLASSES)
    soft = one_hot(labels, CLASSES) * ious[..., None]
    pairs = logits[valid][:, None].expand(shape)
    focus = (soft - pairs.sigmoid()).abs().pow(2)
    classes = (entropy_of_logits(pairs, soft, reduction="none") * focus).sum(-1)
    offset = points[valid][:, None] - (gt[:, :2] + gt[:, 2:]) / 2
    distance = offset.pow(2).sum(-1).sqrt() / strides[valid][:, None]
    cost = classes - 3 * (ious + 1e-7).log() + 10 ** (distance - 3)
    return dynamic(cost, ious, valid, 13)


def sim_ota(
    logits: Tensor, boxes: Tensor, points: Tensor, strides: Tensor, target: Target
) -> Tensor:
    gt, labels = target
    within, central = sides(points, gt).amin(-1) > 0, middle(points, strides, gt, 2.5)
    valid = (within | central).any(1)
    ious = box_iou(boxes[valid], gt)
    shape = (*ious.shape, CLASSES)
    hard = one_hot(labels, CLASSES).float().expand(shape)
    scores = logits[valid].sigmoid()[:, None].expand(shape)
    classes = binary_cross_entropy(scores, hard, reduction="none").sum(-1)
    cost = classes - 3 * (ious + 1e-7).log() + 1e5 * ~(within & central)[valid]
    return dynamic(cost, ious, valid, 10)


def by_overlap(taken: Tensor, ious: Tensor) -> Tensor:
    """Give each prediction to the object that takes it and overlaps it most."""
    best, winner = torch.where(taken, ious, -1).max(1)
    return torch.where(best >= 0, winner, -1)


def task_aligned(
    logits: Tensor, boxes: Tensor, points: Tensor, strides: Tensor, target: Target
) -> Tensor:
    gt, labels = target
    ious = box_iou(boxes, gt)
    metric = logits.sigmoid()[:, labels] * ious.pow(6)
    best = metric.topk(13, dim=0)
    taken = torch.zeros_like(metric, dtype=torch.bool).scatter_(0, best.indices, best.values > 0)
    return by_overlap(taken & (sides(points, gt).amin(-1) > 0.01), ious)


def atss(logits: Tensor, boxes: Tensor, points: Tensor, strides: Tensor, target: Target) -> Tensor:
    gt, _ = target
    ious = box_iou(anchors(points, strides), gt)
    distance = (points[:, None] - (gt[:, :2] + gt[:, 2:]) / 2).pow(2).sum(-1).sqrt()
    nearest, first = [], 0
    for _, _, count in LEVELS:
        level = distance[first : first + count]
        nearest.append(level.topk(9, dim=0, largest=False).indices + first)
        first += count
    index = torch.cat(nearest)
    candidates = ious.gather(0, index)
    good = candidates >= candidates.mean(0) + candidates.std(0)
    taken = torch.zeros_like(ious, dtype=torch.bool).scatter_(0, index, good)
    return by_overlap(taken & (sides(points, gt).amin(-1) > 0.01), ious)


def max_iou(
    logits: Tensor, boxes: Tensor, points: Tensor, strides: Tensor, target: Target
) -> Tensor:
    ious = box_iou(target.boxes, anchors(points, strides))
    best, winner = ious.max(0)
    found = torch.full((len(points),), -2)
    found[best < 0.4] = -1
    found[best >= 0.5] = winner[best >= 0.5]
    for gt, top in enumerate(ious.amax(1)):
        found[ious[gt] == top] = gt
    return found


def fcos(logits: Tensor, boxes: Tensor, points: Tensor, strides: Tensor, target: Target) -> Tensor:
    gt, _ = target
    distances = sides(points, gt)
    limits = torch.cat([torch.tensor([limit[:2]]).repeat(limit[2], 1) for limit in LEVELS])
    farthest = distances.amax(-1)
    fits = (distances.amin(-1) > 0) & middle(points, strides, gt, 1.5)
    fits &= (farthest >= limits[:, :1]) & (farthest <= limits[:, 1:])
    areas = ((gt[:, 2:] - gt[:, :2]).prod(1)).expand(fits.shape).masked_fill(~fits, torch.inf)
    smallest, winner = areas.min(1)
    return torch.where(smallest.isfinite(), winner, -1)


def ota(logits: Tensor, boxes: Tensor, points: Tensor, strides: Tensor, target: Target) -> Tensor:
    """Transport among all points, as the paper has it."""
    gt, labels = target
    allowed = ((sides(points, gt).amin(-1) > 0) & middle(points, strides, gt, 2.5)).T  # [M, N]
    ious = box_iou(gt, boxes)
    shape = (*ious.shape, CLASSES)
    hard = one_hot(labels, CLASSES).float()[:, None].expand(shape)
    classes = sigmoid_focal_loss(logits.expand(shape), hard).sum(-1)
    nothing = sigmoid_focal_loss(logits, torch.zeros_like(logits)).sum(-1)
    cost = classes - 1.5 * (ious + 1e-7).log() + 1e5 * ~allowed
    kernel = -torch.cat((cost, nothing[None])) / 0.1
    counts = (ious * allowed).topk(20, dim=1).values.sum(1).int().clamp(min=1).float()
    supply = torch.cat((counts, len(points) - counts.sum(0, keepdim=True))).log()
    u, v = torch.zeros(len(kernel)), torch.zeros(len(points))
    for _ in range(50):
        v = -(kernel + u[:, None]).logsumexp(0)
        u = supply - (kernel + v).logsumexp(1)
    found = (kernel + u[:, None]).argmax(0)
    return torch.where(found < len(gt), found, -1)


def hungarian(
    logits: Tensor, boxes: Tensor, points: Tensor, strides: Tensor, target: Target
) -> Tensor:
    gt, labels = target
    score = logits.sigmoid()[:, labels]
    negative = 0.75 * score**2 * -(1 - score + 1e-8).log()
    positive = 0.25 * (1 - score) ** 2 * -(score + 1e-8).log()
    ours, theirs = (
        torch.cat(((each[:, :2] + each[:, 2:]) / 2, each[:, 2:] - each[:, :2]), dim=1) / 640
        for each in (boxes, gt)
    )
    distance = torch.cdist(ours, theirs, p=1)
    cost = 2 * (positive - negative) + 5 * distance - 2 * generalized_box_iou(boxes, gt)
    predictions, objects = linear_sum_assignment(cost.numpy())
    found = torch.full((len(points),), -1)
    found[torch.from_numpy(predictions)] = torch.from_numpy(objects)
    return found


PEERS = [
    (DynamicSoftLabel(), dynamic_soft_label, 0.5),
    (SimOTA(), sim_ota, 0.5),
    (TaskAligned(), task_aligned, None),
    (ATSS(), atss, None),
    (MaxIoU(), max_iou, None),
    (FCOSCenter(), fcos, None),
    (OTA(), ota, 0.5),
    (Hungarian(), hungarian, None),
]


@pytest.fixture(autouse=True)
def single_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(
    ("assigner", "formulas", "share"), PEERS, ids=[type(each).__name__ for each, _, _ in PEERS]
)
def test_batch_beside_a_loop_over_images(
    assigner: Any,
    formulas: Callable[..., Tensor],
    share: float | None,
    pytestconfig: pytest.Config,
) -> None:
    """Assign 16 images with 8400 points, 80 classes and 20 objects each, both ways in turns.

    Where nothing is to be benchmarked, see with two that both assign the same.
    """
    count = 2 if pytestconfig.getoption("benchmark_disable") else 16
    inputs = scene(images=count, objects=20)

    def batch() -> list[Tensor]:
        return [each.gt_index for each in assigner(**inputs)]

    def loop() -> list[Tensor]:
        images = zip(inputs["logits"], inputs["boxes"], inputs["targets"], strict=True)
        return [formulas(*two, inputs["points"], inputs["strides"], gt) for *two, gt in images]

    pairs = list(zip(batch(), loop(), strict=True))
    equal = sum((ours == theirs).sum().item() for ours, theirs in pairs) / (count * 8400)
    assert equal > 0.9999
    if pytestconfig.getoption("benchmark_disable"):
        return
    times = [(seconds(batch), seconds(loop))]
    while len(times) < ROUNDS and times[0][1] < SLOW:
        times.append((seconds(batch), seconds(loop)))
    ratio = median(ours / theirs for ours, theirs in times)
    best = [1000 * min(each) for each in zip(*times, strict=True)]
    name = type(assigner).__name__
    print(f"{name}: {best[0]:.0f} against {best[1]:.0f} ms, ratio {ratio:.3f}, equal {equal:.5f}")
    assert share is None or ratio <= share


def seconds(job: Callable[[], Any]) -> float:
    before = time.perf_counter()
    job()
    return time.perf_counter() - before
