"""The answer of a study, the same wherever it stands: run, status, compare, MLflow and the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.records import Record, latencies, record, snapshot
from harness.records.goals import Goal
from harness.records.snapshot import Snapshot
from harness.study import constraints


def of(study: Snapshot | None, records: Sequence[Record], *, total: int | None = None) -> str:
    """Say what a study came to.

    Args:
        study: as its file is now; None where that is not known.
        records: that it asks for.
        total: number of its trials, if some may be under way.
    """
    from harness.analysis.answer import answer  # scipy.stats is slow to import

    return answer(records, goal_of(study, records), total=total)


def of_folder(folder: Path) -> tuple[str, list[Record]]:
    """Say what the study of a folder came to as its last run had it, and by which records.

    Raises:
        RecordError: a record cannot be read.
    """
    study, records = snapshot.load(folder), record.read_all(folder)
    asked = [one for one in records if study is None or one.trial in study.trials]
    return of(study, asked), asked


def goal_of(study: Snapshot | None, records: Sequence[Record]) -> Goal | None:
    """Say what a search looked for, and which trials are beyond its constraints."""
    if study is None or not study.objectives:
        return None
    beyond = (r.trial for r in records if constraints.infeasible(latencies.firm(r), study.limits))
    return Goal(study.objectives, study.reference, frozenset(beyond))
