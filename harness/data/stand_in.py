"""A data set of so many classes and images, and not one file: for plans of what is not here."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from harness.config.data import COCO2017
from harness.data.dataset import Annotations, Category, DataSet, Image, Split

COCO_CLASSES = 80
COCO_TRAIN_IMAGES = 117_266  # of train2017, those with a box
COCO_VAL_IMAGES = 5_000


def coco2017() -> DataSet:
    """Stand in for COCO 2017; its classes have no names, and its fingerprint is no data's."""
    return make(COCO2017, COCO_CLASSES, COCO_TRAIN_IMAGES, COCO_VAL_IMAGES)


def make(name: str, classes: int, train_images: int, val_images: int) -> DataSet:
    """Make a data set whose images are all the same, without an object, and nowhere."""
    categories = tuple(Category(number, f"class {number}") for number in range(1, classes + 1))
    empty = np.zeros(0)

    def split(part: str, count: int) -> Split:
        annotations = Annotations(
            offsets=np.zeros(count + 1, np.int64),
            ids=empty.astype(np.int64),
            labels=empty.astype(np.int64),
            boxes=np.zeros((0, 4)),
            areas=empty,
            crowd=empty.astype(bool),
            usable=empty.astype(bool),
        )
        images = (Image(1, "1.jpg", 480, 640),) * count
        return Split(part, Path("nowhere.json"), Path("nowhere"), categories, images, annotations)

    return DataSet(name, split("train", train_images), split("val", val_images), "0" * 12)
