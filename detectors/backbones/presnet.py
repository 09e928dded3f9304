"""PResNet, the ResNet-vd that is RT-DETR's backbone."""

from __future__ import annotations

from typing import cast

from torch import Tensor, nn

from detectors.backbones.presnet_config import EXPANSION, PResNetConfig
from detectors.layers import ConvNormAct


class PResNet(nn.Module):
    """A stem of three convolutions and four residual stages, of which the last three are returned.

    Convolutions start with He's normal initialisation (fan-in, ReLU), norms with the identity;
    where norms are frozen, a block's last convolution starts smaller, so that sums don't overflow.

    Source: Bag of Tricks, arXiv:1812.01187, sec. 4 (ResNet-D); lyuwenyu/RT-DETR@068dfde
    rtdetr_pytorch/src/nn/backbone/presnet.py (Apache-2.0), equal in numbers
    (tests/detectors/test_rtdetr_golden.py).
    Differs: upstream leaves convolutions as torch initialises them; a frozen stage's norms are
    frozen with it, while upstream updates their statistics unless all norms are frozen.
    """

    def __init__(self, config: PResNetConfig) -> None:
        super().__init__()
        self.stem = _stem(config)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.stages = nn.ModuleList(_stage(config, index) for index in range(len(config.blocks)))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if config.all_norms_frozen:
            self._damp()
        for part in (self.stem, *self.stages)[: config.parts_frozen]:
            part.requires_grad_(False)

    def _damp(self) -> None:
        """Shrink what blocks add, which no norm scales before weights are loaded."""
        for stage in self.stages:
            blocks = cast(nn.Sequential, stage)
            for block in blocks:
                last = cast(ConvNormAct, block.conv3 if hasattr(block, "conv3") else block.conv2)
                last.conv.weight.data *= len(blocks) ** -0.5

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the features of strides 8, 16 and 32, each [B, C, H / stride, W / stride]."""
        x = self.pool(self.stem(images))
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features[1:]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions past which the input goes.

    Args:
        in_channels: of the input.
        width: channels of the convolutions.
        stride: of the first convolution.
        projected: whether a convolution fits the input's shape to the output's.
        frozen: whether the norms are.

    Source: ResNet, arXiv:1512.03385, fig. 5; the shortcut of Bag of Tricks, arXiv:1812.01187,
    sec. 4.1, averages before it projects.
    """

    def __init__(
        self, in_channels: int, width: int, *, stride: int, projected: bool, frozen: bool
    ) -> None:
        super().__init__()
        self.conv1 = ConvNormAct(
            in_channels, width, 3, stride=stride, activation="relu", frozen=frozen
        )
        self.conv2 = ConvNormAct(width, width, 3, activation="none", frozen=frozen)
        self.pool = _pool(stride)
        self.short = _project(in_channels, width, frozen) if projected else nn.Identity()
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in_channels, H, W] to [B, width, ceil(H / stride), ceil(W / stride)]."""
        y: Tensor = self.conv2(self.conv1(x))
        y += self.short(self.pool(x))
        z: Tensor = self.act(y)
        return z


class Bottleneck(nn.Module):
    """A 1x1, a 3x3 and a 1x1 convolution past which the input goes.

    Args:
        in_channels: of the input.
        width: channels of the first two convolutions, a quarter of the output's.
        stride: of the 3x3 convolution.
        projected: whether a convolution fits the input's shape to the output's.
        frozen: whether the norms are.

    Source: ResNet, arXiv:1512.03385, fig. 5; stride and shortcut of Bag of Tricks,
    arXiv:1812.01187, sec. 4.1.
    """

    def __init__(
        self, in_channels: int, width: int, *, stride: int, projected: bool, frozen: bool
    ) -> None:
        super().__init__()
        channels = width * EXPANSION["bottleneck"]
        self.conv1 = ConvNormAct(in_channels, width, 1, activation="relu", frozen=frozen)
        self.conv2 = ConvNormAct(width, width, 3, stride=stride, activation="relu", frozen=frozen)
        self.conv3 = ConvNormAct(width, channels, 1, activation="none", frozen=frozen)
        self.pool = _pool(stride)
        self.short = _project(in_channels, channels, frozen) if projected else nn.Identity()
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in_channels, H, W] to [B, 4 * width, ceil(H / stride), ceil(W / stride)]."""
        y: Tensor = self.conv3(self.conv2(self.conv1(x)))
        y += self.short(self.pool(x))
        z: Tensor = self.act(y)
        return z


BLOCKS: dict[str, type[BasicBlock] | type[Bottleneck]] = {
    "basic": BasicBlock,
    "bottleneck": Bottleneck,
}


def _stem(config: PResNetConfig) -> nn.Sequential:
    """Halve the image with the first of three 3x3 convolutions."""
    frozen = config.freezes_norms(0)
    first, second, third = config.stem_channels
    return nn.Sequential(
        ConvNormAct(3, first, 3, stride=2, activation="relu", frozen=frozen),
        ConvNormAct(first, second, 3, activation="relu", frozen=frozen),
        ConvNormAct(second, third, 3, activation="relu", frozen=frozen),
    )


def _stage(config: PResNetConfig, index: int) -> nn.Sequential:
    """Make the blocks of a stage; the first projects, and halves the map but in the first stage."""
    block, width = BLOCKS[config.block], config.widths[index]
    in_channels = (config.stem_channels[-1], *config.stage_channels)[index]
    out_channels = config.stage_channels[index]
    stride = 1 if index == 0 else 2
    frozen = config.freezes_norms(index + 1)
    return nn.Sequential(
        block(in_channels, width, stride=stride, projected=True, frozen=frozen),
        *(
            block(out_channels, width, stride=1, projected=False, frozen=frozen)
            for _ in range(config.blocks[index] - 1)
        ),
    )


def _pool(stride: int) -> nn.Module:
    """Return what shrinks the shortcut as the convolutions shrink the main branch."""
    return nn.Identity() if stride == 1 else nn.AvgPool2d(stride, stride, ceil_mode=True)


def _project(in_channels: int, out_channels: int, frozen: bool) -> ConvNormAct:
    return ConvNormAct(in_channels, out_channels, 1, activation="none", frozen=frozen)
