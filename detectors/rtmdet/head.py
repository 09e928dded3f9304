"""The head of RTMDet: two towers over every level, and decoding."""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from detectors.boxes import distances_to_boxes, grid_points
from detectors.interface import DenseOutputs
from detectors.layers import PerLevel, SepBN, conv_norm_act, start_with_rare_classes
from detectors.rtmdet.config import RTMDetHeadConfig


class RTMDetHead(nn.Module):
    """Predict classes and distances at every point of every level, without objectness.

    Source: RTMDet, arXiv:2212.07784, sec. 3.2 and fig. 2; open-mmlab/mmdetection v3.3.0
    mmdet/models/dense_heads/rtmdet_head.py (Apache-2.0), equal in numbers
    (tests/detectors/test_rtmdet_golden.py).
    """

    def __init__(
        self, config: RTMDetHeadConfig, channels: int, strides: tuple[int, ...], num_classes: int
    ) -> None:
        super().__init__()
        self.strides = strides
        self.exp_on_reg = config.exp_on_reg
        self.classify = Tower(config, channels, num_classes, len(strides))
        self.regress = Tower(config, channels, 4, len(strides))
        self._initialise()

    def forward(self, features: list[Tensor]) -> DenseOutputs:
        """Predict from levels, fine to coarse, each [B, channels, H, W]; boxes are float32."""
        sizes = [(x.shape[-2], x.shape[-1]) for x in features]
        points, strides = grid_points(sizes, self.strides, features[0].device)
        logits = self.classify(features)
        distances = self.regress(features).float()
        if self.exp_on_reg:
            distances = distances.exp()
        boxes = distances_to_boxes(points, distances * strides[:, None])
        return DenseOutputs(logits, boxes, points, strides)

    def _initialise(self) -> None:
        """Start with small weights and with scores near zero, which keeps the first loss small."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for predictor in self.classify.predict:
            start_with_rare_classes(cast(nn.Conv2d, predictor))


class Tower(nn.Module):
    """3x3 convolutions and a predictor, each of which maps all levels."""

    def __init__(
        self, config: RTMDetHeadConfig, channels: int, out_channels: int, num_levels: int
    ) -> None:
        super().__init__()
        copies = 1 if config.sharing == "shared" else num_levels

        def conv() -> nn.Module:
            if config.sharing == "sepbn":
                return _sepbn(channels, num_levels, depthwise=config.depthwise)
            return PerLevel(
                conv_norm_act(channels, channels, 3, depthwise=config.depthwise)
                for _ in range(copies)
            )

        self.convs = nn.Sequential(*(conv() for _ in range(config.stacked_convs)))
        self.predict = PerLevel(nn.Conv2d(channels, out_channels, 1) for _ in range(copies))

    def forward(self, features: list[Tensor]) -> Tensor:
        """Map levels [B, channels, H, W], fine to coarse, to [B, N, out_channels], row-major."""
        maps = self.predict(self.convs(features))
        return torch.cat([x.flatten(2).transpose(1, 2) for x in maps], dim=1)


def _sepbn(channels: int, num_levels: int, *, depthwise: bool) -> nn.Module:
    if not depthwise:
        return SepBN(channels, channels, num_levels)
    return nn.Sequential(
        SepBN(channels, channels, num_levels, groups=channels),
        SepBN(channels, channels, num_levels, kernel_size=1),
    )
