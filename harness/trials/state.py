"""A trial under way: what its phases read, and what they leave behind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from detectors.interface import Detector
from harness.data import DataSet
from harness.measure.accuracy.evaluate import Evaluation
from harness.records import Record
from harness.records.progress import Judge, OnProgress
from harness.study.specification import TrialSpec


@dataclass
class Trial:
    """A trial under way."""

    spec: TrialSpec
    record: Record
    folder: Path
    device: str
    reference: Path | None
    find_reference: Callable[[], Path | None]  # for later, where there is none yet
    shelf: Path
    shared: bool  # whether the shelf is that of a folder of studies
    judge: Judge | None
    on_progress: OnProgress
    all_threads: int  # for latency, which is alone on the device
    share: int = 1  # number of trials that run at a time
    phase: str = "data"
    dataset: DataSet = field(init=False)
    detector: Detector = field(init=False)
    evaluation: Evaluation | None = None
