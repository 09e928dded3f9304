"""RTMDet's knobs: all its configs, the five published sizes, and the nano that finds persons.

Published at 640x640 with 80 classes; parameters and multiply-accumulates of convolutions:

| name | parameters | macs |
| --- | --- | --- |
| rtmdet_tiny | 4896168 | 8036087040 |
| rtmdet_s | 8886924 | 14760693760 |
| rtmdet_m | 24709188 | 39066485760 |
| rtmdet_l | 52315804 | 79898787840 |
| rtmdet_x | 94855572 | 141189760000 |

The nano is no size of the paper. It was released at 320x320 for one class, person; here it has 80
classes like the others until a data set or weights say how many there are.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from detectors.assigners import AnyAssigner, DynamicSoftLabel
from detectors.backbones.cspnext_config import CSPNeXtConfig
from detectors.config import added_later
from detectors.contract import Built, InputConfig
from detectors.postprocess_config import NMSConfig

INPUT = InputConfig(mean=(103.53, 116.28, 123.675), std=(57.375, 57.12, 58.395), channels="bgr")


@dataclass(frozen=True)
class CSPNeXtPAFPNConfig(Built):
    """Depth and width of CSPNeXtPAFPN."""

    makes: ClassVar[str] = "detectors.rtmdet.neck:CSPNeXtPAFPN"

    num_blocks: int = 3
    """Blocks in each of its four layers. Swept with the sizes by rtmdet/table2."""
    expand_ratio: float = 0.5
    """Width of each branch of a layer as a share of its output. Swept by rtmdet/table5c_balance."""
    kernel_size: int = 5
    """Side of the depth-wise kernels, odd. Swept with the backbone's by rtmdet/table5a_kernel."""
    out_channels: int | None = None
    """Channels of every level that leaves the neck; none for those of the finest that enters."""
    depthwise: bool = added_later(default=False)
    """Whether every 3x3 convolution is depth-wise separable, as in the released nano; in no
    published table."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        if self.num_blocks < 1 or self.expand_ratio <= 0:
            raise ValueError("num_blocks must be at least 1 and expand_ratio above 0")
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ValueError("kernel_size must be odd and at least 1")
        if self.out_channels is not None and self.out_channels < 1:
            raise ValueError("out_channels must be at least 1, or none")


@dataclass(frozen=True)
class RTMDetHeadConfig(Built):
    """Depth and sharing of the head; its width is the neck's."""

    makes: ClassVar[str] = "detectors.rtmdet.head:RTMDetHead"

    sharing: Literal["shared", "separate", "sepbn"] = "sepbn"
    """What the levels share: everything, nothing, or the 3x3 convolutions but not their
    normalisation nor the predictors. Swept by rtmdet/table5d_head."""
    stacked_convs: int = 2
    """3x3 convolutions in front of each predictor; in no published table."""
    exp_on_reg: bool = True
    """Whether distances are the exponential of what is predicted; the published tiny and s do
    without. In no published table of its own."""
    depthwise: bool = added_later(default=False)
    """Whether every 3x3 convolution is depth-wise separable, as in the released nano; in no
    published table."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        if self.stacked_convs < 0:
            raise ValueError("stacked_convs must not be negative")


@dataclass(frozen=True)
class RTMDetCriterionConfig(Built):
    """Weights of the losses; in no published table."""

    makes: ClassVar[str] = "detectors.rtmdet.criterion:RTMDetCriterion"

    cls_weight: float = 1.0
    """Weight of `loss_cls`."""
    giou_weight: float = 2.0
    """Weight of `loss_giou`."""
    beta: float = 2.0
    """Exponent of the quality focal loss: how much less a score counts that is right already."""

    labels: Literal["overlap", "one"] = "overlap"
    """A positive's wanted score, and how much its box counts: its overlap with the object, or one,
    as most assigners were published with that don't look at predictions."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        if min(self.cls_weight, self.giou_weight, self.beta) < 0:
            raise ValueError("weights and beta must not be negative")


@dataclass(frozen=True)
class RTMDetConfig(Built):
    """Everything that makes one RTMDet; the defaults are those of the published l."""

    makes: ClassVar[str] = "detectors.rtmdet.detector:RTMDet"
    kind: ClassVar[str] = "detectors.rtmdet.detector.RTMDetConfig"
    size_divisor: ClassVar[int] = 32

    backbone: CSPNeXtConfig = CSPNeXtConfig()
    """Makes features of strides 8, 16 and 32."""
    neck: CSPNeXtPAFPNConfig = CSPNeXtPAFPNConfig()
    """Fuses the features."""
    head: RTMDetHeadConfig = RTMDetHeadConfig()
    """Predicts classes and boxes."""
    assigner: AnyAssigner = DynamicSoftLabel()
    """Chooses, in training, the predictions that have to find an object."""
    criterion: RTMDetCriterionConfig = RTMDetCriterionConfig()
    """Weighs the losses."""
    postprocess: NMSConfig = NMSConfig()
    """Turns predictions into detections."""
    num_classes: int = 80
    """Object classes; follows the data set."""
    input: InputConfig = INPUT
    """What the input looks like."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        self.input.check_size(self.size_divisor)
        if self.num_classes < 1:
            raise ValueError("num_classes must be at least 1")


def _scaled(depth: float, width: float, neck_blocks: int, *, exp_on_reg: bool) -> RTMDetConfig:
    return RTMDetConfig(
        backbone=CSPNeXtConfig(depth_mult=depth, width_mult=width),
        neck=CSPNeXtPAFPNConfig(num_blocks=neck_blocks),
        head=RTMDetHeadConfig(exp_on_reg=exp_on_reg),
    )


NANO = RTMDetConfig(
    backbone=CSPNeXtConfig(depth_mult=0.33, width_mult=0.25, depthwise=True),
    neck=CSPNeXtPAFPNConfig(num_blocks=1, depthwise=True),
    head=RTMDetHeadConfig(sharing="separate", exp_on_reg=False, depthwise=True),
    input=replace(INPUT, size=(320, 320)),
)
"""Source: open-mmlab/mmpose @a5988472 projects/rtmpose/rtmdet/person/
rtmdet_nano_320-8xb32_coco-person.py (Apache-2.0)."""
TINY = _scaled(0.167, 0.375, 1, exp_on_reg=False)
S = _scaled(0.33, 0.5, 1, exp_on_reg=False)
M = _scaled(0.67, 0.75, 2, exp_on_reg=True)
L = _scaled(1.0, 1.0, 3, exp_on_reg=True)
X = _scaled(1.33, 1.25, 4, exp_on_reg=True)
