"""The columns of a table of trials, and what each of them means."""

from __future__ import annotations

from typing import NamedTuple


class Column(NamedTuple):
    """One column: its group's heading, its own, its unit and what it means."""

    key: str
    group: str
    label: str
    meaning: str
    scale: float = 1.0
    kind: str = "number"  # number, signed, ratio, text


COLUMNS = (
    Column("mAP", "accuracy, %", "mAP", "mean AP over IoU 0.50 to 0.95, as COCO defines it", 1e2),
    Column("mAP_50", "accuracy, %", "mAP 50", "mean AP at IoU 0.50", 1e2),
    Column(
        "prop_cls",
        "selected, %",
        "sure",
        "share of the features that become queries with a class score above 0.5",
        1e2,
    ),
    Column(
        "prop_both",
        "selected, %",
        "and placed",
        "share of them with a class score and an overlap with an object above 0.5",
        1e2,
    ),
    Column(
        "params",
        "size",
        "params, M",
        "of the training graph, frozen ones included, millions",
        1e-6,
    ),
    Column("macs", "size", "MACs, G", "multiply-accumulates an image, thousand millions", 1e-9),
    Column(
        "images_per_second",
        "training",
        "images/s",
        "images a second, validation left out; median of the epochs after the first",
    ),
    Column(
        "latency_ms",
        "latency, ms",
        "end to end",
        "median from prepared tensor to final detections, NMS included, with the 95 % interval "
        "of the median",
    ),
    Column("latency_p95_ms", "latency, ms", "p95", "95th percentile, end to end"),
    Column(
        "network_ms",
        "latency, ms",
        "network",
        "backbone, neck and head; median of a pass of its own",
    ),
    Column("nms_ms", "latency, ms", "NMS", "postprocessing; median of a pass of its own"),
    Column(
        "candidates_before_nms",
        "boxes per image",
        "before NMS",
        "median number of boxes that enter NMS",
    ),
    Column(
        "candidates_after_nms",
        "boxes per image",
        "after",
        "median number of final detections",
    ),
    Column(
        "mAP_delta",
        "against the baseline",
        "mAP, points",
        "difference to the baseline's",
        kind="signed",
    ),
    Column(
        "params_delta",
        "against the baseline",
        "params, %",
        "difference to the baseline's",
        kind="signed",
    ),
    Column(
        "macs_delta",
        "against the baseline",
        "MACs, %",
        "difference to the baseline's",
        kind="signed",
    ),
    Column(
        "latency_ratio",
        "against the baseline",
        "latency, ×",
        "ratio of latencies in interleaved rounds, with its 95 % interval; ≈ is a tie: the "
        "interval contains 1",
        kind="ratio",
    ),
)
OVER_SEEDS = Column(
    "mAP_delta",
    "against the baseline",
    "mAP, points",
    "difference of the means, with an interval that holds for all rows at once at 95 %; ≈ is a "
    "tie: the interval contains 0",
    kind="signed",
)
INTERVALS = {
    "latency_ms": ("latency_low_ms", "latency_high_ms"),
    "latency_ratio": ("latency_ratio_low", "latency_ratio_high"),
}
UNSAID = ("prop_cls", "prop_both", "images_per_second")
"""Columns that are not missed where no trial has them: few studies ask for them."""
SOURCE = {"mAP_delta": "mAP", "params_delta": "params", "macs_delta": "macs"}
