"""What happens to a training image, as a list of small transforms.

Source: RTMDet, arXiv:2212.07784, sec. 3.4; github.com/open-mmlab/mmdetection
configs/rtmdet/rtmdet_l_8xb32-300e_coco.py (stage 2 of its augmentation).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from detectors.interface import InputConfig
from harness.augmentation import Augment
from harness.data.resize import Size, fitted, rescale, resize, scaled

SHORTEST = 1.0  # side of a box, pixels; what a crop leaves below it is dropped
CROPS = 10  # places tried for a crop before one without any object is taken


class Sample(NamedTuple):
    """One image on its way to the detector."""

    image: NDArray[np.uint8]  # [H, W, 3] BGR
    boxes: NDArray[np.float32]  # [M, 4] xyxy, pixels of `image`
    labels: NDArray[np.int64]  # [M]


class Transform(Protocol):
    """One step of the pipeline; a frozen dataclass whose fields are its settings."""

    def __call__(
        self, sample: Sample, rng: np.random.Generator, samples: Sequence[Sample]
    ) -> Sample:
        """Change a sample.

        Args:
            sample: left as it is.
            rng: the only source of chance.
            samples: all images of the split before any transform, decoded when indexed, for
                transforms that mix several.
        """


def pipeline(augment: Augment, input: InputConfig) -> list[Transform]:
    """Return the transforms of a recipe, the fit into the input included, padding excluded."""
    steps: list[Transform] = [Fit(input)]
    if augment.resize_range is not None:
        steps = [RandomResize(input.size, augment.resize_range), RandomCrop(input.size)]
    if augment.hsv is not None:
        steps.append(HSV(augment.hsv))
    if augment.flip:
        steps.append(Flip(augment.flip))
    return steps


@dataclass(frozen=True)
class Fit:
    """Resize the whole image into the input."""

    input: InputConfig

    def __call__(
        self, sample: Sample, rng: np.random.Generator, samples: Sequence[Sample]
    ) -> Sample:
        """Resize as the detector's input says."""
        return _resized(sample, fitted(sample.image.shape[:2], self.input))


@dataclass(frozen=True)
class RandomResize:
    """Fit the image into the input times a random factor, aspect ratio kept."""

    size: Size
    factors: tuple[float, float]

    def __call__(
        self, sample: Sample, rng: np.random.Generator, samples: Sequence[Sample]
    ) -> Sample:
        """Draw the factor evenly."""
        height, width = sample.image.shape[:2]
        factor = float(rng.uniform(*self.factors))
        fit = min(self.size[0] / height, self.size[1] / width)
        return _resized(sample, scaled((height, width), fit * factor))


@dataclass(frozen=True)
class RandomCrop:
    """Cut a random part of at most the given size, with an object in it if that can be had.

    Boxes are clipped to the part; those left with a side under one pixel are dropped.
    """

    size: Size

    def __call__(
        self, sample: Sample, rng: np.random.Generator, samples: Sequence[Sample]
    ) -> Sample:
        """Draw the corner evenly, again while no object is inside."""
        height, width = sample.image.shape[:2]
        high, wide = min(height, self.size[0]), min(width, self.size[1])
        for _ in range(CROPS):
            y, x = int(rng.integers(height - high + 1)), int(rng.integers(width - wide + 1))
            corner = np.array([x, y, x, y], np.float32)
            limits = np.array([wide, high, wide, high], np.float32)
            boxes = np.clip(sample.boxes - corner, 0, limits)
            kept = (boxes[:, 2:] - boxes[:, :2] >= SHORTEST).all(axis=1)
            if kept.any() or not len(boxes):
                break
        return Sample(sample.image[y : y + high, x : x + wide], boxes[kept], sample.labels[kept])


@dataclass(frozen=True)
class HSV:
    """Shift hue, and saturation and value with saturation at the ends, each with p 0.5.

    Source: YOLOX, arXiv:2107.08430; github.com/Megvii-BaseDetection/YOLOX@6ddff48
    yolox/data/data_augment.py, `augment_hsv`.
    """

    largest: tuple[float, float, float]

    def __call__(
        self, sample: Sample, rng: np.random.Generator, samples: Sequence[Sample]
    ) -> Sample:
        """Draw each shift evenly between minus and plus its largest."""
        shifts = rng.uniform(-1, 1, 3) * self.largest * rng.integers(0, 2, 3)
        hue, saturation, value = shifts.astype(int).tolist()
        levels = np.arange(256)
        table = np.stack(
            [(levels + hue) % 180, np.clip(levels + saturation, 0, 255),
             np.clip(levels + value, 0, 255)], axis=-1,
        ).astype(np.uint8)  # fmt: skip
        hsv = cv2.cvtColor(sample.image, cv2.COLOR_BGR2HSV)
        shifted = cv2.LUT(hsv, table[None])
        image = np.asarray(cv2.cvtColor(shifted, cv2.COLOR_HSV2BGR), np.uint8)
        return sample._replace(image=image)


@dataclass(frozen=True)
class Flip:
    """Mirror left and right."""

    probability: float

    def __call__(
        self, sample: Sample, rng: np.random.Generator, samples: Sequence[Sample]
    ) -> Sample:
        """Draw whether to."""
        if rng.random() >= self.probability:
            return sample
        width = np.float32(sample.image.shape[1])
        boxes = sample.boxes.copy()
        boxes[:, [0, 2]] = width - sample.boxes[:, [2, 0]]
        return sample._replace(image=sample.image[:, ::-1], boxes=boxes)


def _resized(sample: Sample, size: Size) -> Sample:
    original = sample.image.shape[:2]
    boxes = rescale(sample.boxes, original, size)
    return Sample(resize(sample.image, size), boxes, sample.labels)
