"""Finished trials that measured accuracy, which alone can be compared."""

from __future__ import annotations

from pathlib import Path

from harness.records import record
from harness.records.record import Record


class CompareError(ValueError):
    """Two sides that cannot be compared."""


def read(folder: Path) -> Record:
    """Read the record of a finished trial.

    Raises:
        CompareError: it has no record, no accuracy or no detections.
        RecordError: the file is damaged.
    """
    try:
        result = record.read(folder)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CompareError(
            f"{folder}: no {record.FILE} there; name the folder of a trial, runs/STUDY/TRIAL"
        ) from error
    if result.state != "done" or "detections" not in result.artifacts:
        why = f"is {result.state}" if result.state != "done" else "did not measure accuracy"
        raise CompareError(f"{folder}: the trial {why}, so it has no detections to compare")
    return result
