"""Torchvision's detectors as networks of one stage, without what they do to photographs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torchvision.models import detection, get_model_weights
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FrozenBatchNorm2d

from detectors.interface import Detections
from harness.adapters.model import ForeignDetector, ReadyOutputs
from harness.adapters.torchvision.config import COCO_LABELS, TorchvisionConfig
from harness.adapters.torchvision.suppression import PartedOutputs

PREFIX = "network.model."
COUNTER = ".num_batches_tracked"


class TorchvisionDetector(ForeignDetector):
    """A detector that torchvision builds, with random weights until others are loaded."""

    config: TorchvisionConfig

    def __init__(self, config: TorchvisionConfig) -> None:
        super().__init__()
        self.config = config
        model = build(config)
        self.network = _NETWORKS[config.family](model)
        self.postprocess = config.postprocess.build()

    @torch.no_grad()
    def detect(self, images: Tensor, sizes: Tensor) -> list[Detections]:
        """Find objects; a two-stage network is told how large the photographs are.

        Without that, as where it is timed, its proposals may reach into the padding.
        """
        outputs = self.network(images, sizes) if self.config.family == "two_stage" else self(images)
        found: list[Detections] = self.postprocess(outputs, sizes)
        return found

    def translate(self, content: Mapping[str, Any]) -> Mapping[str, Any]:
        """Return a state dict with this detector's keys; torchvision's lack what stands before."""
        if any(key.startswith(PREFIX) for key in content):
            return content
        return {f"{PREFIX}{key}": value for key, value in content.items()}

    def upstream_classes(self, count: int | None) -> tuple[str, ...] | None:
        """Return the names of labels that torchvision's weights have: COCO's ids, gaps included."""
        if count != COCO_LABELS:
            return None
        return tuple(get_model_weights(self.config.model)["COCO_V1"].meta["categories"])


def build(config: TorchvisionConfig) -> nn.Module:
    """Build torchvision's own model; nothing is downloaded."""
    inside = config.inside
    settings = (
        {
            "box_score_thresh": inside.score_threshold,
            "box_nms_thresh": inside.iou_threshold,
            "box_detections_per_img": inside.max_detections,
            "rpn_pre_nms_top_n_test": inside.proposals,
            "rpn_post_nms_top_n_test": inside.proposals,
        }
        if config.family == "two_stage"
        else {}
    )
    make = getattr(detection, config.model)
    model: nn.Module = make(
        weights=None, weights_backbone=None, num_classes=config.num_classes, **settings
    )
    if config.norm_eps is not None:
        _freeze_norms(model, config.norm_eps)
    return model


def _freeze_norms(module: nn.Module, eps: float) -> None:
    """Put norms that do not learn in the place of others, as under released weights."""
    for name, child in module.named_children():
        if isinstance(child, nn.BatchNorm2d):
            setattr(module, name, FrozenBatchNorm2d(child.num_features, eps=eps))
        else:
            _freeze_norms(child, eps)


class _Network(nn.Module):
    """Torchvision's model behind its transform."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model: Any = model

    def features(self, images: Tensor) -> list[Tensor]:
        """Return the levels' features, fine to coarse."""
        found = self.model.backbone(images)
        return list(found.values()) if isinstance(found, dict) else [found]


class Dense(_Network):
    """A head that predicts everywhere at once: FCOS, RetinaNet and SSD."""

    def forward(self, images: Tensor) -> PartedOutputs:
        """Predict, without a threshold."""
        features = self.features(images)
        heads = self.model.head(features)
        listed = ImageList(images, [(int(images.shape[2]), int(images.shape[3]))] * len(images))
        anchors = torch.stack(self.model.anchor_generator(listed, features))  # [B, N, 4]
        offsets = heads["bbox_regression"]  # [B, N, 4]
        boxes = self.decoded(offsets.flatten(0, 1), anchors.flatten(0, 1)).view_as(offsets)
        scores = self.scores(heads)
        places = [feature.shape[2] * feature.shape[3] for feature in features]
        each, rest = divmod(scores.shape[1], sum(places))
        parts = tuple(each * count for count in places) if rest == 0 else (scores.shape[1],)
        return PartedOutputs(scores, boxes, parts)

    def decoded(self, offsets: Tensor, anchors: Tensor) -> Tensor:
        """Return boxes, [N, 4] xyxy, input pixels."""
        found: Tensor = self.model.box_coder.decode_single(offsets, anchors)
        return found

    def scores(self, heads: Mapping[str, Tensor]) -> Tensor:
        """Return class scores, [B, N, C] in [0, 1]."""
        return heads["cls_logits"].sigmoid()


class FCOS(Dense):
    """Each place has a score of its own, too."""

    def decoded(self, offsets: Tensor, anchors: Tensor) -> Tensor:
        """Return boxes, [N, 4] xyxy, input pixels."""
        found: Tensor = self.model.box_coder.decode(offsets, anchors)
        return found

    def scores(self, heads: Mapping[str, Tensor]) -> Tensor:
        """Return the geometric mean of the class's and the place's score."""
        return torch.sqrt(heads["cls_logits"].sigmoid() * heads["bbox_ctrness"].sigmoid())


class SSD(Dense):
    """Scores sum to 1 over the classes and the background."""

    def scores(self, heads: Mapping[str, Tensor]) -> Tensor:
        """Return class scores; that of the background is none, and 0."""
        scores = heads["cls_logits"].softmax(-1)
        return torch.cat([torch.zeros_like(scores[..., :1]), scores[..., 1:]], dim=-1)


class TwoStage(_Network):
    """Proposals, a second look at each, and suppression: Faster R-CNN."""

    def forward(self, images: Tensor, sizes: Tensor | None = None) -> ReadyOutputs:
        """Find objects.

        Args:
            images: [B, 3, H, W].
            sizes: [B, 2] (h, w) of the real image inside the input, pixels; None for all of it.
        """
        whole = [[int(images.shape[2]), int(images.shape[3])]] * len(images)
        listed = whole if sizes is None else sizes.tolist()
        pairs = [(int(height), int(width)) for height, width in listed]
        features = self.model.backbone(images)
        proposals, _ = self.model.rpn(ImageList(images, pairs), features)
        found, _ = self.model.roi_heads(features, proposals, pairs)
        boxes, scores, labels = (
            pad_sequence([item[key] for item in found], batch_first=True, padding_value=fill)
            for key, fill in (("boxes", 0.0), ("scores", 0.0), ("labels", -1))
        )
        return ReadyOutputs(boxes, scores, labels)


_NETWORKS: dict[str, type[Dense] | type[TwoStage]] = {
    "fcos": FCOS,
    "retinanet": Dense,
    "ssd": SSD,
    "two_stage": TwoStage,
}
