"""What happens to a training image: geometry as small transforms of a layout, then colours.

Source: RTMDet, arXiv:2212.07784, sec. 3.4; github.com/open-mmlab/mmdetection
configs/rtmdet/rtmdet_l_8xb32-300e_coco.py. RT-DETR, arXiv:2304.08069v3;
github.com/lyuwenyu/RT-DETR@068dfde rtdetr_pytorch/configs/rtdetr/include/dataloader.yml, for
distortion, zoom-out and IoU crop, which are those of torchvision.transforms.v2.

Differs: a chain of resizes is one interpolation, to whole pixels (`layout`); a random crop that
finds no object in ten tries is taken as it is, where mmdetection takes another image; boxes below
a pixel are dropped after every crop, where mmdetection drops those of no area; an IoU crop of an
image without boxes leaves it whole, where torchvision never returns; where all shifts of colour are
0 nothing is done, while on its way to HSV and back a colour changes a little.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from detectors.interface import InputConfig
from harness.config.augmentation import Augment, IoUCrop, ZoomOut
from harness.data.colour import Distortion, Shifts
from harness.data.layout import (
    Floats,
    Layout,
    Paste,
    cropped,
    resized,
    snapped,
    tall_enough,
    tiled,
)
from harness.data.resize import Size, fitted, scaled

CROPS = 10  # places tried for a crop before one without any object is taken
OVERLAPS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0)  # IoU of a crop with some object; 1 leaves all
TRIALS = 40  # of a crop for one overlap
ROUNDS = 50  # overlaps drawn before the image is left whole


class Transform(Protocol):
    """One step of the geometry; a frozen dataclass whose fields are its settings."""

    def __call__(self, layout: Layout, rng: np.random.Generator) -> Layout:
        """Change a layout; `rng` is the only source of chance."""


class Picture(NamedTuple):
    """A training picture, all chance decided and no pixel touched yet."""

    size: Size  # (h, w) of the real part inside the input
    pastes: list[Paste]
    boxes: NDArray[np.float32]  # [M, 4] xyxy, pixels, after the flip
    labels: NDArray[np.int64]  # [M]
    fill: int | None  # value where no photograph is, inside the real part; None for the padding's
    distortion: Distortion | None  # of the photographs
    shifts: Shifts | None  # of the picture's hue, saturation and value, if not all are 0
    mirrored: bool


@dataclass(frozen=True)
class Composer:
    """Decides what a training picture looks like."""

    augment: Augment
    input: InputConfig

    def __call__(
        self, images: tuple[int, ...], read: Callable[[int], Layout], rng: np.random.Generator
    ) -> Picture:
        """Draw everything.

        Args:
            images: one, or the four of a Mosaic.
            read: returns a photograph as it is.
            rng: the only source of chance.
        """
        augment = self.augment
        distortion = Distortion.draw(augment.distort, rng) if augment.distort else None
        layout = self._start(images, read, rng)
        for transform in self.transforms:
            layout = transform(layout, rng)
        layout, pastes = snapped(layout)
        shifts = Shifts.draw(augment.hsv, rng) if augment.hsv else None
        boxes, mirrored = layout.visible(), bool(rng.random() < augment.flip)
        if mirrored:
            boxes[:, [0, 2]] = layout.size[1] - boxes[:, [2, 0]]
        fill = augment.zoom_out.fill if augment.zoom_out else None
        return Picture(
            layout.size, pastes, boxes.astype(np.float32), layout.labels, fill,
            distortion, shifts if shifts and any(shifts) else None, mirrored,
        )  # fmt: skip

    @property
    def transforms(self) -> list[Transform]:
        """The steps of the geometry but for Mosaic and flip."""
        augment, size = self.augment, self.input.size
        if augment.resize_range is not None:
            base = (2 * size[0], 2 * size[1]) if augment.mosaic else size
            return [RandomResize(base, augment.resize_range), RandomCrop(size)]
        steps: list[Transform] = []
        if augment.zoom_out:
            steps.append(RandomZoomOut(augment.zoom_out))
        if augment.iou_crop:
            steps.append(RandomIoUCrop(augment.iou_crop))
        return [*steps, Fit(self.input)]

    def _start(
        self, images: tuple[int, ...], read: Callable[[int], Layout], rng: np.random.Generator
    ) -> Layout:
        if len(images) == 1 or self.augment.mosaic is None:
            return read(images[0])
        low, high = self.augment.mosaic.center
        return mosaic([read(image) for image in images], self.input.size, (low, high), rng)


def mosaic(
    layouts: list[Layout], size: Size, center: tuple[float, float], rng: np.random.Generator
) -> Layout:
    """Put four photographs, each fitted into a size, around a point on a canvas of twice that.

    Source: github.com/open-mmlab/mmdetection mmdet/datasets/transforms/transforms.py @00e07a9c,
    `CachedMosaic`: the first image is the top-left one.
    """
    x, y = (int(rng.uniform(*center) * side) for side in size[::-1])
    sizes = [_fit(part.size, size) for part in layouts]
    return _kept(tiled(layouts, sizes, (x, y), (2 * size[0], 2 * size[1])))


@dataclass(frozen=True)
class Fit:
    """Resize the whole picture into the input."""

    input: InputConfig

    def __call__(self, layout: Layout, rng: np.random.Generator) -> Layout:
        """Resize as the detector's input says."""
        return resized(layout, fitted(layout.size, self.input))


