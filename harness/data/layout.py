"""Where photographs and their boxes go in a training picture, before any pixel is touched.

Resizing, cropping and tiling only change a scale, an offset and a region a photograph, so that a
chain of them costs a single interpolation, and only of what can be seen in the end.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.data.resize import Size

SHORTEST = 1.0  # side of a box, pixels; what a crop leaves below it is dropped
Floats = NDArray[np.float64]
_LOW, _HIGH = [0, 1, 0, 1], [2, 3, 2, 3]  # the first or second corner's columns, twice


class Layout(NamedTuple):
    """T photographs on one picture."""

    size: Size  # (h, w) of the picture
    images: tuple[int, ...]  # T indices into the split
    sizes: Floats  # [T, 2] (w, h) of the photographs
    scale: Floats  # [T, 4] pixels of the picture to one of the photograph, x, y, x, y
    offset: Floats  # [T, 4] where the photograph's corner is in the picture, x, y, x, y
    region: Floats  # [T, 4] xyxy, what each photograph covers of the picture
    boxes: Floats  # [M, 4] xyxy, pixels of the photograph
    labels: NDArray[np.int64]  # [M]
    owners: NDArray[np.int64]  # [M] which of the T photographs a box lies in

    def visible(self) -> Floats:
        """Return the boxes in the picture, clipped to what shows of their photographs, [M, 4]."""
        region = self.region[self.owners]
        boxes = self.boxes * self.scale[self.owners] + self.offset[self.owners]
        return np.minimum(np.maximum(boxes, region[:, _LOW]), region[:, _HIGH])

    def select(self, kept: NDArray[np.bool_]) -> Layout:
        """Return the layout with some of its boxes."""
        return self._replace(
            boxes=self.boxes[kept], labels=self.labels[kept], owners=self.owners[kept]
        )


class Paste(NamedTuple):
    """A part of a photograph, resized to whole pixels, of which a part is shown; all xyxy."""

    image: int  # index into the split
    source: tuple[int, int, int, int]  # pixels of the photograph
    target: tuple[int, int, int, int]  # where that part would lie in the picture
    region: tuple[int, int, int, int]  # what is shown of it, inside both target and picture


def whole(image: int, size: Size, boxes: NDArray[np.float32], labels: NDArray[np.int64]) -> Layout:
    """Return one photograph as it is.

    Args:
        image: its index.
        size: its (h, w).
        boxes: [M, 4] xyxy, pixels.
        labels: [M].
    """
    extent = np.array([[size[1], size[0]]], np.float64)
    region = np.array([[0, 0, size[1], size[0]]], np.float64)
    return Layout(
        size, (image,), extent, np.ones((1, 4)), np.zeros((1, 4)), region,
        boxes.astype(np.float64), labels, np.zeros(len(labels), np.int64),
    )  # fmt: skip


def resized(layout: Layout, size: Size) -> Layout:
    """Return the picture at another size."""
    ratio = np.array([size[1] / layout.size[1], size[0] / layout.size[0]] * 2)
    return layout._replace(
        size=size,
        scale=layout.scale * ratio,
        offset=layout.offset * ratio,
        region=layout.region * ratio,
    )


def cropped(layout: Layout, corner: tuple[int, int], size: Size) -> Layout:
    """Return a part of the picture, which may reach beyond it; boxes are not dropped.

    Args:
        layout: the picture.
        corner: (x, y) of the part in the picture.
        size: (h, w) of the part.
    """
    moved = np.array(corner * 2, np.float64)
    limits = np.array([size[1], size[0]] * 2, np.float64)
    return layout._replace(
        size=size,
        offset=layout.offset - moved,
        region=np.minimum(np.maximum(layout.region - moved, 0), limits),
    )


def tall_enough(boxes: Floats) -> NDArray[np.bool_]:
    """Say which boxes have no side below a pixel, [M]."""
    return np.asarray((boxes[:, 2:] - boxes[:, :2] >= SHORTEST).all(axis=1))


def tiled(
    photographs: Sequence[Layout], sizes: Sequence[Size], center: tuple[int, int], size: Size
) -> Layout:
    """Put four photographs around a point: top left, top right, bottom left, bottom right.

    Args:
        photographs: each as it is; what leaves the canvas is not shown.
        sizes: (h, w) at which each touches the point with a corner.
        center: (x, y) of the point.
        size: (h, w) of the canvas.
    """
    (x, y), rows = center, []
    for k, (part, (height, width)) in enumerate(zip(photographs, sizes, strict=True)):
        left, top = (x, x - width)[k % 2 == 0], (y, y - height)[k < 2]
        region = max(left, 0), max(top, 0), min(left + width, size[1]), min(top + height, size[0])
        scale = width / part.size[1], height / part.size[0]
        rows.append([*part.size[::-1], *scale * 2, left, top, left, top, *region])
    table = np.array(rows, np.float64)
    return Layout(
        size, tuple(part.images[0] for part in photographs),
        table[:, :2], table[:, 2:6], table[:, 6:10], table[:, 10:],
        np.concatenate([part.boxes for part in photographs]),
        np.concatenate([part.labels for part in photographs]),
        np.arange(4).repeat([len(part.boxes) for part in photographs]),
    )  # fmt: skip


def snapped(layout: Layout) -> tuple[Layout, list[Paste]]:
    """Move everything to whole pixels, so that a plain resize makes each part.

    A photograph moves by half a pixel at most, and its boxes exactly with it.

    Returns:
        The layout with boxes below a pixel dropped, and what is to be resized to where.
    """
    region = np.floor(layout.region + 0.5)
    shift, factor = layout.offset[:, :2], layout.scale[:, :2]
    low = np.floor((region[:, :2] - shift) / factor) - 1
    high = np.ceil((region[:, 2:] - shift) / factor) + 1
    low, high = np.clip(low, 0, layout.sizes - 1), np.clip(high, 1, layout.sizes)
    start = np.minimum(np.floor(shift + low * factor + 0.5), region[:, :2])
    end = np.maximum(np.floor(shift + high * factor + 0.5), region[:, 2:])
    end = np.maximum(end, start + 1)
    factor = (end - start) / (high - low)
    moved = layout._replace(
        scale=factor[:, _LOW], offset=(start - low * factor)[:, _LOW], region=region
    )
    moved = moved.select(tall_enough(moved.visible()))
    rows = np.hstack([low, high, start, end, region]).astype(int).tolist()
    pastes = [
        Paste(image, tuple(row[:4]), tuple(row[4:8]), tuple(row[8:]))
        for image, row in zip(layout.images, rows, strict=True)
        if row[8] < row[10] and row[9] < row[11]
    ]
    return moved, pastes
