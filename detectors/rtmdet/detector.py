"""RTMDet: its config, the model, the five published sizes, and the nano that finds persons.

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

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from detectors.assigners import AnyAssigner, DynamicSoftLabel
from detectors.backbones.cspnext import CSPNeXtConfig
from detectors.interface import Detector, InputConfig, WeightsError
from detectors.postprocess import NMSConfig
from detectors.rtmdet.criterion import RTMDetCriterionConfig
from detectors.rtmdet.exported import exported_convolutions
from detectors.rtmdet.head import RTMDetHeadConfig
from detectors.rtmdet.neck import CSPNeXtPAFPNConfig
from detectors.rtmdet.weights import translate

INPUT = InputConfig(mean=(103.53, 116.28, 123.675), std=(57.375, 57.12, 58.395), channels="bgr")


@dataclass(frozen=True)
class RTMDetConfig:
    """Everything that makes one RTMDet; the defaults are those of the published l."""

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

    def build(self) -> RTMDet:
        """Make the model, with freshly initialised weights."""
        return RTMDet(self)


class RTMDet(Detector):
    """CSPNeXt, CSPNeXtPAFPN, a head whose levels share convolutions, and NMS.

    Source: RTMDet, arXiv:2212.07784; open-mmlab/mmdetection v3.3.0 configs/rtmdet (Apache-2.0).
    """

    def __init__(self, config: RTMDetConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = config.backbone.build()
        self.neck = config.neck.build(config.backbone.channels)
        self.head = config.head.build(
            self.neck.out_channels, config.backbone.strides, config.num_classes
        )
        self.postprocess = config.postprocess.build()
        self.criterion = config.criterion.build(config.assigner)

    def translate(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a state dict with our keys; mmdetection's are known."""
        return translate(content)

    def exported_convolutions(self) -> list[str]:
        """Return the names of the convolutions in the order of mmdeploy's graph."""
        head = self.config.head
        if head.sharing != "separate":
            raise WeightsError(
                "an exported RTMDet has no shared convolutions any more, since each level's norm"
                " was folded into its own: set head.sharing to separate"
            )
        return exported_convolutions(self, head.stacked_convs)


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
