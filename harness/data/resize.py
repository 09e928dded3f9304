"""How a photograph is fitted into a detector's input, and how boxes come back from there.

Both ways scale each axis on its own and pad right and bottom only, so that two sizes say it all.
"""

from __future__ import annotations

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detectors.interface import InputConfig

Size = tuple[int, int]  # (h, w), pixels


def fitted(original: Size, input: InputConfig) -> Size:
    """Return the size of the real image inside the input.

    Source: github.com/open-mmlab/mmcv mmcv/image/geometric.py, `rescale_size`, for `letterbox`.
    """
    if input.resize == "stretch":
        return input.size
    return scaled(original, min(input.size[0] / original[0], input.size[1] / original[1]))


def scaled(size: Size, scale: float) -> Size:
    """Return a size times a factor, rounded half up, at least one pixel."""
    return max(1, int(size[0] * scale + 0.5)), max(1, int(size[1] * scale + 0.5))


def resize(image: NDArray[np.uint8], size: Size) -> NDArray[np.uint8]:
    """Resize an image bilinearly.

    Args:
        image: [H, W, 3].
        size: (h, w) of the result.
    """
    if image.shape[:2] == size:
        return image
    return np.asarray(cv2.resize(image, size[::-1], interpolation=cv2.INTER_LINEAR), np.uint8)


def place(image: NDArray[np.uint8], input: InputConfig) -> Tensor:
    """Put an image into the top-left corner of an input.

    Args:
        image: [h, w, 3] BGR, not larger than the input.
        input: size, padding and order of channels.

    Returns:
        uint8 [3, H, W] in the input's order of channels.
    """
    height, width = image.shape[:2]
    result = np.full((3, *input.size), input.pad_value, np.uint8)
    planes = image.transpose(2, 0, 1)
    result[:, :height, :width] = planes[::-1] if input.channels == "rgb" else planes
    return torch.from_numpy(result)


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
