"""Parts of the hybrid encoder: attention over cells, and blocks that fuse two levels."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from detectors.layers import ConvNormAct

TEMPERATURE = 10000.0  # ratio of the longest to the shortest wavelength, nearly


def encode_positions(height: int, width: int, channels: int, device: torch.device) -> Tensor:
    """Return sines and cosines of every cell's row and column.

    Args:
        height: rows of the map.
        width: columns of the map.
        channels: of the result, a multiple of 4: sines and cosines of the row, then of the column.
        device: where the tensor is made.

    Returns:
        [H*W, channels] in [-1, 1], row-major; float32.

    Source: Attention Is All You Need, arXiv:1706.03762, sec. 3.5, for two axes as in
    lyuwenyu/RT-DETR@068dfde rtdetr_pytorch/src/zoo/rtdetr/hybrid_encoder.py (Apache-2.0).
    Differs: upstream lists the cells column by column, which suits square maps only; for those the
    values are equal. Hugging Face's are equal for all maps.
    """
    quarter = channels // 4
    exponents = torch.arange(quarter, device=device, dtype=torch.float32) / quarter
    frequencies = 1.0 / TEMPERATURE**exponents

    def encode(length: int) -> Tensor:
        steps = torch.arange(length, device=device, dtype=torch.float32)
        angles = steps[:, None] * frequencies
        return torch.cat((angles.sin(), angles.cos()), dim=1)  # [length, channels / 2]

    rows = encode(height)[:, None].expand(height, width, -1)
    columns = encode(width)[None].expand(height, width, -1)
    return torch.cat((rows, columns), dim=-1).flatten(0, 1)


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward network, each normalised after its input is added.

    Source: DETR, arXiv:2005.12872, app. A.3, which gives positions to queries and keys only;
    with the GELU of lyuwenyu/RT-DETR@068dfde rtdetr_pytorch/src/zoo/rtdetr/hybrid_encoder.py
    (Apache-2.0).
    """

    def __init__(self, channels: int, num_heads: int, feedforward_dim: int, dropout: float) -> None:
        super().__init__()
        self.self_attn = nn.MultiheadAttention(channels, num_heads, dropout, batch_first=True)
        self.norm1 = nn.LayerNorm(channels)
        self.linear1 = nn.Linear(channels, feedforward_dim)
        self.linear2 = nn.Linear(feedforward_dim, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """Map tokens [B, N, C], whose positions are [N, C], to the same shape."""
        placed = tokens + positions
        attended, _ = self.self_attn(placed, placed, tokens, need_weights=False)
        tokens = self.norm1(tokens + self.dropout(attended))
        hidden = self.dropout(functional.gelu(self.linear1(tokens)))
        y: Tensor = self.norm2(tokens + self.dropout(self.linear2(hidden)))
        return y


class CellAttention(nn.ModuleList):
    """Layers in which all cells of the given maps attend to each other."""

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        """Map one or more levels, each [B, C, H, W], to the same shapes."""
        sizes = [(x.shape[-2], x.shape[-1]) for x in maps]
        tokens = torch.cat([x.flatten(2) for x in maps], dim=2).transpose(1, 2)  # [B, N, C]
        channels, device = tokens.shape[-1], tokens.device
        positions = torch.cat([encode_positions(h, w, channels, device) for h, w in sizes])
        positions = positions.to(tokens.dtype)
        for layer in self:
            tokens = layer(tokens, positions)
        parts = torch.split(tokens.transpose(1, 2), [h * w for h, w in sizes], dim=2)
        return [part.reshape(x.shape) for part, x in zip(parts, maps, strict=True)]


class RepVGGBlock(nn.Module):
    """The sum of a 3x3 and a 1x1 convolution, which become one after training; SiLU.

    Source: RepVGG, arXiv:2101.03697, sec. 3, without its identity branch, as in
    lyuwenyu/RT-DETR@068dfde rtdetr_pytorch/src/zoo/rtdetr/hybrid_encoder.py (Apache-2.0).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.dense = ConvNormAct(channels, channels, 3, activation="none")
        self.point = ConvNormAct(channels, channels, 1, activation="none")
        self.act = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        y: Tensor = self.act(self.dense(x) + self.point(x))
        return y

    def fuse(self) -> nn.Module:
        """Return the same function with one 3x3 convolution and no normalisation."""
        conv, point = (
            fuse_conv_bn_eval(part.conv, cast(nn.BatchNorm2d, part.norm))
            for part in (self.dense, self.point)
        )
        with torch.no_grad():
            conv.weight.add_(functional.pad(point.weight, (1, 1, 1, 1)))  # at the kernel's centre
            cast(Tensor, conv.bias).add_(cast(Tensor, point.bias))
        return nn.Sequential(conv, self.act)


class FusionBlock(nn.Module):
    """Send the joined levels through RepVGG blocks, and past them, and add the two.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        num_blocks: RepVGG blocks in the main branch.
        expand_ratio: width of both branches, as a share of `out_channels`; where it is not 1, a
            1x1 convolution restores the width.

    Source: RT-DETR, arXiv:2304.08069v3, sec. 4.2 and the figure of the fusion block;
    lyuwenyu/RT-DETR@068dfde rtdetr_pytorch/src/zoo/rtdetr/hybrid_encoder.py (Apache-2.0).
    """

    def __init__(
        self, in_channels: int, out_channels: int, num_blocks: int, expand_ratio: float
    ) -> None:
        super().__init__()
        hidden = int(out_channels * expand_ratio)
        self.main = ConvNormAct(in_channels, hidden, 1)
        self.short = ConvNormAct(in_channels, hidden, 1)
        self.blocks = nn.Sequential(*(RepVGGBlock(hidden) for _ in range(num_blocks)))
        same = hidden == out_channels
        self.final = nn.Identity() if same else ConvNormAct(hidden, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in_channels, H, W] to [B, out_channels, H, W]."""
        y: Tensor = self.final(self.blocks(self.main(x)) + self.short(x))
        return y
