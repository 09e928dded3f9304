"""What every assigner looks at: a batch of predictions, the objects in it, and who lies where."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from detectors.boxes import iou
from detectors.interface import BACKGROUND, Assignment, Target
from detectors.queries import places


class Objects(NamedTuple):
    """The objects of a batch; every image is filled up to the M of the fullest one."""

    boxes: Tensor  # [B, M, 4] xyxy, input pixels; zeros where filled up
    labels: Tensor  # [B, M] int64; 0 where filled up
    real: Tensor  # [B, M] bool, false where filled up
    counts: tuple[int, ...]  # objects of each image


class Scene(NamedTuple):
    """Predictions of a batch, of which at least one image has an object."""

    logits: Tensor  # [B, N, C], before sigmoid; of any precision
    boxes: Tensor  # [B, N, 4] xyxy, input pixels; float32
    points: Tensor  # [1 or B, N, 2] (x, y), input pixels
    strides: Tensor  # [1 or B, N], input pixels
    objects: Objects

    def own_logits(self) -> Tensor:
        """Return every prediction's logit of every object's class, [B, M, N] in float32."""
        index = self.objects.labels[:, None].expand(-1, self.logits.shape[1], -1)
        return self.logits.gather(2, index).mT.float()


class DenseAssigner:
    """A `detectors.interface.Assigner` that works on whole batches, in float32.

    Subclasses choose; the quality of an assignment is always the overlap of the prediction, not
    that of an anchor.
    """

    @torch.no_grad()
    def __call__(
        self,
        logits: Tensor,
        boxes: Tensor,
        points: Tensor,
        strides: Tensor,
        targets: list[Target],
    ) -> list[Assignment]:
        """Assign predictions to objects; see `detectors.interface.Assigner`."""
        boxes = boxes.float()
        index = torch.full(boxes.shape[:2], BACKGROUND, device=boxes.device)
        quality = torch.zeros_like(boxes[..., 0])
        if any(len(target.labels) for target in targets):
            objects = pad(targets)
            index = self.choose(Scene(logits, boxes, points[None], strides[None], objects))
            quality = iou(boxes, of_objects(objects.boxes, index)) * (index >= 0)
        return [Assignment(*image) for image in zip(index, quality, strict=True)]

    def choose(self, scene: Scene) -> Tensor:
        """Return the object of each prediction, [B, N] int64, or `BACKGROUND` or `IGNORED`."""
        raise NotImplementedError


def pad(targets: list[Target]) -> Objects:
    """Put the objects of all images side by side, without a loop on the device."""
    labels = torch.cat([target.labels for target in targets])
    boxes = torch.cat([target.boxes for target in targets]).float()
    counts = tuple(len(target.labels) for target in targets)
    where = places(counts, labels.device)
    shape = (len(counts), max(counts))
    real = torch.zeros(shape, dtype=torch.bool, device=labels.device)
    real[where] = True
    return Objects(
        boxes.new_zeros((*shape, 4)).index_put(where, boxes),
        labels.new_zeros(shape).index_put(where, labels),
        real,
        counts,
    )


def of_objects(values: Tensor, index: Tensor) -> Tensor:
    """Return the values [B, M, D] of each prediction's object, [B, N, D]; any where it has none."""
    return values.gather(1, index.clamp(min=0)[..., None].expand(-1, -1, values.shape[2]))


def at(values: Tensor, index: Tensor) -> Tensor:
    """Return the values [1 or B, N, ...] of the predictions with the indices [B, ...]."""
    image = torch.arange(len(index), device=index.device).view(-1, *[1] * (index.dim() - 1))
    return values[image if len(values) > 1 else torch.zeros_like(image), index]


def centers(boxes: Tensor) -> Tensor:
    """Return the centres [..., 2] of boxes [..., 4]."""
    return (boxes[..., :2] + boxes[..., 2:]) / 2


def inside(points: Tensor, boxes: Tensor, margin: float = 0.0) -> Tensor:
    """Return which points are strictly inside boxes, and further than a margin from each side.

    Args:
        points: [..., 2] (x, y), input pixels.
        boxes: [..., 4] xyxy, input pixels; shapes are broadcast.
        margin: input pixels.
    """
    x, y = points.unbind(-1)
    left, top, right, bottom = boxes.unbind(-1)
    across = (x > left + margin) & (x < right - margin)
    return across & (y > top + margin) & (y < bottom - margin)


def near_center(points: Tensor, reach: Tensor, boxes: Tensor) -> Tensor:
    """Return which points lie in the square around a box's centre.

    Args:
        points: [..., 2] (x, y), input pixels.
        reach: [...] half of the square's side, input pixels.
        boxes: [..., 4] xyxy, input pixels; shapes are broadcast.
    """
    x, y = points.unbind(-1)
    middle_x, middle_y = centers(boxes).unbind(-1)
    return ((x - middle_x).abs() < reach) & ((y - middle_y).abs() < reach)


def squared_distance(points: Tensor, boxes: Tensor) -> Tensor:
    """Return the square of the distance of points [..., 2] from the centres of boxes [..., 4]."""
    x, y = points.unbind(-1)
    middle_x, middle_y = centers(boxes).unbind(-1)
    return (x - middle_x).square() + (y - middle_y).square()


def anchors(points: Tensor, strides: Tensor, scale: float) -> Tensor:
    """Return square boxes [..., 4] around points, of sides so many strides long."""
    half = (strides * scale / 2)[..., None]
    return torch.cat((points - half, points + half), dim=-1)


def levels(strides: Tensor) -> tuple[Tensor, list[int]]:
    """Return the stride of each level, fine to coarse, and its number of points."""
    found, counts = torch.unique_consecutive(strides, return_counts=True)
    return found, counts.tolist()


def settle(index: Tensor, merits: Tensor, predictions: int) -> Tensor:
    """Give each prediction to the object that takes it with the highest merit.

    Args:
        index: [B, M, K] predictions that each object wants.
        merits: [B, M, K] how well they suit it; minus infinity where it does not take them.
        predictions: their number, N.

    Returns:
        [B, N] object of each prediction, the first one of several equals, or `BACKGROUND`.
    """
    images, objects, _ = index.shape
    wanted, merits = index.flatten(1), merits.flatten(1)
    best = merits.new_full((images, predictions), -torch.inf)
    best = best.scatter_reduce(1, wanted, merits, "amax")
    wins = (merits == best.gather(1, wanted)) & (merits > -torch.inf)
    places = torch.arange(objects, device=index.device)[:, None].expand(index.shape[1:])
    takers = torch.where(wins, places.flatten(), objects)
    winner = wanted.new_full((images, predictions), objects)
    winner = winner.scatter_reduce(1, wanted, takers, "amin")
    return torch.where(winner < objects, winner, BACKGROUND)
