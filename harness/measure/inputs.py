"""Photographs as what a timed call gets: prepared tensors, or made anew from decoded images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from detectors.interface import InputConfig
from harness.data import Split, val_loader
from harness.data.resize import canvas, fitted, normalize, place, resize, stacked

ItemT = TypeVar("ItemT")


class Inputs(NamedTuple):
    """What one timed call gets, prepared and on the device."""

    images: Tensor  # [B, 3, H, W], normalised
    sizes: Tensor  # int64 [B, 2] (h, w) of the real image inside the input, pixels


class Preprocess:
    """Makes the images of a subject from decoded photographs: resize, pad, copy, normalise.

    Args:
        split: where the photographs come from; they are decoded here, once.
        config: how the detector wants them.
        images: how many of them at most, as in `read_inputs`.
        like: the subject's inputs.
    """

    def __init__(
        self, split: Split, config: InputConfig, images: int, like: Sequence[Inputs]
    ) -> None:
        read = [split.read(index) for index in range(min(images, len(split)))]
        batch = len(like[0].images)
        self._photographs = [_take(read, index * batch, batch) for index in range(len(like))]
        self._config, self._device = config, like[0].images.device
        self._dtype = like[0].images.dtype
        last = like[0].images.is_contiguous(memory_format=torch.channels_last)
        self._layout = torch.channels_last if last else torch.contiguous_format

    def __call__(self, index: int) -> Tensor:
        """Return the images of an input, [B, 3, H, W] on the device.

        Args:
            index: of the input.
        """
        config = self._config
        resized = [
            resize(image, fitted(image.shape[:2], config), config.interpolation)
            for image in self._photographs[index]
        ]
        size = canvas((image.shape[:2] for image in resized), config)
        pixels = [place(image, config, size) for image in resized]
        images = normalize(torch.stack(pixels).to(self._device), config).to(self._dtype)
        return images.contiguous(memory_format=self._layout)


def read_inputs(
    split: Split, config: InputConfig, *, images: int, batch_size: int
) -> tuple[Inputs, ...]:
    """Read the first images of a split as batches; a last short one is filled up.

    They are of one size, unless the detector takes photographs as large as they are.

    Args:
        split: where the images come from.
        config: how the detector wants them.
        images: how many to read at most.
        batch_size: images a batch.
    """
    pixels: list[Tensor] = []
    sizes: list[Tensor] = []
    for batch in val_loader(split, config, batch_size=1, workers=0):
        pixels.append(batch.images)
        sizes.append(batch.sizes)
        if len(pixels) == images:
            break
    starts = range(0, len(pixels), batch_size)
    return tuple(
        Inputs(
            normalize(stacked(_take(pixels, start, batch_size), config), config),
            torch.cat(_take(sizes, start, batch_size)),
        )
        for start in starts
    )


def _take(items: Sequence[ItemT], start: int, count: int) -> list[ItemT]:
    """Take items in a row, going on from the beginning after the last."""
    return [items[(start + offset) % len(items)] for offset in range(count)]
