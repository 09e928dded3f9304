"""Building blocks that several detectors share."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

PRIOR = 0.01  # score of every class before training

Activation = Literal["silu", "relu", "none"]


class FrozenBatchNorm2d(nn.Module):
    """Batch normalisation by fixed statistics, in the input's type also under autocast.

    Args:
        channels: of input and output.
        eps: added to the variance.

    Differs: torchvision's returns float32 whatever comes in, and so does all that follows; its
    import takes seconds, since it loads torch's compiler.
    """

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        for name, value in (("weight", 1), ("bias", 0), ("running_mean", 0), ("running_var", 1)):
            self.register_buffer(name, torch.full((channels,), float(value)))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        scale = self.weight * (self.running_var + self.eps).rsqrt()
        shift = self.bias - self.running_mean * scale
        return x * scale.to(x.dtype)[:, None, None] + shift.to(x.dtype)[:, None, None]


class ConvNormAct(nn.Module):
    """Convolution, batch normalisation and activation.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        kernel_size: side of the kernel.
        stride: of the convolution.
        groups: of the convolution.
        padding: on every side; none for half the kernel, which keeps the size up to the stride.
        activation: what follows the normalisation.
        frozen: whether the normalisation keeps its statistics and its affine terms in training.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        stride: int = 1,
        groups: int = 1,
        padding: int | None = None,
        activation: Activation = "silu",
        frozen: bool = False,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding=kernel_size // 2 if padding is None else padding,
            groups=groups,
            bias=False,
        )
        self.norm = FrozenBatchNorm2d(out_channels) if frozen else nn.BatchNorm2d(out_channels)
        self.act = activate(activation)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, out_channels, H / stride, W / stride]."""
        y: Tensor = self.act(self.norm(self.conv(x)))
        return y

    def fuse(self) -> nn.Module:
        """Return the same function with the normalisation folded into the convolution."""
        conv = fuse_conv_bn_eval(self.conv, cast(nn.BatchNorm2d, self.norm))
        return conv if isinstance(self.act, nn.Identity) else nn.Sequential(conv, self.act)


def activate(name: Activation) -> nn.Module:
    """Return the activation of that name, which may overwrite its input."""
    if name == "none":
        return nn.Identity()
    return nn.SiLU(inplace=True) if name == "silu" else nn.ReLU(inplace=True)


class DepthwiseSeparable(nn.Sequential):
    """A depth-wise and a point-wise convolution, each normalised and activated.

    Source: MobileNets, arXiv:1704.04861, sec. 3.1.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1
    ) -> None:
        super().__init__(
            ConvNormAct(in_channels, in_channels, kernel_size, stride=stride, groups=in_channels),
            ConvNormAct(in_channels, out_channels, 1),
        )


def conv_norm_act(
    in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, depthwise: bool
) -> nn.Module:
    """Return a convolution with normalisation and activation, depth-wise separable or ordinary."""
    block = DepthwiseSeparable if depthwise else ConvNormAct
    return block(in_channels, out_channels, kernel_size, stride=stride)


class CSPNeXtBlock(nn.Module):
    """A 3x3 convolution, then a depth-wise separable one with a large kernel.

    Args:
        channels: of the input and the output.
        kernel_size: of the second convolution.
        identity: whether the input is added.
        depthwise: whether the first convolution is depth-wise separable, too.

    Source: RTMDet, arXiv:2212.07784, sec. 3.2 and fig. 3.
    """

    def __init__(
        self, channels: int, kernel_size: int, *, identity: bool, depthwise: bool = False
    ) -> None:
        super().__init__()
        self.conv = conv_norm_act(channels, channels, 3, depthwise=depthwise)
        self.separable = DepthwiseSeparable(channels, channels, kernel_size)
        self.identity = identity

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        y: Tensor = self.separable(self.conv(x))
        return x + y if self.identity else y


