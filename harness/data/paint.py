"""Pixels of a training picture: only what can be seen is resized, once, into its place."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from harness.data.augment import Picture
from harness.data.layout import Paste
from harness.data.resize import resize

Pixels = NDArray[np.uint8]  # [H, W, 3] BGR


def paint(picture: Picture, read: Callable[[int], Pixels], canvas: Pixels, pad_value: int) -> None:
    """Make a picture.

    Args:
        picture: what it looks like.
        read: returns the pixels of a photograph, which are left as they are.
        canvas: [H, W, 3], written over; the picture goes to its top-left corner.
        pad_value: of the rest.
    """
    height, width = picture.size
    canvas[:] = pad_value
    part = canvas[:height, :width]
    if picture.fill != pad_value:
        part[:] = picture.fill
    for paste in picture.pastes:
        pixels = read(paste.image)
        if picture.distortion is not None:
            pixels = picture.distortion.apply(pixels)
        _paste(paste, pixels, part)
    if picture.shifts is not None:
        picture.shifts.apply(part)
    if picture.mirrored:
        part[:] = cv2.flip(part, 1)


def blend(first: Pixels, second: Pixels, result: Pixels) -> None:
    """Mix two pictures half and half, rounded down as the reference does.

    Args:
        first: [H, W, 3].
        second: [H, W, 3].
        result: [H, W, 3], written over.
    """
    cv2.addWeighted(first, 0.5, second, 0.5, -0.25, dst=result)


def to_planes(picture: Pixels, planes: NDArray[np.uint8], channels: str) -> None:
    """Write a picture channel by channel.

    Args:
        picture: [H, W, 3] BGR.
        planes: [3, H, W] in the order of `channels`, written over.
        channels: `rgb` or `bgr`.
    """
    for k, plane in enumerate(planes):
        cv2.extractChannel(picture, 2 - k if channels == "rgb" else k, dst=plane)


def _paste(paste: Paste, pixels: Pixels, part: Pixels) -> None:
    x1, y1, x2, y2 = paste.source
    left, top, right, bottom = paste.target
    patch = resize(pixels[y1:y2, x1:x2], (bottom - top, right - left))
    x1, y1, x2, y2 = paste.region
    part[y1:y2, x1:x2] = patch[y1 - top : y2 - top, x1 - left : x2 - left]
