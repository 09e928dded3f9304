"""The smallest foreign kind: `toy:FILE`, whose file holds a threshold; it finds what is bright."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from detectors.config import KnobError, out_of_result, with_presets
from detectors.interface import InputConfig
from harness.adapters.foreign import Foreign
from harness.adapters.model import ForeignDetector, ReadyOutputs
from harness.adapters.ready_config import ReadyConfig

PRESETS = {"small": {"input.size": [32, 32]}, "grey": {"input.std": [128.0, 128.0, 128.0]}}


@dataclass(frozen=True)
class ToyForeignConfig(Foreign):
    """A file with one number."""

    makes: ClassVar[str] = "tests.harness.adapters.toy:ToyForeign"
    kind: ClassVar[str] = "toy"

    source: str = out_of_result("")
    """The file."""
    sha256: str = ""
    """Of the file."""
    classes: tuple[str, ...] = ("triangle", "star")
    """By label."""
    input: InputConfig = with_presets(InputConfig(size=(64, 64)), PRESETS)
    """Input tensor."""
    postprocess: ReadyConfig = ReadyConfig()
    """What is kept."""

    def notes(self) -> tuple[str, ...]:
        """Say that it is a toy."""
        return ("toy: it finds what is bright",)


def read(file: str) -> ToyForeignConfig:
    """Return the config of a file."""
    path = Path(file)
    if not path.is_file():
        raise KnobError(f"toy:{file}: no such file")
    return ToyForeignConfig(file, hashlib.sha256(path.read_bytes()).hexdigest())


class Brightest(nn.Module):
    """Finds the four quarters of an image, as bright as they are."""

    def forward(self, images: Tensor) -> ReadyOutputs:
        """Return a detection for each quarter, [B, 3, H, W] to [B, 4]."""
        height, width = images.shape[2:]
        scores = nn.functional.adaptive_avg_pool2d(images.mean(1, keepdim=True), 2).flatten(1)
        half = torch.tensor([width, height, width, height], device=images.device) / 2
        corners = torch.tensor([[0, 0, 1, 1], [1, 0, 2, 1], [0, 1, 1, 2], [1, 1, 2, 2]])
        boxes = (corners.to(images.device) * half).expand(len(images), 4, 4)
        labels = (scores > 0.5).long()
        return ReadyOutputs(boxes, scores.clamp(0, 1), labels)


class ToyForeign(ForeignDetector):
    """One stage without weights."""

    def __init__(self, config: ToyForeignConfig) -> None:
        super().__init__()
        self.config: Any = config
        self.network = Brightest()
        self.postprocess = config.postprocess.build()
