"""What stands on a study's page beside its records' own figures, worked out for `reports`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from harness.cli import answers
from harness.records import Record, RecordError
from harness.records.precision import Precision
from harness.records.ranking import rank
from harness.records.snapshot import Snapshot
from harness.study import StudyError
from harness.study.study import Given

if TYPE_CHECKING:
    from reports.findings import Findings


def of(
    study: Snapshot | None,
    records: Sequence[Record],
    folder: Path,
    warn: Callable[[str], None],
) -> Findings:
    """Work out what a page shows: the published table, importances of knobs, precision.

    Args:
        study: as its file is now; None where that is not known.
        records: that it asks for.
        folder: of the study's records.
        warn: told of what cannot be shown.
    """
    from harness.analysis.importance import importances  # these are slow to import
    from harness.analysis.reproduce.beside import beside  # likewise
    from harness.analysis.seen import Seen  # likewise
    from reports.findings import Findings  # likewise

    goal, seen, published = answers.goal_of(study, records), Seen(), None
    precision: dict[str, Precision] = {}
    for record in records:
        try:
            found = seen.precision(folder / record.trial, record)
        except RecordError as error:
            warn(str(error))
        else:
            if found is not None:
                precision[record.trial] = found
    if study is not None and study.source:
        try:
            published = beside(study.source, records, Given(study.data, tuple(study.sets)))
        except StudyError as error:
            warn(f"{study.source} is not shown: {error}")
    return Findings(
        importances(rank(records).records, goal) if goal is not None else None,
        precision,
        published,
    )
