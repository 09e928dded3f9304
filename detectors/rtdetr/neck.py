"""HybridEncoder, the neck of RT-DETR, and the variants that led to it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from detectors.layers import ConvNormAct, PerLevel
from detectors.rtdetr.config import LEVELS, HybridEncoderConfig
from detectors.rtdetr.encoder_layers import CellAttention, EncoderLayer, FusionBlock


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
        if len(in_channels) != len(LEVELS):
            raise ValueError(f"in_channels must name {len(LEVELS)} levels, got {in_channels}")
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