@dataclass(frozen=True)
class RandomResize:
    """Fit the picture into a size times a random factor, aspect ratio kept."""

    size: Size
    factors: tuple[float, float]

    def __call__(self, layout: Layout, rng: np.random.Generator) -> Layout:
        """Draw the factor evenly."""
        return resized(layout, _fit(layout.size, self.size, float(rng.uniform(*self.factors))))


@dataclass(frozen=True)
class RandomCrop:
    """Cut a random part of at most the given size, with an object in it if that can be had."""

    size: Size

    def __call__(self, layout: Layout, rng: np.random.Generator) -> Layout:
        """Draw the corner evenly, again while no object is inside."""
        height, width = layout.size
        size = min(height, self.size[0]), min(width, self.size[1])
        boxes, limits = layout.visible(), np.array([size[1], size[0]] * 2, np.float64)
        for _ in range(CROPS):
            y, x = int(rng.integers(height - size[0] + 1)), int(rng.integers(width - size[1] + 1))
            moved = boxes - np.array([x, y, x, y])
            kept = tall_enough(np.minimum(np.maximum(moved, 0), limits))
            if kept.any() or not len(kept):
                break
        return cropped(layout, (x, y), size).select(kept)


@dataclass(frozen=True)
class RandomZoomOut:
    """Put the picture somewhere on a larger canvas.

    Source: torchvision.transforms.v2.RandomZoomOut.
    """

    config: ZoomOut

    def __call__(self, layout: Layout, rng: np.random.Generator) -> Layout:
        """Draw whether to, the canvas and the place evenly."""
        if rng.random() >= self.config.probability:
            return layout
        ratio = float(rng.uniform(1, self.config.largest))
        height, width = (int(side * ratio) for side in layout.size)
        x = int((width - layout.size[1]) * rng.random())
        y = int((height - layout.size[0]) * rng.random())
        return cropped(layout, (-x, -y), (height, width))


@dataclass(frozen=True)
class RandomIoUCrop:
    """Cut a part that overlaps with an object by at least a drawn IoU.

    Objects whose centre is outside are dropped.

    Source: torchvision.transforms.v2.RandomIoUCrop; SSD, arXiv:1512.02325, sec. 2.2.
    """

    config: IoUCrop

    def __call__(self, layout: Layout, rng: np.random.Generator) -> Layout:
        """Draw whether to, the overlap, and up to 40 parts for it."""
        if rng.random() >= self.config.probability or not len(layout.boxes):
            return layout
        boxes = layout.visible()
        for _ in range(ROUNDS):
            overlap = OVERLAPS[int(rng.integers(len(OVERLAPS)))]
            if overlap >= 1:
                return layout
            for _ in range(TRIALS):
                part = self._part(layout.size, rng)
                inside = None if part is None else _inside(boxes, part, overlap)
                if part is not None and inside is not None:
                    x1, y1, x2, y2 = part
                    return _kept(cropped(layout, (x1, y1), (y2 - y1, x2 - x1)).select(inside))
        return layout

    def _part(self, size: Size, rng: np.random.Generator) -> tuple[int, int, int, int] | None:
        """Draw a part, xyxy; None if its shape is refused."""
        draws = rng.random(4)
        low, high = self.config.scale
        width = int(size[1] * (low + (high - low) * draws[0]))
        height = int(size[0] * (low + (high - low) * draws[1]))
        if not (width and height):
            return None
        if not self.config.aspect[0] <= width / height <= self.config.aspect[1]:
            return None
        x, y = int((size[1] - width) * draws[2]), int((size[0] - height) * draws[3])
        return x, y, x + width, y + height


def _inside(
    boxes: Floats, part: tuple[int, int, int, int], overlap: float
) -> NDArray[np.bool_] | None:
    """Say which boxes have their centre in a part; None if none overlaps enough."""
    corner, end = np.array(part[:2]), np.array(part[2:])
    centers = (boxes[:, :2] + boxes[:, 2:]) / 2
    inside = np.asarray(((corner < centers) & (centers < end)).all(axis=1))
    chosen = boxes[inside]
    low, high = np.maximum(chosen[:, :2], corner), np.minimum(chosen[:, 2:], end)
    common = np.clip(high - low, 0, None).prod(axis=1)
    areas = (chosen[:, 2:] - chosen[:, :2]).prod(axis=1) + (end - corner).prod()
    ious = common / (areas - common)
    return inside if len(ious) and ious.max() >= overlap else None


def _fit(size: Size, into: Size, factor: float = 1.0) -> Size:
    return scaled(size, min(into[0] / size[0], into[1] / size[1]) * factor)


def _kept(layout: Layout) -> Layout:
    return layout.select(tall_enough(layout.visible()))
