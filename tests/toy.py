"""A detector of two convolutions: the smallest thing that keeps the contract and learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, l1_loss
from torchvision.ops import batched_nms

from detectors.config import inference_only
from detectors.interface import DenseOutputs, Detections, Detector, InputConfig, Target
from detectors.losses import average_over_processes

STRIDE = 8


@dataclass(frozen=True)
class Nearest:
    """Assign each object to the points closest to its centre."""

    topk: int = 4
    """Points an object takes."""


@dataclass(frozen=True)
class Inside:
    """Assign each object to the points in the middle of its box."""

    shrink: float = 0.5
    """Share of the box that counts as its middle."""


@dataclass(frozen=True)
class ToyPostprocessConfig:
    """Threshold and NMS."""

    score_threshold: float = inference_only(0.05)
    """Detections below are dropped."""
    iou_threshold: float = inference_only(0.6)
    """Overlap above which the weaker of two boxes goes."""


@dataclass(frozen=True)
class ToyConfig:
    """The whole detector."""

    size_divisor: ClassVar[int] = STRIDE
    width: int = 8
    """Channels of the hidden layer."""
    assigner: Nearest | Inside = Nearest()
    """How points are chosen."""
    postprocess: ToyPostprocessConfig = ToyPostprocessConfig()
    """Threshold and NMS."""
    num_classes: int = 6
    """Object classes."""
    input: InputConfig = InputConfig(size=(64, 64))
    """Input tensor."""

    def build(self) -> Detector:
        """Make the model."""
        return Toy(self)


class ToyHead(nn.Module):
    """One convolution that predicts class logits and distances."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.num_classes = config.num_classes
        self.predict = nn.Conv2d(config.width, config.num_classes + 4, 1)
        nn.init.constant_(self.predict.bias[: config.num_classes], -3.0)

    def forward(self, features: list[Tensor]) -> DenseOutputs:
        """Predict on one level, [B, width, H, W]."""
        out = self.predict(features[0]).permute(0, 2, 3, 1)  # [B, H, W, C + 4]
        height, width = out.shape[1:3]
        logits, distances = out.flatten(1, 2).split([self.num_classes, 4], dim=2)
        y, x = torch.meshgrid(
            torch.arange(height, device=out.device),
            torch.arange(width, device=out.device),
            indexing="ij",
        )
        points = torch.stack([x, y], dim=-1).reshape(-1, 2) * STRIDE + STRIDE / 2
        distances = distances.float().exp() * STRIDE
        boxes = torch.cat([points - distances[..., :2], points + distances[..., 2:]], dim=-1)
        return DenseOutputs(logits, boxes, points, torch.full_like(points[:, 0], STRIDE))


class ToyCriterion(nn.Module):
    """Cross-entropy on every point, L1 on the assigned ones."""

    def __init__(self, assigner: Nearest | Inside) -> None:
        super().__init__()
        self.assigner = assigner

    def forward(self, outputs: DenseOutputs, targets: list[Target]) -> dict[str, Tensor]:
        """Sum over the batch, divided by the number of positives."""
        classes, boxes, wanted, positives = torch.zeros_like(outputs.logits), [], [], 0
        for image, target in enumerate(targets):
            point, gt = self.assign(outputs.points, target)
            classes[image, point, target.labels[gt]] = 1
            boxes.append(outputs.boxes[image, point])
            wanted.append(target.boxes[gt])
            positives += len(point)
        count = average_over_processes(outputs.boxes.new_tensor(positives)).clamp(min=1)
        loss = binary_cross_entropy_with_logits(outputs.logits, classes, reduction="sum")
        distance = l1_loss(torch.cat(boxes), torch.cat(wanted), reduction="sum") / STRIDE
        return {"loss_cls": loss / count, "loss_bbox": 0.2 * distance / count}

    def assign(self, points: Tensor, target: Target) -> tuple[Tensor, Tensor]:
        """Return indices of points and of the objects they have to find."""
        if len(target.labels) == 0:
            none = torch.zeros(0, dtype=torch.int64, device=points.device)
            return none, none
        centers = (target.boxes[:, :2] + target.boxes[:, 2:]) / 2
        if isinstance(self.assigner, Nearest):
            near = torch.cdist(points, centers).topk(self.assigner.topk, 0, largest=False).indices
            return near.flatten(), torch.arange(near.shape[1]).repeat(near.shape[0]).to(near.device)
        half = (target.boxes[:, 2:] - target.boxes[:, :2]) * self.assigner.shrink / 2
        inside = ((points[:, None] - centers).abs() < half).all(-1)
        point, gt = inside.nonzero(as_tuple=True)
        return point, gt


class ToyPostprocess(nn.Module):
    """Class-wise NMS over everything above a threshold."""

    def __init__(self, config: ToyPostprocessConfig) -> None:
        super().__init__()
        self.config = config

    def candidates(self, outputs: DenseOutputs) -> Tensor:
        """Count the boxes that enter NMS, [B]."""
        return (outputs.scores() > self.config.score_threshold).sum(dim=(1, 2))

    def forward(self, outputs: DenseOutputs, sizes: Tensor) -> list[Detections]:
        """Keep at most 100 detections an image."""
        results = []
        for scores, boxes, size in zip(outputs.scores(), outputs.boxes, sizes, strict=True):
            point, label = (scores > self.config.score_threshold).nonzero(as_tuple=True)
            limit = size.flip(0).repeat(2).to(boxes.dtype)
            found = boxes[point].clamp(min=0).minimum(limit)
            score = scores[point, label]
            keep = batched_nms(found, score, label, self.config.iou_threshold)[:100]
            results.append(Detections(found[keep], score[keep], label[keep]))
        return results


class Toy(Detector):
    """Patchify, two layers, predict."""

    def __init__(self, config: ToyConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = nn.Sequential(nn.Conv2d(3, config.width, STRIDE, STRIDE), nn.ReLU())
        self.neck = ToyNeck()
        self.head = ToyHead(config)
        self.postprocess = ToyPostprocess(config.postprocess)
        self.criterion = ToyCriterion(config.assigner)


class ToyNeck(nn.Module):
    """One level in, a list of one level out."""

    def forward(self, features: Tensor) -> list[Tensor]:
        """Wrap the only level."""
        return [features]


TOY = ToyConfig()
