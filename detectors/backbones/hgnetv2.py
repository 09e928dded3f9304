"""HGNetv2, the backbone of RT-DETR-L and -X."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from detectors.backbones.hgnetv2_config import KERNEL_SIZES, HGNetv2Config
from detectors.layers import ConvNormAct

LIGHT = (False, False, True, True)  # stages whose layers are depth-wise separable


class HGNetv2(nn.Module):
    """A stem of two branches and four stages, of which the last three are returned.

    Convolutions start with He's normal initialisation (fan-in, ReLU), norms with the identity, as
    upstream's.

    Source: lyuwenyu/RT-DETR@068dfde rtdetr_paddle/ppdet/modeling/backbones/hgnet_v2.py
    (Apache-2.0); equal in numbers to Hugging Face's HGNetV2Backbone
    (tests/detectors/test_backbones.py).
    Differs: without the learnable affine block, which RT-DETR leaves out; a frozen stage's norms
    are frozen with it, while upstream updates their statistics unless all norms are frozen.
    """

    def __init__(self, config: HGNetv2Config) -> None:
        super().__init__()
        self.stem = HGStem(config)
        self.stages = nn.ModuleList(HGStage(config, index) for index in range(len(config.blocks)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        for part in (self.stem, *self.stages)[: config.parts_frozen]:
            part.requires_grad_(False)

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the features of strides 8, 16 and 32, each [B, C, H / stride, W / stride]."""
        x = self.stem(images)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features[1:]


class HGStem(nn.Module):
    """Shrink the image to a quarter, with a branch of maxima beside one of 2x2 convolutions.

    Maps are padded with zeros at the right and the bottom, so that 2x2 windows keep their size.
    """

    def __init__(self, config: HGNetv2Config) -> None:
        super().__init__()
        frozen = config.freezes_norms(0)
        mid, out = config.scaled_stem
        self.stem1 = ConvNormAct(3, mid, 3, stride=2, activation="relu", frozen=frozen)
        self.stem2a = ConvNormAct(mid, mid // 2, 2, padding=0, activation="relu", frozen=frozen)
        self.stem2b = ConvNormAct(mid // 2, mid, 2, padding=0, activation="relu", frozen=frozen)
        self.pool = nn.MaxPool2d(2, 1)
        self.stem3 = ConvNormAct(2 * mid, mid, 3, stride=2, activation="relu", frozen=frozen)
        self.stem4 = ConvNormAct(mid, out, 1, activation="relu", frozen=frozen)

    def forward(self, images: Tensor) -> Tensor:
        """Map [B, 3, H, W] to [B, C, H / 4, W / 4]."""
        x = _pad(self.stem1(images))
        y = self.stem2b(_pad(self.stem2a(x)))
        z: Tensor = self.stem4(self.stem3(torch.cat((self.pool(x), y), dim=1)))
        return z


class HGStage(nn.Module):
    """Blocks, in front of which all stages but the first halve the map."""

    def __init__(self, config: HGNetv2Config, index: int) -> None:
        super().__init__()
        channels = _in_channels(config, index)
        self.downsample = (
            nn.Identity()
            if index == 0
            else ConvNormAct(
                channels,
                channels,
                3,
                stride=2,
                groups=channels,
                activation="none",
                frozen=config.freezes_norms(index + 1),
            )
        )
        self.blocks = nn.Sequential(
            *(HGBlock(config, index, first=number == 0) for number in range(config.blocks[index]))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in_channels, H, W] to [B, out_channels, ceil(H / 2), ceil(W / 2)]."""
        y: Tensor = self.blocks(self.downsample(x))
        return y


class HGBlock(nn.Module):
    """Layers in a row, whose input and outputs are joined and mixed by two 1x1 convolutions.

    All blocks of a stage but the first add their input to the result.
    """

    def __init__(self, config: HGNetv2Config, index: int, *, first: bool) -> None:
        super().__init__()
        frozen = config.freezes_norms(index + 1)
        mid, out = config.scaled_mid[index], config.scaled_stages[index]
        in_channels = _in_channels(config, index) if first else out
        widths = (in_channels,) + (mid,) * config.layers_per_block  # of the maps that are joined
        layer = LightLayer if LIGHT[index] else _layer
        self.layers = nn.ModuleList(
            layer(width, mid, KERNEL_SIZES[index], frozen=frozen) for width in widths[:-1]
        )
        self.aggregation = nn.Sequential(
            _layer(sum(widths), out // 2, 1, frozen=frozen), _layer(out // 2, out, 1, frozen=frozen)
        )
        self.identity = not first

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in_channels, H, W] to [B, out_channels, H, W]."""
        maps = [x]
        for layer in self.layers:
            maps.append(layer(maps[-1]))
        y: Tensor = self.aggregation(torch.cat(maps, dim=1))
        return x + y if self.identity else y


class LightLayer(nn.Module):
    """A 1x1 convolution without activation, then a depth-wise one with ReLU."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, frozen: bool
    ) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(in_channels, out_channels, 1, activation="none", frozen=frozen)
        self.conv2 = ConvNormAct(
            out_channels,
            out_channels,
            kernel_size,
            groups=out_channels,
            activation="relu",
            frozen=frozen,
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in_channels, H, W] to [B, out_channels, H, W]."""
        y: Tensor = self.conv2(self.conv1(x))
        return y


def _layer(in_channels: int, out_channels: int, kernel_size: int, *, frozen: bool) -> nn.Module:
    return ConvNormAct(in_channels, out_channels, kernel_size, activation="relu", frozen=frozen)


def _in_channels(config: HGNetv2Config, index: int) -> int:
    """Return the channels of a stage's input."""
    return (config.scaled_stem[-1], *config.scaled_stages)[index]


def _pad(x: Tensor) -> Tensor:
    return functional.pad(x, (0, 1, 0, 1))
