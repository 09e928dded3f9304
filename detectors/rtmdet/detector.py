"""RTMDet, the model: its four stages and its criterion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from detectors.interface import Detector, WeightsError
from detectors.rtmdet.config import RTMDetConfig
from detectors.rtmdet.exported import exported_convolutions
from detectors.rtmdet.weights import translate


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
