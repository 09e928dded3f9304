"""The answer of a study, the same wherever it stands: run, status, compare, MLflow and the page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.records import Record, RecordError, latencies, record, snapshot, variants
from harness.records.goals import Goal
from harness.records.snapshot import Snapshot
from harness.study import constraints

COMMITTED = Path(__file__).parents[2] / "reports" / "measured"
"""Results that are kept with the source, by machine and study; a wheel has none."""


def of(
    study: Snapshot | None, records: Sequence[Record], folder: Path, *, total: int | None = None
) -> str:
    """Say what a study came to.

    Args:
        study: as its file is now; None where that is not known.
        records: that it asks for.
        folder: its own; where it has one seed, studies beside it may tell how much one scatters.
        total: number of its trials, if some may be under way.
    """
    from harness.analysis.answer import answer  # scipy.stats is slow to import

    goal = goal_of(study, records)
    done = [one for one in records if one.state == "done" and "mAP" in one.metrics]
    alone = len(done) > 1 and goal is None and not variants.has_seeds(done)
    others = elsewhere(done[0], folder) if alone else []
    return answer(records, goal, total=total, others=others)


def elsewhere(known: Record, folder: Path) -> list[Record]:
    """Read the finished trials on the data of a trial: beside its study's folder, and committed.

    A record that cannot be read is passed over: it is another study's.
    """
    fingerprint = str(known.data.get("fingerprint", "")).encode()
    files = [
        *folder.resolve().parent.glob(f"*/*/{record.FILE}"),
        *COMMITTED.glob("*/*/*/record.json"),
    ]
    found = []
    for file in dict.fromkeys(sorted(files)):
        if file.parent.name.startswith(".") or not fingerprint or not file.is_file():
            continue
        try:
            large = file.stat().st_size > record.LARGEST
            one = record.read(file) if not large and fingerprint in file.read_bytes() else None
        except (OSError, RecordError):
            continue
        if one is not None and one.state == "done":
            found.append(one)
    return found


def of_folder(folder: Path) -> tuple[str, list[Record]]:
    """Say what the study of a folder came to as its last run had it, and by which records.

    Raises:
        RecordError: a record cannot be read.
    """
    study, records = snapshot.load(folder), record.read_all(folder)
    asked = [one for one in records if study is None or one.trial in study.trials]
    return of(study, asked, folder), asked


def goal_of(study: Snapshot | None, records: Sequence[Record]) -> Goal | None:
    """Say what a search looked for, and which trials are beyond its constraints."""
    if study is None or not study.objectives:
        return None
    beyond = (r.trial for r in records if constraints.infeasible(latencies.firm(r), study.limits))
    return Goal(study.objectives, study.reference, frozenset(beyond))
