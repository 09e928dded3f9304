"""What of PResNet can be chosen, and the published depths."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from detectors.backbones.freezing import Freezing
from detectors.contract import Built, Tuning

BASE_CHANNELS = (64, 128, 256, 512)  # of the stages' 3x3 convolutions
STEM_CHANNELS = (32, 32, 64)
MIN_CHANNELS = 8
BLOCKS_OF_R50 = 16  # deeper ones learn slower
EXPANSION = {"basic": 1, "bottleneck": 4}  # of a block: channels after it, in widths


@dataclass(frozen=True)
class PResNetConfig(Built, Freezing):
    """Depth, width and blocks of PResNet, and what of it learns."""

    makes: ClassVar[str] = "detectors.backbones.presnet:PResNet"

    block: Literal["basic", "bottleneck"] = "basic"
    """Two 3x3 convolutions, or 1x1, 3x3, 1x1. Swept with `blocks` by rtdetr/table2 and tableB."""
    blocks: tuple[int, int, int, int] = (2, 2, 2, 2)
    """Blocks of each stage. Swept with `block` by rtdetr/table2 and rtdetr/tableB."""
    width_mult: float = 1.0
    """Multiplies all channels, the stem's too; at least 8 are kept. In no published table."""
    freeze_norm: bool | Literal["auto"] = False
    """Whether all norms keep their statistics and affine terms in training; `auto` as published
    where the backbone starts from weights, else not. A frozen norm needs pre-trained weights:
    untrained, it normalises nothing. True in rtdetr/tableA."""
    frozen_stages: int | Literal["auto"] = 0
    """Parts that don't learn, their norms frozen too: 0 none, 1 the stem, 2 the stem and the first
    stage, ... 5 all; `auto` as published where the backbone starts from weights, else 0. They need
    pre-trained weights. In no published table."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        if self.block not in EXPANSION:
            raise ValueError(f"block must be one of {', '.join(EXPANSION)}, got {self.block!r}")
        if len(self.blocks) != len(BASE_CHANNELS) or min(self.blocks) < 1:
            raise ValueError("blocks must name four stages with at least one block each")
        if self.width_mult <= 0:
            raise ValueError("width_mult must be above 0")
        if not 0 <= self.parts_frozen <= 1 + len(self.blocks):
            raise ValueError("frozen_stages must be within 0 and 5")

    @property
    def stem_channels(self) -> tuple[int, ...]:
        """Channels after each of the stem's convolutions."""
        return tuple(self._scale(base) for base in STEM_CHANNELS)

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels inside the blocks of each stage."""
        return tuple(self._scale(base) for base in BASE_CHANNELS)

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """Channels after each of the four stages."""
        return tuple(width * EXPANSION[self.block] for width in self.widths)

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the features, fine to coarse."""
        return self.stage_channels[1:]

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the features, fine to coarse, input pixels."""
        return (8, 16, 32)

    @property
    def tuning(self) -> Tuning:
        """How RT-DETR trains it from ImageNet; R101 is the deepest.

        Source: lyuwenyu/RT-DETR@068dfde rtdetr_pytorch/configs/rtdetr (Apache-2.0).
        """
        bottlenecks = self.block == "bottleneck"
        lr = 0.1 if sum(self.blocks) <= BLOCKS_OF_R50 else 0.01
        return Tuning(freeze_norm=bottlenecks, frozen_stages=int(bottlenecks), lr=lr)

    def _scale(self, base: int) -> int:
        return max(int(base * self.width_mult), MIN_CHANNELS)


R18 = PResNetConfig()
R34 = PResNetConfig(blocks=(3, 4, 6, 3))
R50 = PResNetConfig(
    block="bottleneck", blocks=(3, 4, 6, 3), freeze_norm="auto", frozen_stages="auto"
)
R101 = PResNetConfig(
    block="bottleneck", blocks=(3, 4, 23, 3), freeze_norm="auto", frozen_stages="auto"
)
