"""RT-DETR: its config, the model, and the seven published variants.

Published at 640x640 with 80 classes. Parameters are those of the model as it is trained;
GFLOPs follow from `harness.measure.complexity.conventions`, which tells what the paper counted.

| name | parameters | GFLOPs |
| --- | --- | --- |
| rtdetr_r18 | 20184464 | 60 |
| rtdetr_r34 | 31441668 | 92 |
| rtdetr_r50_m | 36593772 | 100 |
| rtdetr_r50 | 42891372 | 136 |
| rtdetr_r101 | 76556268 | 259 |
| rtdetr_hgnetv2_l | 32925036 | 110 |
| rtdetr_hgnetv2_x | 67374188 | 234 |
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from detectors.backbones import hgnetv2, presnet
from detectors.backbones.cspnext import CSPNeXtConfig
from detectors.backbones.hgnetv2 import HGNetv2Config
from detectors.backbones.presnet import PResNetConfig
from detectors.interface import Detector, InputConfig, Target, as_float32
from detectors.matching import HungarianMatcher
from detectors.postprocess import TopKConfig
from detectors.queries import gather_objects
from detectors.rtdetr.criterion import RTDETRCriterionConfig
from detectors.rtdetr.denoising import make_noise
from detectors.rtdetr.head import RTDETRHead, RTDETRHeadConfig
from detectors.rtdetr.neck import HybridEncoderConfig
from detectors.rtdetr.weights import translate


@dataclass(frozen=True)
class RTDETRConfig:
    """Everything that makes one RT-DETR; the defaults are those of the published R50."""

    kind: ClassVar[str] = "detectors.rtdetr.detector.RTDETRConfig"
    size_divisor: ClassVar[int] = 32

    backbone: PResNetConfig | HGNetv2Config | CSPNeXtConfig = presnet.R50
    """Makes features of strides 8, 16 and 32. Swept by rtdetr/table2 and rtdetr/v1_hgnetv2."""
    neck: HybridEncoderConfig = HybridEncoderConfig()
    """Encodes and fuses the features."""
    head: RTDETRHeadConfig = RTDETRHeadConfig()
    """Selects queries and decodes them."""
    matcher: HungarianMatcher = HungarianMatcher()
    """Chooses, in training, the query that has to find each object."""
    criterion: RTDETRCriterionConfig = RTDETRCriterionConfig()
    """Weighs the losses."""
    postprocess: TopKConfig = TopKConfig()
    """Turns predictions into detections."""
    num_classes: int = 80
    """Object classes; follows the data set."""
    input: InputConfig = InputConfig(resize="stretch")
    """What the input looks like."""

    def __post_init__(self) -> None:
        """Refuse values that make no detector."""
        self.input.check_size(self.size_divisor)
        if self.num_classes < 1:
            raise ValueError("num_classes must be at least 1")

    def build(self) -> RTDETR:
        """Make the model, with freshly initialised weights."""
        return RTDETR(self)


class RTDETR(Detector):
    """A convolutional backbone, a hybrid encoder, and a decoder whose queries need no NMS.

    Source: RT-DETR, arXiv:2304.08069v3; lyuwenyu/RT-DETR@068dfde rtdetr_pytorch (Apache-2.0).
    Differs: a batch keeps its size in training, where upstream draws one of several.
    """

    head: RTDETRHead

    def __init__(self, config: RTDETRConfig) -> None:
        super().__init__()
        self.config = config
        self.backbone = config.backbone.build()
        self.neck = config.neck.build(config.backbone.channels)
        self.head = config.head.build(
            self.neck.out_channels, config.backbone.strides, config.num_classes
        )
        self.postprocess = config.postprocess.build()
        self.criterion = config.criterion.build(config.matcher)

    def losses(self, images: Tensor, targets: list[Target]) -> dict[str, Tensor]:
        """Compare every layer's predictions, and those of the denoising queries, with the objects.

        Args:
            images: [B, 3, H, W], normalised as `config.input` says.
            targets: one per image.

        Returns:
            `loss_cls`, `loss_bbox` and `loss_giou` of the last layer, and the same under a suffix:
            `_aux0` and on for the layers before, `_enc` for the selected tokens, `_dn0` and on
            for what each layer makes of the denoising queries. In float32, weighted.

        Raises:
            RuntimeError: the model came from `deploy()` and has no criterion.
        """
        criterion = self.require_criterion()
        objects = gather_objects(targets, (images.shape[2], images.shape[3]))
        noise = make_noise(objects, self.config.num_classes, self.config.head.denoising)
        outputs = self.head.train_outputs(self.neck(self.backbone(images)), noise)
        with torch.autocast(images.device.type, enabled=False):
            losses: dict[str, Tensor] = criterion(as_float32(outputs), objects, noise)
        return losses

    def translate(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a state dict with our keys; upstream's and Hugging Face's are known."""
        return translate(content, self.state_dict())


def _variant(
    backbone: PResNetConfig | HGNetv2Config,
    neck: HybridEncoderConfig,
    *,
    num_layers: int = 6,
    layers_used: int = 0,
) -> RTDETRConfig:
    head = RTDETRHeadConfig(num_layers=num_layers, layers_used=layers_used)
    return RTDETRConfig(backbone=backbone, neck=neck, head=head)


_SLIM = HybridEncoderConfig(expand_ratio=0.5)
_WIDE = HybridEncoderConfig(hidden_dim=384, feedforward_dim=2048)

R18 = _variant(presnet.R18, _SLIM, num_layers=3)
R34 = _variant(presnet.R34, _SLIM, num_layers=4)
R50_M = _variant(presnet.R50, _SLIM, layers_used=3)
R50 = _variant(presnet.R50, HybridEncoderConfig())
R101 = _variant(presnet.R101, _WIDE)
HGNETV2_L = _variant(hgnetv2.L, HybridEncoderConfig())
HGNETV2_X = _variant(hgnetv2.X, _WIDE)
