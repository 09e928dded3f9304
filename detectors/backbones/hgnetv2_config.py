"""What of HGNetv2 can be chosen, and the published sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from detectors.backbones.freezing import Freezing
from detectors.contract import Built, Tuning

KERNEL_SIZES = (3, 3, 5, 5)  # of the layers of each stage
MIN_CHANNELS = 8
BLOCKS_OF_L = 6  # deeper ones learn slower


@dataclass(frozen=True)
class HGNetv2Config(Built, Freezing):
    """Depth and width of HGNetv2, and what of it learns."""

    makes: ClassVar[str] = "detectors.backbones.hgnetv2:HGNetv2"

    stem_channels: tuple[int, int] = (32, 48)
    """Channels inside and after the stem. Swept by rtdetr/v1_hgnetv2."""
    mid_channels: tuple[int, int, int, int] = (48, 96, 192, 384)
    """Channels of every layer of each stage. Swept by rtdetr/v1_hgnetv2."""
    stage_channels: tuple[int, int, int, int] = (128, 512, 1024, 2048)
    """Channels after each stage. In no published table."""
    blocks: tuple[int, int, int, int] = (1, 1, 3, 1)
    """Blocks of each stage. Swept by rtdetr/v1_hgnetv2."""
    layers_per_block: int = 6
    """Layers in a row, whose outputs a block joins. In no published table."""
    width_mult: float = 1.0
    """Multiplies all channels, the stem's too; at least 8 are kept. In no published table."""
    freeze_norm: bool | Literal["auto"] = "auto"
    """Whether all norms keep their statistics and affine terms in training; `auto` as published
    where the backbone starts from weights, else not. A frozen norm needs pre-trained weights:
    untrained, it normalises nothing. In no published table."""
    frozen_stages: int | Literal["auto"] = "auto"
    """Parts that don't learn, their norms frozen too: 0 none, 1 the stem, 2 the stem and the first
    stage, ... 5 all; `auto` as published where the backbone starts from weights, else 0. They need
    pre-trained weights. In no published table."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        self._check_channels()
        if len(self.blocks) != len(KERNEL_SIZES) or min(self.blocks) < 1:
            raise ValueError("blocks must name four stages with at least one block each")
        if self.layers_per_block < 1:
            raise ValueError("layers_per_block must be at least 1")
        if self.width_mult <= 0:
            raise ValueError("width_mult must be above 0")
        if not 0 <= self.parts_frozen <= 1 + len(self.blocks):
            raise ValueError("frozen_stages must be within 0 and 5")

    def _check_channels(self) -> None:
        for name, count in (("stem_channels", 2), ("mid_channels", 4), ("stage_channels", 4)):
            values = getattr(self, name)
            if len(values) != count or min(values) < MIN_CHANNELS:
                raise ValueError(f"{name} must be {count} numbers of at least {MIN_CHANNELS}")

    @property
    def scaled_stem(self) -> tuple[int, ...]:
        """Channels inside and after the stem, with `width_mult`."""
        return self._scale(self.stem_channels)

    @property
    def scaled_mid(self) -> tuple[int, ...]:
        """Channels of every layer of each stage, with `width_mult`."""
        return self._scale(self.mid_channels)

    @property
    def scaled_stages(self) -> tuple[int, ...]:
        """Channels after each stage, with `width_mult`."""
        return self._scale(self.stage_channels)

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the features, fine to coarse."""
        return self.scaled_stages[1:]

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the features, fine to coarse, input pixels."""
        return (8, 16, 32)

    @property
    def tuning(self) -> Tuning:
        """How RT-DETR trains it from ImageNet; X is deeper than L.

        Source: lyuwenyu/RT-DETR@068dfde rtdetr_paddle/configs/rtdetr (Apache-2.0).
        """
        lr = 0.05 if sum(self.blocks) <= BLOCKS_OF_L else 0.01
        return Tuning(freeze_norm=True, frozen_stages=1, lr=lr)

    def _scale(self, channels: tuple[int, ...]) -> tuple[int, ...]:
        return tuple(max(int(base * self.width_mult), MIN_CHANNELS) for base in channels)


L = HGNetv2Config()
X = HGNetv2Config(stem_channels=(32, 64), mid_channels=(64, 128, 256, 512), blocks=(1, 2, 5, 2))
