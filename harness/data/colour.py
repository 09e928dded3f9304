"""Changes of colour: drawn first, applied to pixels later."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]  # [H, W, 3] BGR

BRIGHTNESS, CONTRAST, SATURATION = (0.875, 1.125), (0.5, 1.5), (0.5, 1.5)  # ranges of factors
HUE = (-0.05, 0.05)  # range of the shift, in turns
GRAY = (0.114, 0.587, 0.2989)  # shares of blue, green and red


class Shifts(NamedTuple):
    """Shifts of hue (of 180, around the circle), saturation and value (of 256, held at the ends).

    Source: YOLOX, arXiv:2107.08430; github.com/Megvii-BaseDetection/YOLOX@6ddff48
    yolox/data/data_augment.py, `augment_hsv`.
    """

    hue: int
    saturation: int
    value: int

    @classmethod
    def draw(cls, largest: tuple[float, float, float], rng: np.random.Generator) -> Shifts:
        """Draw each shift evenly between minus and plus its largest, or 0 with p 0.5."""
        shifts = rng.uniform(-1, 1, 3) * largest * rng.integers(0, 2, 3)
        return cls(*shifts.astype(int).tolist())

    def apply(self, image: Pixels) -> None:
        """Shift, in place; hue apart, which takes half of a three-channel table's time."""
        height, width = image.shape[:2]
        room, plane = _room(height * width)
        hsv, hue = room.reshape(height, width, 3), plane.reshape(height, width)
        cv2.cvtColor(image, cv2.COLOR_BGR2HSV, dst=hsv)
        if self.hue:
            cv2.extractChannel(hsv, 0, dst=hue)
            cv2.LUT(hue, ((np.arange(256) + self.hue) % 180).astype(np.uint8), dst=hue)
            cv2.insertChannel(hue, hsv, 0)
        shifts = np.array([0, self.saturation, self.value, 0], np.float64)  # as of four channels
        if shifts.max() > 0:
            cv2.add(hsv, shifts.clip(min=0), dst=hsv)
        if shifts.min() < 0:
            cv2.subtract(hsv, -shifts.clip(max=0), dst=hsv)
        cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR, dst=image)


class Distortion(NamedTuple):
    """Photometric distortion; a step that is not drawn is None.

    Source: torchvision.transforms.v2.RandomPhotometricDistort; SSD, arXiv:1512.02325.
    Differs: hue has OpenCV's 180 steps, and values are rounded where torchvision cuts them off.
    """

    brightness: float | None
    contrast: float | None
    saturation: float | None
    hue: float | None  # turns
    contrast_first: bool  # before saturation and hue, or after them
    order: tuple[int, int, int] | None  # of the channels, as RGB

    @classmethod
    def draw(cls, probability: float, rng: np.random.Generator) -> Distortion:
        """Draw each step with a probability, and its factor evenly."""
        brightness, contrast, saturation, hue = (
            float(rng.uniform(*limits)) if rng.random() < probability else None
            for limits in (BRIGHTNESS, CONTRAST, SATURATION, HUE)
        )
        first, permuted = bool(rng.random() < 0.5), bool(rng.random() < probability)
        red, green, blue = rng.permutation(3).tolist()
        order = (red, green, blue) if permuted else None
        return cls(brightness, contrast, saturation, hue, first, order)

    def apply(self, image: Pixels) -> Pixels:
        """Return the distorted image; the one given is left as it is."""
        if self.brightness is not None:
            image = _through(image, self.brightness, 0.0)
        if self.contrast_first:
            image = self._contrasted(image)
        if self.saturation is not None:
            image = _saturated(image, self.saturation)
        if self.hue is not None:
            image = _turned(image, self.hue)
        if not self.contrast_first:
            image = self._contrasted(image)
        if self.order is not None:
            # Channels are BGR here: reversed, permuted, and reversed again.
            image = np.ascontiguousarray(image[..., [2 - k for k in self.order][::-1]])
        return image

    def _contrasted(self, image: Pixels) -> Pixels:
        if self.contrast is None:
            return image
        mean = float(cv2.mean(_gray(image))[0])
        return _through(image, self.contrast, (1 - self.contrast) * mean)


@lru_cache(maxsize=2)
def _room(size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Return room for three and one channel, the same each time: fresh memory is slow at first."""
    return np.empty(3 * size, np.uint8), np.empty(size, np.uint8)


def _through(image: Pixels, factor: float, constant: float) -> Pixels:
    """Multiply and add, through a table."""
    table = np.clip(np.arange(256) * factor + constant, 0, 255).astype(np.uint8)
    return np.asarray(cv2.LUT(image, table), np.uint8)


def _gray(image: Pixels) -> Pixels:
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), np.uint8)


def _saturated(image: Pixels, factor: float) -> Pixels:
    """Blend with the gray image, as a mixture of the channels."""
    matrix = np.eye(3) * factor + (1 - factor) * np.array(GRAY)
    return np.asarray(cv2.transform(image, matrix), np.uint8)


def _turned(image: Pixels, turns: float) -> Pixels:
    """Turn the hue."""
    shifts = Shifts(round(turns * 180), 0, 0)
    image = image.copy()
    shifts.apply(image)
    return image
