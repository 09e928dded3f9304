"""How a photograph is fitted into a detector's input, and how boxes come back from there.

Every way scales each axis on its own and pads right and bottom only, so that two sizes say it all.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Literal

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detectors.interface import InputConfig

Size = tuple[int, int]  # (h, w), pixels
Interpolation = Literal["linear", "area", "bilinear_antialias", "cubic"]
OPENCV = {"linear": cv2.INTER_LINEAR, "area": cv2.INTER_AREA, "cubic": cv2.INTER_CUBIC}


def fitted(original: Size, input: InputConfig) -> Size:
    """Return the size of the real image inside the input.

    Source: github.com/open-mmlab/mmcv mmcv/image/geometric.py, `rescale_size`, for `letterbox`;
    torchvision.models.detection.transform, `_resize_image_and_masks`, for `shortest_edge`.
    """
    if input.resize == "stretch":
        return input.size
    if input.resize == "shortest_edge":
        shortest, longest = input.size
        scale = min(shortest / min(original), longest / max(original))
        height, width = (max(1, int(side * scale)) for side in original)
        return height, width
    return scaled(original, min(input.size[0] / original[0], input.size[1] / original[1]))


def scaled(size: Size, scale: float) -> Size:
    """Return a size times a factor, rounded half up, at least one pixel."""
    return max(1, int(size[0] * scale + 0.5)), max(1, int(size[1] * scale + 0.5))


def resize(
    image: NDArray[np.uint8], size: Size, interpolation: Interpolation = "linear"
) -> NDArray[np.uint8]:
    """Resize an image.

    Args:
        image: [H, W, 3].
        size: (h, w) of the result.
        interpolation: see `InputConfig`.
    """
    if image.shape[:2] == size:
        return image
    if interpolation == "bilinear_antialias":
        return _antialiased(image, size)
    return np.asarray(cv2.resize(image, size[::-1], interpolation=OPENCV[interpolation]), np.uint8)


def _antialiased(image: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """Resize as Pillow does with BILINEAR, to one grey level."""
    pixels = torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None]
    resized = torch.nn.functional.interpolate(
        pixels, size, mode="bilinear", antialias=True, align_corners=False
    )
    return np.ascontiguousarray(resized[0].permute(1, 2, 0).numpy())


def canvas(sizes: Iterable[Size], input: InputConfig) -> Size:
    """Return the size of the input that holds a batch.

    Args:
        sizes: (h, w) of its images, as `fitted` returns them.
        input: of the detector.
    """
    if not input.varies:
        return input.size
    heights, widths = zip(*sizes, strict=True)
    return input.padded((max(heights), max(widths)))


def span(originals: Iterable[Size], input: InputConfig) -> dict[str, Size]:
    """Return the sizes of the smallest and the largest input, by area.

    Args:
        originals: (h, w) of photographs.
        input: of the detector.

    Returns:
        Nothing where all inputs are of `input.size`.
    """
    if not input.varies:
        return {}
    sizes = sorted({input.padded(fitted(item, input)) for item in originals}, key=math.prod)
    return {"smallest": sizes[0], "largest": sizes[-1]} if sizes else {}


def place(image: NDArray[np.uint8], input: InputConfig, size: Size | None = None) -> Tensor:
    """Put an image into the top-left corner of an input.

    Args:
        image: [h, w, 3] BGR, not larger than the input.
        input: size, padding and order of channels.
        size: (h, w) of the result; None for what this image alone would have.

    Returns:
        uint8 [3, H, W] in the input's order of channels.
    """
    height, width = image.shape[:2]
    result = np.empty((3, *(size or canvas([(height, width)], input))), np.uint8)
    result[:] = np.array(input.padding, np.uint8)[:, None, None]
    planes = image.transpose(2, 0, 1)
    result[:, :height, :width] = planes[::-1] if input.channels == "rgb" else planes
    return torch.from_numpy(result)


def stacked(images: Sequence[Tensor], input: InputConfig) -> Tensor:
    """Join inputs to a batch as large as the largest of them.

    Args:
        images: uint8 [1, 3, h, w] each.
        input: whose padding fills the rest.

    Returns:
        uint8 [B, 3, H, W].
    """
    height, width = (max(image.shape[axis] for image in images) for axis in (2, 3))
    result = torch.tensor(input.padding, dtype=torch.uint8).view(1, 3, 1, 1)
    result = result.repeat(len(images), 1, height, width)
    for row, image in zip(result, images, strict=True):
        row[:, : image.shape[2], : image.shape[3]] = image[0]
    return result


def to_original(boxes: Tensor, size: Tensor | Size, original_size: Tensor | Size) -> Tensor:
    """Move boxes from the input back to the photograph.

    Args:
        boxes: [K, 4] xyxy, input pixels.
        size: (h, w) of the real image inside the input.
        original_size: (h, w) of the photograph.

    Returns:
        [K, 4] xyxy, original pixels.
    """
    height, width = (float(new) / float(old) for new, old in zip(original_size, size, strict=True))
    return boxes * boxes.new_tensor([width, height, width, height])


def normalize(images: Tensor, input: InputConfig) -> Tensor:
    """Turn pixel values into what the detector expects, on the device they are on.

    Args:
        images: uint8 [B, 3, H, W] in the order of `input.channels`.
        input: mean and standard deviation, in the same order.

    Returns:
        float32 [B, 3, H, W].
    """
    mean = torch.tensor(input.mean, device=images.device).view(3, 1, 1)
    std = torch.tensor(input.std, device=images.device).view(3, 1, 1)
    return images.to(torch.float32).sub_(mean).div_(std)
