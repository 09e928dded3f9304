"""CSPNeXt, the backbone of RTMDet."""

from __future__ import annotations

from torch import Tensor, nn

from detectors.backbones.cspnext_config import CSPNeXtConfig
from detectors.layers import SPP, ConvNormAct, CSPLayer, conv_norm_act


class CSPNeXt(nn.Module):
    """A stem of three convolutions and four stages, of which the last three are returned.

    Source: RTMDet, arXiv:2212.07784, sec. 3.2; open-mmlab/mmdetection v3.3.0
    mmdet/models/backbones/cspnext.py (Apache-2.0), equal in numbers
    (tests/detectors/test_rtmdet_golden.py).
    """

    def __init__(self, config: CSPNeXtConfig) -> None:
        super().__init__()
        width = config.stem_channels
        self.stem = nn.Sequential(
            ConvNormAct(3, width // 2, 3, stride=2),
            ConvNormAct(width // 2, width // 2, 3),
            ConvNormAct(width // 2, width, 3),
        )
        inputs = (width, *config.stage_channels[:-1])
        sizes = zip(inputs, config.stage_channels, config.stage_blocks, strict=True)
        self.stages = nn.ModuleList(
            _stage(config, *size, last=index == 3) for index, size in enumerate(sizes)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Return the features of strides 8, 16 and 32, each [B, C, H / stride, W / stride]."""
        x = self.stem(images)
        features = []
        for stage in self.stages:
            x = stage(x)
            features.append(x)
        return features[1:]


def _stage(
    config: CSPNeXtConfig, in_channels: int, out_channels: int, num_blocks: int, *, last: bool
) -> nn.Sequential:
    """Halve the map and refine it; the last stage pools first and its blocks add no input."""
    return nn.Sequential(
        conv_norm_act(in_channels, out_channels, 3, stride=2, depthwise=config.depthwise),
        *([SPP(out_channels)] if last else []),
        CSPLayer(
            out_channels,
            out_channels,
            num_blocks,
            kernel_size=config.kernel_size,
            expand_ratio=config.expand_ratio,
            identity=not last,
            attention=config.channel_attention,
            depthwise=config.depthwise,
        ),
    )
