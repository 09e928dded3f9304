"""CSPNeXtPAFPN, the neck of RTMDet."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from detectors.layers import ConvNormAct, CSPLayer, PerLevel, conv_norm_act
from detectors.rtmdet.config import CSPNeXtPAFPNConfig


class CSPNeXtPAFPN(nn.Module):
    """Fuse the levels from coarse to fine, then from fine to coarse, and make them equally wide.

    Source: RTMDet, arXiv:2212.07784, sec. 3.2, after PANet, arXiv:1803.01534;
    open-mmlab/mmdetection v3.3.0 mmdet/models/necks/cspnext_pafpn.py (Apache-2.0), equal in
    numbers (tests/detectors/test_rtmdet_golden.py).
    """

    def __init__(self, config: CSPNeXtPAFPNConfig, in_channels: tuple[int, ...]) -> None:
        super().__init__()
        self.out_channels = config.out_channels or in_channels[0]
        steps = list(zip(in_channels, in_channels[1:], strict=False))  # (fine, coarse)
        self.reduce = nn.ModuleList(ConvNormAct(coarse, fine, 1) for fine, coarse in steps)
        self.top_down = nn.ModuleList(_layer(config, 2 * fine, fine) for fine, _ in steps)
        self.downsample = nn.ModuleList(
            conv_norm_act(fine, fine, 3, stride=2, depthwise=config.depthwise) for fine, _ in steps
        )
        self.bottom_up = nn.ModuleList(_layer(config, 2 * fine, coarse) for fine, coarse in steps)
        self.out = PerLevel(
            conv_norm_act(width, self.out_channels, 3, depthwise=config.depthwise)
            for width in in_channels
        )

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Map the levels, fine to coarse, from [B, C, H, W] to [B, out_channels, H, W]."""
        finest, reduced = self._fuse_top_down(features)
        levels = [finest]
        for downsample, layer, lateral in zip(
            self.downsample, self.bottom_up, reduced, strict=True
        ):
            levels.append(layer(torch.cat((downsample(levels[-1]), lateral), dim=1)))
        widened: list[Tensor] = self.out(levels)
        return widened

    def _fuse_top_down(self, features: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Return the finest level, fused, and every coarser one at its finer neighbour's width."""
        x = features[-1]
        reduced: list[Tensor] = []
        for index in reversed(range(len(features) - 1)):
            x = self.reduce[index](x)
            reduced.insert(0, x)
            enlarged = functional.interpolate(x, scale_factor=2.0, mode="nearest")
            x = self.top_down[index](torch.cat((enlarged, features[index]), dim=1))
        return x, reduced


def _layer(config: CSPNeXtPAFPNConfig, in_channels: int, out_channels: int) -> CSPLayer:
    return CSPLayer(
        in_channels,
        out_channels,
        config.num_blocks,
        kernel_size=config.kernel_size,
        expand_ratio=config.expand_ratio,
        depthwise=config.depthwise,
    )
