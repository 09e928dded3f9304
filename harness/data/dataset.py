"""A data set in memory: splits of images and, in flat arrays, their annotations."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from harness.config.data import DataError


class Category(NamedTuple):
    """A class of objects; its label is its position in the data set's `categories`."""

    id: int
    name: str


class Image(NamedTuple):
    """One photograph, as the annotation file describes it."""

    id: int
    file_name: str  # below the split's image folder
    height: int
    width: int


@dataclass(frozen=True, eq=False)
class Annotations:
    """Boxes of all images in one array a field; image i owns rows offsets[i] to offsets[i + 1].

    Flat arrays stay shared between the processes that load images, where lists of small objects
    would be copied into each.
    """

    offsets: NDArray[np.int64]  # [images + 1]
    ids: NDArray[np.int64]  # [A]
    labels: NDArray[np.int64]  # [A]
    boxes: NDArray[np.float64]  # [A, 4] xywh, original pixels, as in the file
    areas: NDArray[np.float64]  # [A] square pixels
    crowd: NDArray[np.bool_]  # [A]
    usable: NDArray[np.bool_]  # [A] whether to train on it

    def rows(self, image: int) -> slice:
        """Return the rows of one image."""
        return slice(int(self.offsets[image]), int(self.offsets[image + 1]))

    def image_of_row(self) -> NDArray[np.int64]:
        """Return the index of each row's image, [A]."""
        return np.repeat(np.arange(len(self.offsets) - 1), np.diff(self.offsets))

    def select(self, images: NDArray[np.int64]) -> Annotations:
        """Return the annotations of some images, in ascending order."""
        chosen = np.isin(self.image_of_row(), images)
        columns = {
            item.name: getattr(self, item.name)[chosen]
            for item in fields(self)
            if item.name != "offsets"
        }
        counts = np.diff(self.offsets)[images]
        return Annotations(offsets=np.concatenate([[0], np.cumsum(counts)]), **columns)


