"""Photographs to look at without annotations, and any split's, read a few at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.config.data import DataError
from harness.data.coco import take
from harness.data.dataset import Annotations, Category, Image, Split, decode_as_shown

ROOM = 1 << 29  # bytes of pixels at once, unless one photograph takes more


class Loose(Split):
    """Photographs of no data set; their sizes are not known before they are read."""

    def read(self, index: int) -> NDArray[np.uint8]:
        """Decode a photograph, turned as viewers show it.

        Returns:
            [H, W, 3] BGR.

        Raises:
            DataError: it cannot be decoded.
        """
        path = self.path(index)
        try:
            pixels = decode_as_shown(np.fromfile(path, np.uint8))
        except OSError as error:
            raise DataError(f"{path}: cannot be read ({error.strerror}); restore it") from error
        if pixels is None:
            raise DataError(f"{path}: not an image that can be decoded; replace the file")
        return pixels


@dataclass(frozen=True, eq=False)
class Held(Split):
    """Photographs whose pixels are in memory."""

    pixels: tuple[NDArray[np.uint8], ...] = ()

    def read(self, index: int) -> NDArray[np.uint8]:
        """Return the pixels of a photograph, [H, W, 3] BGR."""
        return self.pixels[index]


class Chunk(NamedTuple):
    """A few photographs of a split."""

    split: Held  # those that can be read
    unreadable: list[str]  # what is wrong with the others
    done: int  # photographs of the split so far


def loose(files: Sequence[Path], categories: tuple[Category, ...]) -> Loose:
    """Return files as a split, whose ids count from 1."""
    nothing = np.zeros(0, np.int64)
    table = Annotations(
        offsets=np.zeros(len(files) + 1, np.int64), ids=nothing, labels=nothing,
        boxes=np.zeros((0, 4)), areas=np.zeros(0), crowd=nothing.astype(bool),
        usable=nothing.astype(bool),
    )  # fmt: skip
    images = tuple(Image(k, str(file), 0, 0) for k, file in enumerate(files, start=1))
    return Loose("photographs", Path(), Path(), categories, images, table)


def chunks(split: Split, size: int) -> Iterator[Chunk]:
    """Yield the photographs of a split, in order, at most so many at a time."""
    indices: list[int] = []
    pixels: list[NDArray[np.uint8]] = []
    unreadable: list[str] = []
    for index in range(len(split)):
        try:
            pixels.append(split.read(index))
            indices.append(index)
        except DataError as error:
            unreadable.append(str(error))
        last = index == len(split) - 1
        if len(pixels) == size or sum(item.nbytes for item in pixels) >= ROOM or last:
            yield Chunk(_held(split, indices, pixels), unreadable, index + 1)
            indices, pixels, unreadable = [], [], []


def _held(split: Split, indices: Sequence[int], pixels: Sequence[NDArray[np.uint8]]) -> Held:
    """Return some photographs with their pixels, and as large as these are."""
    taken = take(split, np.array(indices, np.int64))
    sizes = (item.shape[:2] for item in pixels)
    images = tuple(
        image._replace(height=height, width=width)
        for image, (height, width) in zip(taken.images, sizes, strict=True)
    )
    known = {item.name: getattr(taken, item.name) for item in fields(Split)}
    return replace(Held(**known), images=images, pixels=tuple(pixels))
