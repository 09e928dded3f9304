"""RTMDet's stage 1 step by step, as its reference is described: a peer to measure against.

Every step makes whole images: a canvas of twice the input for Mosaic, its resize, a crop, a shift
of colours, a flip, a pad, a MixUp with a canvas in float64 and a blend in float32, and planes at
last. Caches hold decoded images and finished pictures, and both what goes in and what comes out is
copied, for Mosaic once more a tile. An image whose crop has no object is given up for another.

Source: RTMDet, arXiv:2212.07784, sec. 3.4; steps, order and rules as in the transforms of
github.com/open-mmlab/mmdetection @00e07a9c, written anew from their description.
Differs: boxes are in numpy, and lighter than the reference's objects around tensors.
"""

import random
from typing import NamedTuple

import cv2
import numpy as np

from harness.data import Split

SIZE, PAD = 640, 114


class Sample(NamedTuple):
    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray


class Unfused:
    """One loading process of the reference description."""

    def __init__(
        self, split: Split, mosaic_cached: bool | None = True, mixup_cached: bool | None = True
    ) -> None:
        """Take None for a step that is left out."""
        self.split, self.draw = split, random.Random(0)
        self.mosaic_cached, self.mixup_cached = mosaic_cached, mixup_cached
        self.seen: list[Sample] = []
        self.made: list[Sample] = []

    def load(self, index: int) -> Sample:
        return Sample(self.split.read(index), *self.split.objects(index))

    def anywhere(self) -> Sample:
        return self.load(self.draw.randrange(len(self.split)))

    def __call__(self, index: int) -> Sample:
        sample = self.made_of(self.load(index))
        if self.mixup_cached is False:
            sample = self.mixup(sample, self.made_of(self.anywhere()))
        elif self.mixup_cached:
            self.made.append(copied(sample))
            if len(self.made) > 20:
                self.made.pop(self.draw.randrange(len(self.made)))
            if len(self.made) > 1:
                sample = self.mixup(sample, copied(self.draw.choice(self.made)))
        return sample._replace(image=np.ascontiguousarray(sample.image.transpose(2, 0, 1)))

    def made_of(self, sample: Sample) -> Sample:
        """Do everything but MixUp."""
        while True:
            part = self.crop(self.resize(self.mosaic(sample)))
            if len(part.boxes):
                return padded(self.flip(self.hsv(part)))
            sample = self.anywhere()

    def mosaic(self, sample: Sample) -> Sample:
        if self.mosaic_cached is None:
            return sample
        if self.mosaic_cached:
            self.seen.append(copied(sample))
            if len(self.seen) > 40:
                self.seen.pop(self.draw.randrange(len(self.seen)))
            if len(self.seen) <= 4:
                return sample
            partners = [copied(self.draw.choice(self.seen)) for _ in range(3)]
        else:
            partners = [self.anywhere() for _ in range(3)]
        canvas = np.full((2 * SIZE, 2 * SIZE, 3), PAD, np.uint8)
        x, y = (int(self.draw.uniform(0.5, 1.5) * SIZE) for _ in range(2))
        photographs = [copied(part) for part in (sample, *partners)]
        parts = [tile(canvas, part, k, x, y) for k, part in enumerate(photographs)]
        boxes = np.concatenate([part.boxes for part in parts])
        return kept(Sample(canvas, boxes, np.concatenate([part.labels for part in parts])))

    def resize(self, sample: Sample) -> Sample:
        base = SIZE if self.mosaic_cached is None else 2 * SIZE
        return scaled(sample, self.draw.uniform(0.5, 2.0) * base / max(sample.image.shape[:2]))

    def crop(self, sample: Sample) -> Sample:
        height, width = sample.image.shape[:2]
        y = self.draw.randint(0, max(height - SIZE, 0))
        x = self.draw.randint(0, max(width - SIZE, 0))
        image = sample.image[y : y + SIZE, x : x + SIZE]
        return kept(Sample(image, sample.boxes - (x, y, x, y), sample.labels))

    def hsv(self, sample: Sample) -> Sample:
        largest = np.array([5, 30, 30])
        on = [self.draw.randrange(2) for _ in range(3)]
        shifts = [self.draw.uniform(-1, 1) for _ in range(3)] * largest * on
        hsv = cv2.cvtColor(sample.image, cv2.COLOR_BGR2HSV).astype(np.int16)
        hue, saturation, value = shifts.astype(np.int16)
        hsv[..., 0] = (hsv[..., 0] + hue) % 180
        hsv[..., 1] = np.clip(hsv[..., 1] + saturation, 0, 255)
        hsv[..., 2] = np.clip(hsv[..., 2] + value, 0, 255)
        image = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2BGR)
        return sample._replace(image=image)

    def flip(self, sample: Sample) -> Sample:
        if self.draw.random() < 0.5:
            return sample
        boxes = sample.boxes.copy()
        boxes[:, [0, 2]] = sample.image.shape[1] - sample.boxes[:, [2, 0]]
        return sample._replace(image=np.flip(sample.image, 1), boxes=boxes)

    def mixup(self, sample: Sample, other: Sample) -> Sample:
        canvas = np.ones((SIZE, SIZE, 3), np.uint8) * float(PAD)
        canvas[:] = cv2.resize(other.image, (SIZE, SIZE))
        other = self.flip(other._replace(image=cv2.resize(canvas, (SIZE, SIZE))))
        canvas = (np.ones((SIZE, SIZE, 3)) * float(PAD)).astype(np.uint8)
        canvas[:] = other.image
        other = other._replace(image=canvas)
        mixed = 0.5 * sample.image.astype(np.float32) + 0.5 * other.image.astype(np.float32)
        boxes = np.concatenate([sample.boxes, other.boxes])
        labels = np.concatenate([sample.labels, other.labels])
        return kept(Sample(mixed.astype(np.uint8), boxes, labels))


def copied(sample: Sample) -> Sample:
    return Sample(*(part.copy() for part in sample))


def scaled(sample: Sample, factor: float) -> Sample:
    height, width = (int(side * factor + 0.5) for side in sample.image.shape[:2])
    image = cv2.resize(sample.image, (width, height))
    return Sample(image, sample.boxes * np.float32(factor), sample.labels)


def tile(canvas: np.ndarray, sample: Sample, k: int, x: int, y: int) -> Sample:
    sample = scaled(sample, min(SIZE / side for side in sample.image.shape[:2]))
    height, width = sample.image.shape[:2]
    left, top = (x - width if k % 2 == 0 else x), (y - height if k < 2 else y)
    x1, y1 = max(left, 0), max(top, 0)
    x2, y2 = min(left + width, 2 * SIZE), min(top + height, 2 * SIZE)
    canvas[y1:y2, x1:x2] = sample.image[y1 - top : y2 - top, x1 - left : x2 - left]
    return sample._replace(boxes=sample.boxes + np.float32([left, top, left, top]))


def padded(sample: Sample) -> Sample:
    height, width = sample.image.shape[:2]
    image = cv2.copyMakeBorder(
        sample.image, 0, SIZE - height, 0, SIZE - width, cv2.BORDER_CONSTANT, value=(PAD,) * 3
    )
    return sample._replace(image=image)


def kept(sample: Sample) -> Sample:
    height, width = sample.image.shape[:2]
    boxes = np.clip(sample.boxes, 0, [width, height, width, height]).astype(np.float32)
    inside = (boxes[:, 2:] - boxes[:, :2] >= 1).all(axis=1)
    return Sample(sample.image, boxes[inside], sample.labels[inside])
