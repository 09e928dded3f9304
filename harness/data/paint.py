"""Pixels of a training picture: only what can be seen is resized, once, into its place."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
from numpy.typing import NDArray

from detectors.interface import InputConfig
from harness.data.augment import Picture
from harness.data.layout import Paste
from harness.data.resize import Interpolation, resize

Pixels = NDArray[np.uint8]  # [H, W, 3] BGR
Planes = NDArray[np.uint8]  # [3, H, W] in the order of the input's channels, contiguous


def paint(
    picture: Picture, read: Callable[[int], Pixels], canvas: Pixels, input: InputConfig
) -> None:
    """Make a picture.

    Args:
        picture: what it looks like.
        read: returns the pixels of a photograph, which are left as they are.
        canvas: [H, W, 3], written over; the picture goes to its top-left corner.
        input: the padding of the rest, and how pixels are resized.
    """
    height, width = picture.size
    padding = input.padding[::-1] if input.channels == "rgb" else input.padding  # blue first
    canvas[:] = padding
    part = canvas[:height, :width]
    if picture.fill is not None:
        part[:] = picture.fill
    for paste in picture.pastes:
        pixels = read(paste.image)
        if picture.distortion is not None:
            pixels = picture.distortion.apply(pixels)
        _paste(paste, pixels, part, picture.mirrored, input.interpolation)
    if picture.shifts is not None:
        picture.shifts.apply(part)


def to_planes(picture: Pixels, planes: Planes, channels: str) -> None:
    """Write a picture channel by channel.

    Args:
        picture: [H, W, 3] BGR.
        planes: [3, H, W] in the order of `channels`, written over.
        channels: `rgb` or `bgr`.
    """
    cv2.split(picture, list(planes[::-1] if channels == "rgb" else planes))


def mirror(planes: Planes, result: Planes) -> None:
    """Mirror a picture.

    Args:
        planes: [3, H, W].
        result: [3, H, W], written over.
    """
    cv2.flip(_rows(planes), 1, dst=_rows(result))


def blend(first: Planes, second: Planes, result: Planes) -> None:
    """Mix two pictures half and half, rounded down as the reference does.

    Args:
        first: [3, H, W].
        second: [3, H, W].
        result: [3, H, W], written over.
    """
    cv2.addWeighted(_rows(first), 0.5, _rows(second), 0.5, -0.25, dst=_rows(result))


def _rows(planes: Planes) -> NDArray[np.uint8]:
    """Return planes one below the other, as OpenCV takes them."""
    return planes.reshape(-1, planes.shape[2])


def _paste(
    paste: Paste, pixels: Pixels, part: Pixels, mirrored: bool, interpolation: Interpolation
) -> None:
    x1, y1, x2, y2 = paste.source
    left, top, right, bottom = paste.target
    patch = resize(pixels[y1:y2, x1:x2], (bottom - top, right - left), interpolation)
    x1, y1, x2, y2 = paste.region
    shown = patch[y1 - top : y2 - top, x1 - left : x2 - left]
    if mirrored:
        width = part.shape[1]
        cv2.flip(shown, 1, dst=part[y1:y2, width - x2 : width - x1])
    else:
        part[y1:y2, x1:x2] = shown