@dataclass(frozen=True, eq=False)
class Split:
    """The images of one split, in the order of the annotation file."""

    name: str
    annotation_file: Path
    image_folder: Path
    categories: tuple[Category, ...]
    images: tuple[Image, ...]
    annotations: Annotations
    left_out: int = 0
    """Images of the file that are not used: filtered, or beyond the limit."""
    found_ids: tuple[int | None, ...] | None = None
    """Category id of each label of a detector that was trained on other classes, None for one that
    is not here; None as a whole where its labels are this split's."""

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.images)

    @property
    def label_to_category_id(self) -> tuple[int, ...]:
        """The data set's own category id of each label."""
        return tuple(category.id for category in self.categories)

    @property
    def ids_found(self) -> tuple[int | None, ...]:
        """The category id of each label that a detector may find; None for a class not here."""
        return self.label_to_category_id if self.found_ids is None else self.found_ids

    def path(self, index: int) -> Path:
        """Return where an image lies."""
        return self.image_folder / self.images[index].file_name

    def read(self, index: int) -> NDArray[np.uint8]:
        """Decode an image, turned as its annotations are.

        Returns:
            [H, W, 3] BGR.

        Raises:
            DataError: it cannot be decoded, or its size is not the annotation file's.
        """
        image, path = self.images[index], self.path(index)
        try:
            pixels = decode(np.fromfile(path, np.uint8), (image.height, image.width))
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); restore it") from error
        if pixels is None:
            raise DataError(f"{path}: not an image that can be decoded; replace the file")
        if pixels.shape[:2] != (image.height, image.width):
            height, width = pixels.shape[:2]
            raise DataError(
                f"{path}: the file is {width}x{height} pixels, {self.annotation_file.name} says"
                f" {image.width}x{image.height}; boxes would be misplaced, so correct either"
            )
        return pixels

    def objects(self, index: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return what training is to find: no crowd, clipped to the image, degenerate ones dropped.

        Returns:
            Boxes [M, 4] xyxy in original pixels, and labels [M].
        """
        offsets, boxes, labels = self._objects
        rows = slice(int(offsets[index]), int(offsets[index + 1]))
        return boxes[rows].copy(), labels[rows].copy()

    @cached_property
    def _objects(self) -> tuple[NDArray[np.int64], NDArray[np.float32], NDArray[np.int64]]:
        """What `objects` returns of each image, one after another, and where each begins."""
        table = self.annotations
        usable = table.usable
        sizes = np.array([(image.height, image.width) for image in self.images]).reshape(-1, 2)
        boxes = to_corners(table.boxes[usable], sizes[table.image_of_row()[usable]])
        before = np.concatenate([[0], np.cumsum(usable)])
        return before[table.offsets], boxes.astype(np.float32), table.labels[usable]

    def ground_truth(self) -> dict[str, Any]:
        """Return this split in COCO's format, crowd and degenerate boxes included.

        Annotation ids are the file's, unless one is below 1: pycocotools takes 0 for "no match",
        so then they count from 1.
        """
        table = self.annotations
        ids = (
            table.ids
            if len(table.ids) == 0 or table.ids.min() > 0
            else 1 + np.arange(len(table.ids))
        )
        image_ids = np.array([image.id for image in self.images], np.int64)[table.image_of_row()]
        category_ids = np.array(self.label_to_category_id, np.int64)[table.labels]
        columns = zip(
            ids.tolist(), image_ids.tolist(), category_ids.tolist(), table.boxes.tolist(),
            table.areas.tolist(), table.crowd.astype(int).tolist(), strict=True,
        )  # fmt: skip
        keys = ("id", "image_id", "category_id", "bbox", "area", "iscrowd")
        return {
            "images": [image._asdict() for image in self.images],
            "annotations": [dict(zip(keys, row, strict=True)) for row in columns],
            "categories": [category._asdict() for category in self.categories],
        }


@dataclass(frozen=True, eq=False)
class DataSet:
    """What a study trains and evaluates on."""

    name: str
    train: Split
    val: Split
    fingerprint: str
    """Hash of annotations, image bytes and the images used; the folder's place does not matter."""

    @property
    def splits(self) -> tuple[Split, ...]:
        """The splits, in the order in which they are hashed."""
        return self.train, self.val

    @property
    def categories(self) -> tuple[Category, ...]:
        """The classes, by label."""
        return self.train.categories

    def summary(self) -> dict[str, Any]:
        """Return what a record keeps about the data."""
        return _summary(self)


@dataclass(frozen=True, eq=False)
class OneSplit:
    """The only split of a data set that is read, where nothing is trained."""

    name: str
    """Of the data set."""
    split: Split
    fingerprint: str
    """Hash of this split's annotations, image bytes and the images used."""

    @property
    def splits(self) -> tuple[Split, ...]:
        """The split."""
        return (self.split,)

    @property
    def categories(self) -> tuple[Category, ...]:
        """The classes, by label."""
        return self.split.categories

    def summary(self) -> dict[str, Any]:
        """Return what is said about the data, as `DataSet` does."""
        return _summary(self)


AREAS = {"s": (0.0, 32.0**2), "m": (32.0**2, 96.0**2), "l": (96.0**2, float("inf"))}


def describe(dataset: DataSet | OneSplit) -> dict[str, Any]:
    """Return the figures of a data set: the summary, boxes by class and by COCO's three sizes."""
    result = dataset.summary()
    for split in dataset.splits:
        table = split.annotations
        by_class = np.bincount(table.labels[~table.crowd], minlength=len(split.categories))
        areas = table.areas[~table.crowd]
        result[split.name] |= {
            "by_class": {
                category.name: int(count)
                for category, count in zip(split.categories, by_class, strict=True)
            },
            "by_size": {
                name: int(((areas >= low) & (areas < high)).sum())
                for name, (low, high) in AREAS.items()
            },
        }
    return result


def decode(data: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8] | None:
    """Decode the bytes of an image file; None if that fails.

    Args:
        data: the file's bytes.
        size: (h, w) that decides whether the camera's rotation tag applies: annotation tools
            differ, so the picture is turned unless only the unturned one has this size.

    Returns:
        [H, W, 3] BGR.
    """
    pixels = _decoded(data, cv2.IMREAD_COLOR)
    if pixels is not None and pixels.shape[:2] != size:
        stored = _decoded(data, cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if stored is not None and stored.shape[:2] == size:
            return stored
    return pixels


def decode_as_shown(data: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Decode the bytes of an image file, turned as the camera says and viewers show it.

    Returns:
        [H, W, 3] BGR; None if it cannot be decoded.
    """
    return _decoded(data, cv2.IMREAD_COLOR)


def _decoded(data: NDArray[np.uint8], flags: int) -> NDArray[np.uint8] | None:
    try:
        pixels = cv2.imdecode(data, flags)
    except cv2.error:
        return None
    return None if pixels is None else np.asarray(pixels, np.uint8)


def to_corners(
    boxes: NDArray[np.float64], size: tuple[int, int] | NDArray[np.int64]
) -> NDArray[np.float64]:
    """Turn xywh boxes into xyxy, clipped to their images.

    Args:
        boxes: [M, 4] xywh, pixels.
        size: (h, w) of the image, or [M, 2] of each box's image.
    """
    limits = np.asarray(size, np.float64)[..., ::-1]
    low = np.clip(boxes[:, :2], 0, limits)
    high = np.clip(boxes[:, :2] + boxes[:, 2:], 0, limits)
    return np.concatenate([low, high], axis=1)


def _summary(dataset: DataSet | OneSplit) -> dict[str, Any]:
    splits = {split.name: _size(split) for split in dataset.splits}
    classes = [category.name for category in dataset.categories]
    return {"name": dataset.name, "fingerprint": dataset.fingerprint, "classes": classes, **splits}


def _size(split: Split) -> dict[str, int]:
    table = split.annotations
    return {
        "images": len(split),
        "images_left_out": split.left_out,
        "boxes": int((~table.crowd).sum()),
        "crowd": int(table.crowd.sum()),
        "degenerate": int((~table.crowd & ~table.usable).sum()),
    }
