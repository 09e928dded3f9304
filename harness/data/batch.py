"""A batch, and how it travels between processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import get_worker_info

from detectors.interface import Target
from harness.data.maker import Made
from harness.data.resize import Size


class Batch(NamedTuple):
    """Some images of a split, as a detector takes them but for `normalize`."""

    images: Tensor  # uint8 [B, 3, H, W] in the order of the input's `channels`
    targets: list[Target]  # boxes in input pixels
    sizes: Tensor  # int64 [B, 2] (h, w) of the real image inside the input
    original_sizes: Tensor  # int64 [B, 2] (h, w)
    indices: Tensor  # int64 [B] into `split.images`


class Packed(NamedTuple):
    """A batch on its way between processes: few arrays, as every tensor costs a file handle."""

    images: Tensor
    boxes: NDArray[np.float32]  # [sum of M, 4]
    labels: NDArray[np.int64]  # [sum of M]
    counts: list[int]  # M of each image
    sizes: list[Size]
    original_sizes: list[Size]
    indices: list[int]
    unreadable: dict[int, str]  # what is wrong with images that were passed over


def blank(count: int, size: Size) -> Tensor:
    """Return room for images, uint8 [count, 3, H, W], shared if this is a loading process."""
    shape = (count, 3, *size)
    if get_worker_info() is None:
        return torch.from_numpy(np.empty(shape, np.uint8))  # numpy asks for large pages
    share: Any = torch.UntypedStorage._new_shared  # as torch's own collate does
    images: Tensor = torch.empty(0, dtype=torch.uint8).set_(share(int(np.prod(shape))))
    return images.view(shape)


def pack(images: Tensor, made: Sequence[Made], unreadable: dict[int, str]) -> Packed:
    """Join what belongs to the images of a batch."""
    return Packed(
        images,
        np.concatenate([item.boxes for item in made]),
        np.concatenate([item.labels for item in made]),
        [len(item.labels) for item in made],
        [item.size for item in made],
        [item.original_size for item in made],
        [item.photograph for item in made],
        dict(unreadable),
    )


def unpack(packed: Packed) -> Batch:
    """Return a batch as training and evaluation take it."""
    boxes = torch.split(torch.from_numpy(packed.boxes), packed.counts)
    labels = torch.split(torch.from_numpy(packed.labels), packed.counts)
    return Batch(
        packed.images,
        [Target(*pair) for pair in zip(boxes, labels, strict=True)],
        torch.tensor(packed.sizes),
        torch.tensor(packed.original_sizes),
        torch.tensor(packed.indices),
    )


def rescaled(packed: Packed, size: Size) -> Packed:
    """Return a batch at another size, each pixel the nearest of the old ones.

    Source: github.com/lyuwenyu/RT-DETR@068dfde rtdetr_pytorch/src/zoo/rtdetr/rtdetr.py, where the
    batch is resized inside the model.
    """
    height, width = packed.images.shape[2:]
    if (height, width) == size:
        return packed
    rows, columns = (
        torch.arange(new) * old // new for new, old in zip(size, (height, width), strict=True)
    )
    images = blank(len(packed.images), size)
    images.copy_(packed.images[:, :, rows][..., columns])
    y, x = size[0] / height, size[1] / width
    return packed._replace(
        images=images,
        boxes=packed.boxes * np.array([x, y, x, y], np.float32),
        sizes=[(max(1, round(h * y)), max(1, round(w * x))) for h, w in packed.sizes],
    )
