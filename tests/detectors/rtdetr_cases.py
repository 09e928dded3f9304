"""What RT-DETR's training parts are tried on, and a plain way to compute its losses."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torchvision.ops import box_convert, box_iou, generalized_box_iou

from detectors.queries import Objects, Predictions
from detectors.rtdetr.queries import TrainingOutputs
from tests.golden.golden_inputs import detr_outputs, normalised_targets

CLASSES = 80
SIZE = (320, 320)


def golden_objects(name: str) -> Objects:
    """Return the objects of a golden batch: `two`, `with_empty` or `many`."""
    targets = normalised_targets(name)
    labels = torch.cat([torch.from_numpy(target["labels"]) for target in targets])
    boxes = torch.cat([torch.from_numpy(target["boxes"]) for target in targets])
    return Objects(labels, boxes, tuple(len(target["labels"]) for target in targets), SIZE)


def golden_predictions(seeds: list[int], queries: int = 300) -> Predictions:
    """Return what layers predict for two images, one layer a seed."""
    layers = [detr_outputs(seed, queries=queries) for seed in seeds]
    logits, boxes = (torch.from_numpy(np.stack(part)) for part in zip(*layers, strict=True))
    return Predictions(logits.requires_grad_(), boxes.requires_grad_())


def random_boxes(*shape: int, draw: torch.Generator) -> Tensor:
    """Return boxes [*shape, 4], cxcywh, shares."""
    centres = torch.rand(*shape, 2, generator=draw)
    return torch.cat((centres, 0.02 + 0.4 * torch.rand(*shape, 2, generator=draw)), dim=-1)


def random_objects(*counts: int) -> Objects:
    draw = torch.Generator().manual_seed(1)
    labels = torch.randint(CLASSES, (sum(counts),), generator=draw)
    return Objects(labels, random_boxes(sum(counts), draw=draw), counts, (640, 640))


def random_outputs(layers: int, images: int, queries: int, denoising: int = 0) -> TrainingOutputs:
    """Return what a decoder predicts; so many denoising queries, or none."""
    draw = torch.Generator().manual_seed(2)

    def predict(layers: int, queries: int) -> Predictions:
        logits = torch.randn(layers, images, queries, CLASSES, generator=draw) - 3
        boxes = random_boxes(layers, images, queries, draw=draw)
        return Predictions(logits.requires_grad_(), boxes.requires_grad_())

    restored = predict(layers, denoising) if denoising else None
    return TrainingOutputs(predict(layers, queries), predict(1, queries), restored)


def plain_losses(outputs: TrainingOutputs, objects: Objects) -> dict[str, Tensor]:
    """Compute the losses of matched queries layer by layer and image by image."""
    losses: dict[str, Tensor] = {}
    layers = list(zip(*outputs.layers, strict=True))
    suffixes = [*(f"_aux{index}" for index in range(len(layers) - 1)), "", "_enc"]
    for suffix, layer in zip(suffixes, [*layers, *zip(*outputs.encoder, strict=True)], strict=True):
        labels, boxes = (part.split(objects.counts) for part in objects[:2])
        images = [plain_image(*each) for each in zip(*layer, labels, boxes, strict=True)]
        for name, terms in zip(("cls", "bbox", "giou"), zip(*images, strict=True), strict=True):
            losses[f"loss_{name}{suffix}"] = sum(terms) / max(len(objects.labels), 1)
    return losses


def plain_image(logits: Tensor, boxes: Tensor, labels: Tensor, wanted: Tensor) -> list[Tensor]:
    """Return the three sums of one image's losses in one layer."""
    with torch.no_grad():
        cost = plain_cost(logits, boxes, labels, wanted)
        query, found = map(torch.from_numpy, linear_sum_assignment(cost.cpu()))
    chosen, wanted, labels = boxes[query], wanted[found], labels[found]
    corners, sides = (box_convert(part, "cxcywh", "xyxy") for part in (chosen, wanted))
    target, hit = torch.zeros_like(logits), torch.zeros_like(logits)
    target[query, labels] = box_iou(corners, sides).diag().detach()
    hit[query, labels] = 1
    weight = 0.75 * logits.detach().sigmoid() ** 2 * (1 - hit) + target
    return [
        functional.binary_cross_entropy_with_logits(logits, target, weight, reduction="sum"),
        5 * (chosen - wanted).abs().sum(),
        2 * (1 - generalized_box_iou(corners, sides).diag()).sum(),
    ]


def plain_cost(logits: Tensor, boxes: Tensor, labels: Tensor, wanted: Tensor) -> Tensor:
    """Return what it costs to match each query with each object, [Q, M]."""
    score = logits.sigmoid()[:, labels]
    wrong = 0.75 * score**2 * -(1 - score + 1e-8).log()
    right = 0.25 * (1 - score) ** 2 * -(score + 1e-8).log()
    corners, sides = (box_convert(part, "cxcywh", "xyxy") for part in (boxes, wanted))
    distance = torch.cdist(boxes, wanted, p=1)
    return 2 * (right - wrong) + 5 * distance - 2 * generalized_box_iou(corners, sides)


class _Watch(TorchDispatchMode):
    """Refuses operations that wait for the device when their tensors are on one."""

    WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "bincount")
    INDEXING = ("index", "index_put", "index_put_")

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        assert name not in self.WAITING, f"{name} waits for the device"
        if name in self.INDEXING:
            assert all(i is None or i.dtype != torch.bool for i in args[1]), "a mask as index"
            assert len(args) < 3 or args[2].dim() > 0, "a number from the host as value"
        return func(*args, **(kwargs or {}))


@contextmanager
def count_waits() -> Iterator[dict[str, int]]:
    """Count what is read from the device by name; refuse what waits for it behind the scenes."""
    reads: dict[str, int] = {}

    def counted(name: str) -> Any:
        method = getattr(Tensor, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            reads[name] = reads.get(name, 0) + 1
            return method(*args, **kwargs)

        return mock.patch.object(Tensor, name, call)

    with counted("cpu"), counted("tolist"), counted("item"), counted("__array__"), _Watch():
        yield reads
