"""Photographs that are white inside their boxes, and pictures made of them."""

from collections.abc import Callable
from typing import Any

import numpy as np

from detectors.interface import InputConfig
from harness.data.augment import Picture
from harness.data.layout import Layout, snapped, whole
from harness.data.paint import paint

PAD = 114


class Photographs:
    """Black images with white boxes, by index; each box is labelled with its image's index."""

    def __init__(self, *images: tuple[tuple[int, int], list[tuple[float, ...]]]) -> None:
        self.sizes = [size for size, _ in images]
        self.boxes = [np.array(boxes, np.float32).reshape(-1, 4) for _, boxes in images]

    def layout(self, index: int) -> Layout:
        boxes = self.boxes[index]
        return whole(index, self.sizes[index], boxes, np.full(len(boxes), index))

    def pixels(self, index: int) -> np.ndarray:
        image = np.zeros((*self.sizes[index], 3), np.uint8)
        for x1, y1, x2, y2 in self.boxes[index].astype(int):
            image[y1:y2, x1:x2] = 255
        return image


def painted(picture: Picture, read: Callable[[int], np.ndarray], size: tuple[int, int]) -> Any:
    canvas = np.empty((*size, 3), np.uint8)
    paint(picture, read, canvas, InputConfig(pad_value=PAD))
    return canvas


def picture(layout: Layout, mirrored: bool = False) -> Picture:
    """Return a layout as a picture without any colour change."""
    layout, pastes = snapped(layout)
    boxes = layout.visible().astype(np.float32)
    if mirrored:
        boxes[:, [0, 2]] = layout.size[1] - boxes[:, [2, 0]]
    return Picture(layout.size, pastes, boxes, layout.labels, PAD, None, None, mirrored)


def white_box(image: np.ndarray) -> list[int]:
    """Return where an image is white, xyxy."""
    white = image[..., 0] > 185  # between the pad value and white
    rows, columns = np.flatnonzero(white.any(axis=1)), np.flatnonzero(white.any(axis=0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
