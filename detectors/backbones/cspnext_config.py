"""What of CSPNeXt can be chosen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from detectors.config import added_later
from detectors.contract import Built


@dataclass(frozen=True)
class CSPNeXtConfig(Built):
    """Depth, width and blocks of CSPNeXt."""

    makes: ClassVar[str] = "detectors.backbones.cspnext:CSPNeXt"

    depth_mult: float = 1.0
    """Multiplies the blocks of every stage. Swept with `width_mult` by rtmdet/table2."""
    width_mult: float = 1.0
    """Multiplies the channels of every stage. Swept with `depth_mult` by rtmdet/table2."""
    blocks: tuple[int, int, int, int] = (3, 6, 6, 3)
    """Blocks a stage before `depth_mult`. Swept by rtmdet/table5b_blocks."""
    expand_ratio: float = 0.5
    """Width of each branch of a stage as a share of its output. Swept by rtmdet/table5c_balance."""
    kernel_size: int = 5
    """Side of the depth-wise kernels, odd. Swept with the neck's by rtmdet/table5a_kernel."""
    channel_attention: bool = True
    """Whether every stage ends with channel attention. Swept by rtmdet/table5b_blocks."""
    depthwise: bool = added_later(default=False)
    """Whether every 3x3 convolution behind the stem is depth-wise separable, as in the released
    nano; in no published table."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        if min(self.depth_mult, self.width_mult, self.expand_ratio) <= 0:
            raise ValueError("depth_mult, width_mult and expand_ratio must be above 0")
        if min(self.blocks) < 1:
            raise ValueError("every stage needs at least one block")
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError("kernel_size must be odd and at least 1")

    @property
    def stem_channels(self) -> int:
        """Channels after the stem."""
        return int(64 * self.width_mult)

    @property
    def stage_channels(self) -> tuple[int, ...]:
        """Channels after each of the four stages."""
        return tuple(int(base * self.width_mult) for base in (128, 256, 512, 1024))

    @property
    def stage_blocks(self) -> tuple[int, ...]:
        """Blocks in each of the four stages."""
        return tuple(max(round(count * self.depth_mult), 1) for count in self.blocks)

    @property
    def channels(self) -> tuple[int, ...]:
        """Channels of the features, fine to coarse."""
        return self.stage_channels[1:]

    @property
    def strides(self) -> tuple[int, ...]:
        """Strides of the features, fine to coarse, input pixels."""
        return (8, 16, 32)
