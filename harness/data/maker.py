"""Makes training pictures from their keys, in whichever process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detectors.interface import InputConfig
from harness.config.data import DataError
from harness.config.recipe import Recipe
from harness.data.augment import Composer, Picture
from harness.data.caches import PICTURE, Key, Plan
from harness.data.dataset import Split
from harness.data.layout import Layout, whole
from harness.data.paint import Pixels, Planes, blend, mirror, paint, to_planes
from harness.data.resize import Size, canvas, fitted
from harness.data.store import Held, Store

COMPOSED = 1 << 10  # pictures of which a process remembers what they look like; few bytes each


class Made(NamedTuple):
    """What belongs to a picture beside its pixels."""

    boxes: NDArray[np.float32]  # [M, 4] xyxy, input pixels
    labels: NDArray[np.int64]  # [M]
    size: Size  # (h, w) of the real part inside the input
    original_size: Size
    photograph: int  # the first one, as index into the split


class _UnreadableError(DataError):
    """A photograph that cannot be read, by its index."""

    def __init__(self, index: int, message: str) -> None:
        super().__init__(message)
        self.index = index


class _OverwrittenError(Exception):
    """Pixels from a store were written over while they were used."""


@dataclass(eq=False)
class Maker:
    """Makes pictures; what it makes depends on nothing but the key.

    The stores only spare it from decoding or painting again.
    """

    split: Split
    input: InputConfig
    recipe: Recipe
    seed: int
    photographs: Store
    pictures: Store
    unreadable: dict[int, str] = field(default_factory=dict)
    """What is wrong with the photographs that were passed over, by index."""

    def __post_init__(self) -> None:
        """Reserve memory to work in."""
        self._reserve(self.input.largest)
        self._composed: dict[Plan, Picture] = {}
        _ = self.split.objects(0)  # made ready here, once, to be shared by forked processes
        self._held: list[tuple[Store, Held]] = []
        self._stored = True

    def _reserve(self, size: Size) -> None:
        """Make room to paint pictures of a size."""
        self._canvas = np.empty((*size, 3), np.uint8)
        self._scratch = np.empty((3, 3, *size), np.uint8)

    def size_of(self, keys: Sequence[Key]) -> Size:
        """Return the size of the input that holds the pictures of some keys."""
        images = [self.split.images[key.plan.images[0]] for key in keys]
        return canvas(
            (fitted((item.height, item.width), self.input) for item in images), self.input
        )

    def make(self, key: Key, planes: NDArray[np.uint8]) -> Made:
        """Make a picture.

        Args:
            key: which.
            planes: uint8 [3, H, W] in the input's order of channels, written over.

        Raises:
            DataError: a photograph cannot be read, and the recipe does not pass it over.
        """
        self._stored = True
        if self._canvas.shape[:2] != planes.shape[1:]:
            self._reserve((planes.shape[1], planes.shape[2]))
        while True:
            try:
                return self._make(key, planes)
            except _OverwrittenError:
                self._stored = False
            except _UnreadableError as error:
                if self.recipe.on_corrupt == "refuse":
                    raise DataError(str(error)) from error
                self.unreadable[error.index] = str(error)
                self._composed.clear()

    def _make(self, key: Key, planes: NDArray[np.uint8]) -> Made:
        self._held.clear()
        picture = self._compose(key.plan)
        pixels = self._painted(key.plan, picture, self._scratch[0], keep=key.kept)
        boxes, labels, size = picture.boxes, picture.labels, picture.size
        partner = self._partner(key)
        if partner is None:
            planes[:] = pixels
        else:
            plan, other = partner
            second = self._painted(plan, other, self._scratch[1], keep=False)
            added, size = other.boxes, self.input.size
            if key.mirrored:
                mirror(second, self._scratch[2])
                second, added = self._scratch[2], _mirrored(added, size[1])
            blend(pixels, second, planes)
            boxes = np.concatenate([boxes, added])
            labels = np.concatenate([labels, other.labels])
        if not all(store.intact(held) for store, held in self._held):
            raise _OverwrittenError
        index = self._good(key.plan.images[0])
        image = self.split.images[index]
        return Made(boxes, labels, size, (image.height, image.width), index)

    def _partner(self, key: Key) -> tuple[Plan, Picture] | None:
        """Return the first partner that has a box."""
        for plan in key.partners:
            picture = self._compose(plan)
            if len(picture.boxes):
                return plan, picture
        return None

    def _compose(self, plan: Plan) -> Picture:
        """Return what a picture looks like; the latest ones are at hand."""
        found = self._composed.get(plan)
        if found is None:
            if len(self._composed) >= COMPOSED:
                del self._composed[next(iter(self._composed))]
            found = self._composed[plan] = self._drawn(plan)
        return found

    def _drawn(self, plan: Plan) -> Picture:
        seeds = [self.seed, PICTURE, plan.epoch, plan.position, plan.images[0]]
        composer = Composer(self.recipe.augment_of(plan.epoch), self.input)
        images = tuple(self._good(image) for image in plan.images)
        return composer(images, self._layout, np.random.default_rng(seeds))

    def _layout(self, index: int) -> Layout:
        image = self.split.images[index]
        return whole(index, (image.height, image.width), *self.split.objects(index))

    def _painted(self, plan: Plan, picture: Picture, planes: Planes, *, keep: bool) -> Planes:
        """Return the pixels of a picture, from the store if they are there."""
        key = hash(plan)
        found = self.pictures.get(key) if self._stored and not keep else None
        if found is not None:
            self._held.append((self.pictures, found))
            return found.image.reshape(planes.shape)
        room = self.pictures.reserve(*self.input.size) if self._stored and keep else None
        if room is not None:
            self._held.append((self.pictures, room))
            planes = room.image.reshape(planes.shape)
        paint(picture, self._read, self._canvas, self.input)
        to_planes(self._canvas, planes, self.input.channels)
        if room is not None:
            self.pictures.publish(key, room)
        return planes

    def _read(self, index: int) -> Pixels:
        """Return the pixels of a photograph, from the store if they are there."""
        found = self.photographs.get(index) if self._stored else None
        if found is not None:
            self._held.append((self.photographs, found))
            return found.image
        try:
            pixels = self.split.read(index)
        except DataError as error:
            raise _UnreadableError(index, str(error)) from error
        room = self.photographs.reserve(*pixels.shape[:2]) if self._stored else None
        if room is not None:
            room.image[:] = pixels
            self.photographs.publish(index, room)
        return pixels

    def _good(self, index: int) -> int:
        """Return a photograph, or the next that can be read."""
        for step in range(len(self.split)):
            candidate = (index + step) % len(self.split)
            if candidate not in self.unreadable:
                return candidate
        raise DataError(f"{self.split.image_folder}: no image can be read; restore the files")


def _mirrored(boxes: NDArray[np.float32], width: int) -> NDArray[np.float32]:
    left, top, right, bottom = boxes.T
    return np.stack([width - right, top, width - left, bottom], axis=1).astype(np.float32)
