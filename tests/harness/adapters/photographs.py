"""Two photographs, as a detector's input wants them, and detections that should be the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from detectors.interface import Detections, InputConfig
from harness.config.data import ShapesConfig
from harness.data.resize import canvas, fitted, normalize, place, resize
from harness.data.shapes import render

SCENES = ShapesConfig(size=160)
CUTS = ((160, 120), (110, 160))  # (h, w) of what is cut out: one stands, one lies


class Prepared(NamedTuple):
    """A photograph as it goes into a network."""

    images: Tensor  # [1, 3, H, W]
    size: tuple[int, int]  # (h, w) of the real image inside the input


def photographs() -> list[np.ndarray]:
    """Render two scenes."""
    return [
        render(SCENES, "val", index).image[:height, :width].copy()
        for index, (height, width) in enumerate(CUTS)
    ]


def prepared(input: InputConfig) -> list[Prepared]:
    """Resize, pad and normalise both, one by one."""
    found = []
    for pixels in photographs():
        resized = resize(pixels, fitted(pixels.shape[:2], input), input.interpolation)
        size = (resized.shape[0], resized.shape[1])
        images = normalize(place(resized, input, canvas([size], input))[None], input)
        found.append(Prepared(images, size))
    return found


def assert_same(found: Detections, boxes: Any, scores: Any, labels: Any) -> None:
    """See that detections are those of a library, in its order, but for rounding."""
    assert found.labels.tolist() == labels.tolist()
    torch.testing.assert_close(found.scores, scores, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found.boxes, boxes, rtol=1e-5, atol=1e-3)


def spread(model: torch.nn.Module, names: Sequence[str], seed: int = 0, by: float = 1.0) -> None:
    """Draw some parameters anew, so that scores of untrained heads are far apart."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        if any(part in name for part in names):
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data += by * noise * parameter.data.std(correction=0).clamp(min=0.01)
