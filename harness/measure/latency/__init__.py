"""Latency end to end, in rounds in which detectors take turns."""

from harness.measure.latency.bench import (
    WORKLOAD,
    Bench,
    Subject,
    Timing,
    measure,
    measure_prepared,
    ratio,
)

__all__ = ["WORKLOAD", "Bench", "Subject", "Timing", "measure", "measure_prepared", "ratio"]
