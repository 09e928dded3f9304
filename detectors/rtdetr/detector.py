"""RT-DETR, the model: its four stages and its criterion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from detectors.interface import Detector, QueryOutputs, Target, as_float32
from detectors.queries import gather_objects
from detectors.rtdetr.config import RTDETRConfig
from detectors.rtdetr.denoising import make_noise
from detectors.rtdetr.head import RTDETRHead
from detectors.rtdetr.weights import translate


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

    def selected(self, images: Tensor) -> QueryOutputs:
        """Return what the encoder predicts of the cells that become queries, best first.

        Args:
            images: [B, 3, H, W], normalised as `config.input` says.
        """
        return self.head.selected(self.neck(self.backbone(images)))

    def translate(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a state dict with our keys; upstream's and Hugging Face's are known."""
        return translate(content, self.state_dict())
