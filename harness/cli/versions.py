"""Which records of a study's folder are of its file as it is now, for every command alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from harness import study as studies
from harness.config.data import DataError
from harness.records import Record, snapshot
from harness.records.snapshot import Snapshot
from harness.study import Present, Study, StudyError
from harness.study.present import Named
from harness.trials import stale
from harness.trials.stale import Stale


class Asked(NamedTuple):
    """What a study asks for: its file as it is now, or as it was at the last run."""

    snapshot: Snapshot | None  # None where neither is known
    holds: Callable[[Named], bool]  # whether a trial is one of these
    unsure: str = ""  # why it may not be the file as it is now, for a reader
    out_of_date: Sequence[Stale] = ()  # finished trials that differ from these by their code alone

    def split(self, records: Sequence[Record]) -> tuple[list[Record], list[Record]]:
        """Return the records of these trials, and those of earlier versions of the study.

        What differs by its code alone is in neither.
        """
        kept = [self.holds(item) for item in records]
        pairs = list(zip(records, kept, strict=True))
        other_code = {item.record.trial for item in self.out_of_date}
        others = [item for item, held in pairs if not held and item.trial not in other_code]
        return [item for item, held in pairs if held], others


def load(name: str, out: Path, data: str | None = None, sets: Sequence[str] = ()) -> Study:
    """Load a study as its last run did: what that changed on its command line is changed again.

    Args:
        name: a study's file or name.
        out: holds a folder a study.
        data: a data set; with it, or with `sets`, just what is given is changed.
        sets: PATH=VALUE.

    Raises:
        StudyError: as `harness.study.load` does.
    """
    study = studies.load(name, data=data, sets=sets)
    last = snapshot.load(out / study.name)
    if last is not None and not (data or sets) and (last.data or last.sets):
        with suppress(StudyError):  # the file has lost what was changed
            return studies.load(name, data=last.data, sets=last.sets)
    return study


def of_study(study: Study, folder: Path) -> Asked:
    """Find out what a study asks for; where its data set is not here, what its last run told.

    Raises:
        StudyError: a sweep that cannot be run.
    """
    try:
        present = Present(study)
    except DataError as error:
        known = of_folder(folder)
        return known._replace(unsure=f"{error}; {known.unsure or 'taken from the last run'}")
    out_of_date = stale.find(stale.asked(study, folder), folder)
    return Asked(present.snapshot(), present.holds, out_of_date=out_of_date)


def of_folder(folder: Path) -> Asked:
    """Find out what the study of a folder of records asked for at its last run."""
    last = snapshot.load(folder)
    if last is None:
        unsure = f"{folder} does not tell which records are of the study as its file is now"
        return Asked(None, lambda one: True, f"{unsure}: all are shown")
    trials = set(last.trials)
    return Asked(last, lambda one: one.trial in trials)


def left_out(earlier: int) -> str:
    """Say how many trials are not shown, and what shows them; nothing if there are none."""
    if not earlier:
        return ""
    count = "1 trial" if earlier == 1 else f"{earlier} trials"
    is_are = "is" if earlier == 1 else "are"
    it = "it" if earlier == 1 else "them"
    return (
        f"{count} of an earlier version of this study or of its code {is_are} left out;"
        f" `detbench report STUDY --earlier --out DIR` shows {it}"
    )
