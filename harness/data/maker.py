"""Makes training pictures from their keys, in whichever process."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from detectors.interface import InputConfig
from harness.data.augment import Composer, Picture
from harness.data.caches import PICTURE, Key, Plan
from harness.data.config import DataError
from harness.data.dataset import Split
from harness.data.layout import Layout, whole
from harness.data.paint import Pixels, blend, paint, to_planes
from harness.data.resize import Size
from harness.data.store import Held, Store
from harness.recipe import Recipe


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
        self._scratch = np.empty((4, *self.input.size, 3), np.uint8)
        self._held: list[tuple[Store, Held]] = []
        self._stored = True

    def make(self, key: Key, planes: NDArray[np.uint8]) -> Made:
        """Make a picture.

        Args:
            key: which.
            planes: uint8 [3, H, W] in the input's order of channels, written over.

        Raises:
            DataError: a photograph cannot be read, and the recipe does not pass it over.
        """
        self._stored = True
        while True:
            try:
                return self._make(key, planes)
            except _OverwrittenError:
                self._stored = False
            except _UnreadableError as error:
                if self.recipe.on_corrupt == "refuse":
                    raise DataError(str(error)) from error
                self.unreadable[error.index] = str(error)

    def _make(self, key: Key, planes: NDArray[np.uint8]) -> Made:
        self._held.clear()
        picture = self._compose(key.plan)
        pixels = self._painted(key.plan, picture, self._scratch[0], keep=key.kept)
        boxes, labels, size = picture.boxes, picture.labels, picture.size
        partner = self._partner(key)
        if partner is not None:
            plan, other = partner
            second = self._painted(plan, other, self._scratch[1], keep=False)
            added = other.boxes
            if key.mirrored:
                second = np.asarray(cv2.flip(second, 1, dst=self._scratch[3]), np.uint8)
                added = _mirrored(added, self.input.size[1])
            blend(pixels, second, self._scratch[2])
            pixels, size = self._scratch[2], self.input.size
            boxes = np.concatenate([boxes, added])
            labels = np.concatenate([labels, other.labels])
        to_planes(pixels, planes, self.input.channels)
        if not all(store.intact(held) for store, held in self._held):
            raise _OverwrittenError
        index = self._good(key.plan.images[0])
        image = self.split.images[index]
        return Made(boxes, labels, size, (image.height, image.width), index)

    def _partner(self, key: Key) -> tuple[Plan, Picture] | None:
        """Return the first partner that has a box."""
        for plan in dict.fromkeys(key.partners):
            picture = self._compose(plan)
            if len(picture.boxes):
                return plan, picture
        return None

    def _compose(self, plan: Plan) -> Picture:
        seeds = [self.seed, PICTURE, plan.epoch, plan.position, plan.images[0]]
        composer = Composer(self.recipe.augment_of(plan.epoch), self.input)
        images = tuple(self._good(image) for image in plan.images)
        return composer(images, self._layout, np.random.default_rng(seeds))

    def _layout(self, index: int) -> Layout:
        image = self.split.images[index]
        return whole(index, (image.height, image.width), *self.split.objects(index))

    def _painted(self, plan: Plan, picture: Picture, canvas: Pixels, *, keep: bool) -> Pixels:
        """Return the pixels of a picture, from the store if they are there."""
        key = hash(plan)
        found = self.pictures.get(key) if self._stored and not keep else None
        if found is not None:
            self._held.append((self.pictures, found))
            return found.image
        room = self.pictures.reserve(*self.input.size) if self._stored and keep else None
        if room is not None:
            self._held.append((self.pictures, room))
            canvas = room.image
        paint(picture, self._read, canvas, self.input.pad_value)
        if room is not None:
            self.pictures.publish(key, room)
        return canvas

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
