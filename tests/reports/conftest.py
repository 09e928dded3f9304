"""Records made by hand."""

from collections.abc import Callable
from typing import Any

import pytest

from harness.records import Failure, Record

Make = Callable[..., Record]

FIRST = {
    "mAP": 0.5,
    "mAP_50": 0.7,
    "params": 4_000_000.0,
    "macs": 2_000_000_000.0,
    "latency_ms": 10.0,
    "latency_low_ms": 9.8,
    "latency_high_ms": 10.3,
    "latency_p95_ms": 12.0,
    "network_ms": 8.0,
    "backbone_ms": 5.0,
    "neck_ms": 2.0,
    "head_ms": 1.0,
    "nms_ms": 1.5,
}
CURVES = [
    {"epoch": 1.0, "step": 10.0, "time": 1.0, "lr": 0.1, "loss": 3.0, "loss_cls": 2.0},
    {"epoch": 2.0, "step": 20.0, "time": 2.0, "lr": 0.1, "loss": 2.0, "loss_cls": 1.5, "mAP": 0.5},
]


def make_record(trial: str = "t1", **changes: Any) -> Record:
    """Make a finished trial; metrics that are changed to None are taken out."""
    metrics = FIRST | changes.pop("metrics", {})
    overrides = changes.pop("overrides", {"detector.backbone.expand_ratio": 0.25})
    fields: dict[str, Any] = {
        "study": "study",
        "trial": trial,
        "name": ", ".join(f"{path.rpartition('.')[2]}={v}" for path, v in overrides.items()),
        "detector": "toy",
        "overrides": overrides,
        "config": {"detector.backbone.expand_ratio": 0.5, "detector.input.size": [64, 96]},
        "seed": 0,
        "state": "done",
        "metrics": {key: number for key, number in metrics.items() if number is not None},
        "details": {"latency": {"candidates": {"median": 40.0}, "detections": {"median": 7.0}}},
        "samples": {"latency_ms": [10.0, 9.0, 11.0, 30.0], "reference_latency_ms": [8.0, 8.5]},
        "curves": CURVES,
        "protocol": {"latency": {"batch_size": 1}},
        "protocol_hash": "p1",
        "data": {"name": "shapes", "fingerprint": "f1", "train": {"images": 600}},
        "environment": {
            "device": "cpu",
            "cpu": {"model": "A processor"},
            "packages": {"torch": "2.6"},
        },
        "timings": {"started": 0.0, "finished": 86_400.0},
    }
    return Record(**(fields | changes))


def make_failed(trial: str = "broken", **changes: Any) -> Record:
    """Make a trial that ran out of memory."""
    failure = Failure(cause="out_of_memory", message="needs 9 GB of 8 GB", details="Traceback")
    empty: dict[str, Any] = {"samples": {}, "curves": [], "details": {}}
    record = make_record(trial, state="failed", failure=failure, **(empty | changes))
    return record.model_copy(update={"metrics": {}})


def together(trial: str = "t1", ratio: float | None = None, **changes: Any) -> Record:
    """Make a trial that was timed in shared rounds with the trial `first`, so many times as fast.

    Args:
        trial: its hash.
        ratio: of its latency to that of `first`, 10 ms; None for `first` itself.
        changes: as for `make_record`.
    """
    details = {"together": {"session": "s"}} | ({} if ratio is None else {"reference": "first"})
    ends = {} if ratio is None else {"": ratio, "_low": ratio - 0.02, "_high": ratio + 0.02}
    figures = {f"latency_ratio{end}": value for end, value in ends.items()}
    figures |= {f"latency{end}_ms": 10 * value for end, value in ends.items()}
    metrics = figures | changes.pop("metrics", {})
    return make_record(trial, metrics=metrics, details=details, **changes)


@pytest.fixture
def make() -> Make:
    return make_record


@pytest.fixture
def failing() -> Make:
    return make_failed
