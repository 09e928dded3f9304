"""Metrics as a reader sees them: name, unit, and what a record's number is multiplied by."""

from __future__ import annotations

from typing import NamedTuple


class Metric(NamedTuple):
    """A metric as figures show it."""

    key: str
    label: str
    unit: str
    scale: float = 1.0

    @property
    def axis(self) -> str:
        """Title of an axis."""
        return f"{self.label} ({self.unit})"


METRICS = {
    metric.key: metric
    for metric in (
        Metric("mAP", "mAP", "%", 100),
        Metric("latency_ms", "end-to-end latency", "ms"),
        Metric("latency_adjusted_ms", "end-to-end latency, timed in turns", "ms"),
        Metric("params", "parameters", "M", 1e-6),
        Metric("macs", "multiply-accumulates", "G", 1e-9),
        Metric("nms_ms", "NMS", "ms"),
    )
}
