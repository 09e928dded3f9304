"""What the outputs of a graph mean: from its layout to predictions or ready detections."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from detectors.boxes import grid_points, shares_to_boxes
from detectors.interface import QueryOutputs
from harness.adapters.model import ReadyOutputs, ScoredOutputs
from harness.adapters.onnx.layouts import STRIDES

Size = tuple[int, int]  # (h, w), input pixels


def decode(layout: str, parts: Mapping[str, Tensor], size: Size) -> Any:
    """Return what a graph predicts.

    Args:
        layout: a key of `LAYOUTS`.
        parts: its outputs as `layouts.parts` names them, reals in float32.
        size: of the input.

    Returns:
        A NamedTuple that satisfies `Outputs`, or `ReadyOutputs`.
    """
    if layout in ("logits_boxes", "query_logits_boxes"):
        return QueryOutputs(parts["logits"], parts["boxes"])
    if layout == "logits_pred_boxes":
        return QueryOutputs(parts["logits"], shares_to_boxes(parts["boxes"], size))
    if layout == "softmax_pred_boxes":
        shares = parts["logits"].softmax(dim=2)[..., :-1]
        return ScoredOutputs(shares, shares_to_boxes(parts["boxes"], size))
    if layout == "yolov8":
        rows = parts["rows"].transpose(1, 2)  # [B, N, 4 + C]
        return ScoredOutputs(rows[..., 4:], _corners(rows[..., :4]))
    if layout in ("yolox", "yolov5"):
        return _with_objectness(parts["rows"], size if layout == "yolox" else None)
    return _ready(layout, parts)


def _with_objectness(rows: Tensor, size: Size | None) -> ScoredOutputs:
    """Decode [B, N, 5 + C]: a box, its objectness, and its classes, which are multiplied.

    Args:
        rows: of the graph.
        size: of the input, where boxes are in strides; None where they are in pixels.

    Source: Megvii-BaseDetection/YOLOX yolox/models/yolo_head.py `decode_outputs` (Apache-2.0).
    """
    boxes, scores = rows[..., :4], rows[..., 4:5] * rows[..., 5:]
    if size is not None:
        cells = [(size[0] // stride, size[1] // stride) for stride in STRIDES]
        points, strides = grid_points(cells, STRIDES, rows.device)
        centres = boxes[..., :2] * strides[:, None] + points
        boxes = torch.cat([centres, boxes[..., 2:].exp() * strides[:, None]], dim=2)
    return ScoredOutputs(scores, _corners(boxes))


def _corners(boxes: Tensor) -> Tensor:
    """Turn boxes [..., 4] of centre and size into corners."""
    centres, halves = boxes[..., :2], boxes[..., 2:] / 2
    return torch.cat([centres - halves, centres + halves], dim=-1)


def _ready(layout: str, parts: Mapping[str, Tensor]) -> ReadyOutputs:
    """Return detections that a graph makes by itself."""
    if layout == "rows":
        rows = parts["rows"]  # [B, K, 6]
        return ReadyOutputs(rows[..., :4], rows[..., 4], rows[..., 5].round().long())
    if layout == "dets_labels":
        dets = parts["dets"]  # [B, K, 5]
        return ReadyOutputs(dets[..., :4], dets[..., 4], parts["labels"].long())
    scores, labels = parts["scores"], parts["labels"].long()
    if "counts" in parts:
        places = torch.arange(scores.shape[1], device=scores.device)
        labels = labels.where(places < parts["counts"].reshape(-1, 1), -1)
    return ReadyOutputs(parts["boxes"], scores, labels)
