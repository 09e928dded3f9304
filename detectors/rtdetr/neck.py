"""HybridEncoder, the neck of RT-DETR, and the variants that led to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from detectors.layers import ConvNormAct, PerLevel
from detectors.rtdetr.encoder_layers import CellAttention, EncoderLayer, FusionBlock

LEVELS = (3, 4, 5)  # strides 8, 16 and 32, the paper's S3 to S5
ATTENTION = {"A": (), "B": LEVELS, "C": LEVELS, "D": LEVELS, "D_S5": (5,), "E": (5,)}


@dataclass(frozen=True)
class HybridEncoderConfig:
    """Design and size of the encoder."""

    variant: Literal["A", "B", "C", "D", "D_S5", "E"] = "E"
    """How levels are encoded and fused, from A (not at all) to E; see HybridEncoder. Swept by
    rtdetr/table3."""
    attention_levels: tuple[int, ...] = ()
    """Levels, ascending from 3 (stride 8) to 5 (stride 32), whose cells attend to those of the same
    level; none for those of the variant. For the variants D, D_S5 and E. In no published table but
    for the two that are variants of rtdetr/table3: D and D_S5."""
    num_layers: int = 1
    """Layers of attention; 0 for no attention. 1 in rtdetr/tableA."""
    num_heads: int = 8
    """Heads of the attention. 8 in rtdetr/tableA."""
    hidden_dim: int = 256
    """Channels of every level that leaves the encoder, a multiple of 4 and of `num_heads`. Differs
    with the sizes of rtdetr/table2."""
    feedforward_dim: int = 1024
    """Width of the attention's feed-forward network. Differs with the sizes of rtdetr/table2."""
    dropout: float = 0.0
    """Share of activations that the attention drops in training. In no published table."""
    num_blocks: int = 3
    """RepVGG blocks in each fusion block of E. 3 in rtdetr/tableA; none at all is D_S5 of
    rtdetr/table3."""
    expand_ratio: float = 1.0
    """Width inside a fusion block as a share of `hidden_dim`. Differs with the sizes of
    rtdetr/tableB."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        self._check_attention()
        if self.feedforward_dim < 1:
            raise ValueError("feedforward_dim must be at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError("dropout must be at least 0 and below 1")
        if self.num_blocks < 0:
            raise ValueError("num_blocks must not be negative")
        if int(self.hidden_dim * self.expand_ratio) < 1:
            raise ValueError("expand_ratio must leave at least one of the hidden_dim channels")

    def _check_attention(self) -> None:
        levels = self.attention_levels
        if levels and self.variant in ("A", "B", "C"):
            raise ValueError(f"attention_levels must be empty for variant {self.variant}")
        if not set(levels) <= set(LEVELS) or list(levels) != sorted(set(levels)):
            raise ValueError("attention_levels must ascend within 3, 4, 5, each at most once")
        if self.num_layers < 0:
            raise ValueError("num_layers must not be negative")
        if self.num_heads < 1:
            raise ValueError("num_heads must be at least 1")
        if self.hidden_dim < 1 or self.hidden_dim % 4 or self.hidden_dim % self.num_heads:
            raise ValueError("hidden_dim must be a multiple of 4 and of num_heads")

    @property
    def attending(self) -> tuple[tuple[int, ...], ...]:
        """Groups of levels, 3 to 5, whose cells attend to all those of the same group."""
        levels = self.attention_levels or ATTENTION[self.variant]
        if self.num_layers == 0 or not levels:
            return ()
        return (levels,) if self.variant == "C" else tuple((level,) for level in levels)

    @property
    def shares_attention(self) -> bool:
        """Whether all groups go through the same layers."""
        return self.variant in ("B", "D")

    @property
    def fuses_levels(self) -> bool:
        """Whether levels are fused top-down and bottom-up."""
        return self.variant in ("D", "D_S5", "E")

    def build(self, in_channels: tuple[int, ...]) -> HybridEncoder:
        """Make the encoder for features of strides 8, 16 and 32 with these channels.

        Raises:
            ValueError: the number of levels is another.
        """
        if len(in_channels) != len(LEVELS):
            raise ValueError(f"in_channels must name {len(LEVELS)} levels, got {in_channels}")
        return HybridEncoder(self, in_channels)


class HybridEncoder(nn.Module):
    """Let the cells of single levels attend to each other, then fuse the levels by convolutions.

    E is the published encoder; the others are the paper's steps towards it:

    | variant | attention, one layer | fusion of levels | R50, parameters | published |
    | --- | --- | --- | --- | --- |
    | A | none | none | 31859564 | 31 M |
    | B | within each level, with shared weights | none | 32649324 | 32 M |
    | C | over the cells of all levels at once | by that attention | 32649324 | 32 M |
    | D | within each level, with shared weights | as E, without RepVGG blocks | 35014764 | 35 M |
    | D_S5 | within the coarsest level | as E, without RepVGG blocks | 35014764 | 35 M |
    | E | within the coarsest level | top-down, then bottom-up | 42891372 | 42 M |

    The paper says what attends to what, that B has one layer which its levels share, and that the
    fusion of D resembles PANet; upstream has E alone. The rest was found by counting against the
    published figures, which are cut to whole millions. A layer has 0.79 million parameters, so C
    has one, which takes the place of B's; D, which has no more millions than D_S5, cannot have two
    more, so its levels share one; and D's fusion has between 2.35 and 3.35 million parameters,
    where that of E has 10.24, or 2.37 without RepVGG blocks. That last choice is not the only one
    that would fit. In C nothing but their content tells levels apart.

    With several `attention_levels` every level has layers of its own in D_S5 and E.

    Source: RT-DETR, arXiv:2304.08069v3, sec. 4.2, fig. 3 and table 3;
    lyuwenyu/RT-DETR@068dfde rtdetr_pytorch/src/zoo/rtdetr/hybrid_encoder.py (Apache-2.0), E equal
    in numbers (tests/detectors/test_rtdetr_golden.py).
    Differs: positions suit maps that are not square (see `encode_positions`); layers beyond the
    first start with weights of their own, where upstream copies the first one's.
    """

    def __init__(self, config: HybridEncoderConfig, in_channels: tuple[int, ...]) -> None:
        super().__init__()
        width = config.hidden_dim
        self.out_channels = (width,) * len(in_channels)
        self.groups = [[LEVELS.index(level) for level in group] for group in config.attending]
        self.input_proj = PerLevel(
            ConvNormAct(channels, width, 1, activation="none") for channels in in_channels
        )
        stacks = min(1, len(self.groups)) if config.shares_attention else len(self.groups)
        self.intra = nn.ModuleList(_attention(config) for _ in range(stacks))
        steps = range(len(in_channels) - 1 if config.fuses_levels else 0)
        self.lateral = nn.ModuleList(ConvNormAct(width, width, 1) for _ in steps)
        self.top_down = nn.ModuleList(_fusion_block(config) for _ in steps)
        self.downsample = nn.ModuleList(ConvNormAct(width, width, 3, stride=2) for _ in steps)
        self.bottom_up = nn.ModuleList(_fusion_block(config) for _ in steps)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Map the levels, fine to coarse, from [B, C, H, W] to [B, hidden_dim, H, W]."""
        levels = self._attend(self.input_proj(features))
        return self._fuse_bottom_up(self._fuse_top_down(levels)) if self.lateral else levels

    def _attend(self, levels: list[Tensor]) -> list[Tensor]:
        """Return the levels, of which some have been through attention."""
        levels = list(levels)
        for index, group in enumerate(self.groups):
            attention = self.intra[index % len(self.intra)]  # one, or one a group
            encoded = attention([levels[level] for level in group])
            for level, x in zip(group, encoded, strict=True):
                levels[level] = x
        return levels

    def _fuse_top_down(self, levels: list[Tensor]) -> list[Tensor]:
        """Hand down what coarser levels hold; return the levels, fine to coarse."""
        fused = [levels[-1]]  # coarse to fine
        for lateral, block, finer in zip(self.lateral, self.top_down, levels[-2::-1], strict=True):
            fused[-1] = lateral(fused[-1])
            enlarged = functional.interpolate(fused[-1], scale_factor=2.0, mode="nearest")
            fused.append(block(torch.cat((enlarged, finer), dim=1)))
        return fused[::-1]

    def _fuse_bottom_up(self, levels: list[Tensor]) -> list[Tensor]:
        """Hand up what finer levels hold; return the levels, fine to coarse."""
        fused = levels[:1]
        for downsample, block, coarser in zip(
            self.downsample, self.bottom_up, levels[1:], strict=True
        ):
            fused.append(block(torch.cat((downsample(fused[-1]), coarser), dim=1)))
        return fused


def _attention(config: HybridEncoderConfig) -> CellAttention:
    return CellAttention(
        EncoderLayer(config.hidden_dim, config.num_heads, config.feedforward_dim, config.dropout)
        for _ in range(config.num_layers)
    )


def _fusion_block(config: HybridEncoderConfig) -> FusionBlock:
    num_blocks = config.num_blocks if config.variant == "E" else 0
    width = config.hidden_dim
    return FusionBlock(2 * width, width, num_blocks, config.expand_ratio)