class ChannelAttention(nn.Module):
    """Scale every channel by a gate that reads the means of all channels.

    Source: RTMDet, arXiv:2212.07784, sec. 3.2.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.conv = nn.Conv2d(channels, channels, 1)
        self.gate = nn.Hardsigmoid(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        scales: Tensor = self.gate(self.conv(self.pool(x)))
        return x * scales


class CSPLayer(nn.Module):
    """Send half of the channels through blocks, past which the other half goes.

    Args:
        in_channels: of the input.
        out_channels: of the output.
        num_blocks: blocks in the main branch.
        kernel_size: of the blocks' depth-wise convolution.
        expand_ratio: width of each branch, as a share of `out_channels`.
        identity: whether blocks add their input.
        attention: whether channel attention acts on the joined branches.
        depthwise: whether every convolution of the blocks is depth-wise separable.

    Source: CSPNet, arXiv:1911.11929, sec. 3.1, with the blocks of RTMDet, arXiv:2212.07784.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_blocks: int,
        *,
        kernel_size: int,
        expand_ratio: float,
        identity: bool = False,
        attention: bool = False,
        depthwise: bool = False,
    ) -> None:
        super().__init__()
        hidden = int(out_channels * expand_ratio)
        self.main = ConvNormAct(in_channels, hidden, 1)
        self.short = ConvNormAct(in_channels, hidden, 1)
        self.blocks = nn.Sequential(
            *(
                CSPNeXtBlock(hidden, kernel_size, identity=identity, depthwise=depthwise)
                for _ in range(num_blocks)
            )
        )
        self.attention = ChannelAttention(2 * hidden) if attention else nn.Identity()
        self.final = ConvNormAct(2 * hidden, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in_channels, H, W] to [B, out_channels, H, W]."""
        joined = torch.cat((self.blocks(self.main(x)), self.short(x)), dim=1)
        y: Tensor = self.final(self.attention(joined))
        return y


class SPP(nn.Module):
    """Join a map with its maxima over growing windows.

    Source: SPP, arXiv:1406.4729, as in YOLOv3-SPP: stride 1, the size is kept.
    """

    def __init__(self, channels: int, windows: tuple[int, ...] = (5, 9, 13)) -> None:
        super().__init__()
        hidden = channels // 2
        self.reduce = ConvNormAct(channels, hidden, 1)
        self.pools = nn.ModuleList(nn.MaxPool2d(size, 1, size // 2) for size in windows)
        self.final = ConvNormAct(hidden * (len(windows) + 1), channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        x = self.reduce(x)
        y: Tensor = self.final(torch.cat([x, *(pool(x) for pool in self.pools)], dim=1))
        return y


class PerLevel(nn.ModuleList):
    """Apply one module to every level of a pyramid, or to each level a module of its own."""

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Map the levels, fine to coarse, each [B, C, H, W]."""
        modules = [self[0]] * len(features) if len(self) == 1 else self
        return [module(x) for module, x in zip(modules, features, strict=True)]


class SepBN(nn.Module):
    """A convolution that all levels share, with each level's own normalisation; SiLU.

    Args:
        in_channels: of every level.
        out_channels: of every level.
        num_levels: levels that share the convolution.
        kernel_size: side of the kernel, odd.
        groups: of the convolution.

    Source: RTMDet, arXiv:2212.07784, sec. 3.2, after NAS-FPN's separate BN, arXiv:1904.07392.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        num_levels: int,
        *,
        kernel_size: int = 3,
        groups: int = 1,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            in_channels,
            out_channels,
            kernel_size,
            padding=kernel_size // 2,
            groups=groups,
            bias=False,
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(out_channels) for _ in range(num_levels))
        self.act = nn.SiLU(inplace=True)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Map levels, fine to coarse, from [B, in_channels, H, W] to [B, out_channels, H, W]."""
        pairs = zip(self.norms, features, strict=True)
        return [self.act(norm(self.conv(x))) for norm, x in pairs]

    def fuse(self) -> nn.Module:
        """Return the same function with a convolution a level and no normalisation."""
        norms = cast(Iterable[nn.BatchNorm2d], self.norms)
        return PerLevel(
            nn.Sequential(fuse_conv_bn_eval(self.conv, norm), self.act) for norm in norms
        )


def start_with_rare_classes(predictor: nn.Conv2d | nn.Linear) -> None:
    """Let the scores of a predictor start near `PRIOR`, which keeps the first loss small.

    Source: Focal Loss, arXiv:1708.02002, sec. 4.1.
    """
    if predictor.bias is None:
        raise ValueError("a predictor of classes needs a bias to start from")
    nn.init.constant_(predictor.bias, -math.log((1 - PRIOR) / PRIOR))
