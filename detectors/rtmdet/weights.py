"""How the keys of RTMDet's released weights become ours."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor

from detectors.interface import WeightsError

DROPPED = ("data_preprocessor.",)
"""Prefixes of keys that are left out: mean and deviation of the input stand in the config."""

RENAMES = [
    (r"\.bn\.", r".norm."),
    (r"^backbone\.stage4\.1\.conv1\.", r"backbone.stage4.1.reduce."),
    (r"^backbone\.stage4\.1\.conv2\.", r"backbone.stage4.1.final."),
    (r"^backbone\.stage1\.", r"backbone.stages.0."),
    (r"^backbone\.stage2\.", r"backbone.stages.1."),
    (r"^backbone\.stage3\.", r"backbone.stages.2."),
    (r"^backbone\.stage4\.", r"backbone.stages.3."),
    (r"\.(main|short|final)_conv\.", r".\1."),
    (r"\.attention\.fc\.", r".attention.conv."),
    (r"\.blocks\.(\d+)\.conv1\.", r".blocks.\1.conv."),
    (r"\.conv2\.depthwise_conv\.", r".separable.0."),
    (r"\.conv2\.pointwise_conv\.", r".separable.1."),
    (r"^bbox_head\.(cls|reg)_convs\.(\d+)\.(\d+)\.(d|p)", r"head.\1.convs.\3.\2.\4"),
    (r"\.depthwise_conv\.", r".0."),  # of nano
    (r"\.pointwise_conv\.", r".1."),
    (r"^neck\.reduce_layers\.0\.", r"neck.reduce.1."),  # upstream counts these from coarse to fine
    (r"^neck\.reduce_layers\.1\.", r"neck.reduce.0."),
    (r"^neck\.top_down_blocks\.0\.", r"neck.top_down.1."),
    (r"^neck\.top_down_blocks\.1\.", r"neck.top_down.0."),
    (r"^neck\.downsamples\.", r"neck.downsample."),
    (r"^neck\.bottom_up_blocks\.", r"neck.bottom_up."),
    (r"^neck\.out_convs\.", r"neck.out."),
    (r"^bbox_head\.(cls|reg)_convs\.\d+\.(\d+)\.conv\.", r"head.\1.convs.\2.conv."),
    (r"^bbox_head\.(cls|reg)_convs\.(\d+)\.(\d+)\.norm\.", r"head.\1.convs.\3.norms.\2."),
    (r"^bbox_head\.rtm_(cls|reg)\.", r"head.\1.predict."),
    (r"^head\.cls\.", r"head.classify."),
    (r"^head\.reg\.", r"head.regress."),
]
"""Upstream's names and ours, applied one after the other."""


def translate(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a state dict with our keys.

    Args:
        content: a state dict with our keys or upstream's.

    Raises:
        WeightsError: the levels of the head hold different weights where they should share them.
    """
    ours: dict[str, Any] = {}
    for key, value in content.items():
        if key.startswith(DROPPED):
            continue
        name = rename(key)
        if name in ours and not _equal(ours[name], value):
            raise WeightsError(f"{key}: differs from the other levels' weights, which are shared")
        ours[name] = value
    return ours


@cache
def rename(key: str) -> str:
    """Return our name of upstream's key; the three levels' shared convolutions get one name."""
    for pattern, replacement in RENAMES:
        key = re.sub(pattern, replacement, key)
    return key


def _equal(one: Any, other: Any) -> bool:
    return isinstance(one, Tensor) and isinstance(other, Tensor) and torch.equal(one, other)
