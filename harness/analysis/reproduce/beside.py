"""The published table that a study cites, beside the study's own records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from harness.analysis.reproduce import tables, writers
from harness.analysis.reproduce.cells import Missed, Sources, judge
from harness.analysis.reproduce.finished import is_of
from harness.analysis.reproduce.schema import Table
from harness.analysis.reproduce.trials import AS_PUBLISHED, Asked, repeats, scoring
from harness.records import Record
from harness.study import load
from harness.study.study import Given


class Shown:
    """Records of one study, as the rows of a table ask for them.

    Those of the table's own study have to be measured as published. Those of any other study, such
    as a rehearsal with a smaller detector, stand in by the names of their trials.
    """

    def __init__(self, table: Table, records: Sequence[Record]) -> None:
        """Keep the finished ones."""
        self.records = [record for record in records if record.state == "done"]
        self.scoring = scoring(table)

    def of(self, asked: Asked) -> list[Record]:
        """Return the finished records of a variant, one a seed, by rising seed."""
        sets = asked.study.given.sets
        if all(item.study == asked.study.name for item in self.records):
            detector: str | None = asked.detector
        else:
            sets = tuple(text for text in sets if text not in self.scoring)
            told = [text for text in sets if text.startswith("detector=")]
            detector = asked.detector if told else None
        found = [item for item in self.records if is_of(item, asked.name, detector, sets)]
        by_seed = {item.seed: item for item in found}
        return [by_seed[seed] for seed in sorted(by_seed)]


def beside(
    source: str, records: Sequence[Record], given: Given = AS_PUBLISHED
) -> dict[str, Any] | None:
    """Judge the printed figures of the table that a study cites by the study's own records.

    What the architecture determines is left out: it is the same whatever the study ran.

    Args:
        source: what the study cites.
        records: of the study.
        given: what the command line changed in it.

    Returns:
        What `detbench reproduce TABLE --json` prints; None where `source` is no table, or nothing
        of it was measured.

    Raises:
        StudyError: the table's own study, with what was given, cannot be.
    """
    table = next((one for one in tables.tables() if one.id == source), None)
    if table is None or not records:
        return None
    shown = Shown(table, records)
    names = {record.name for record in shown.records}
    if not any(repeat.trial in names for repeat in repeats(table)):
        return None
    own = table.study is not None and load(table.study).name == records[0].study
    result = judge(table, Sources(shown, _missing, given if own else AS_PUBLISHED), None)
    return writers.plain(table.id, [result], None)


def _missing(table: Table, asked: Asked) -> Missed:
    command = f"detbench reproduce {table.id}"
    return Missed(f"{command} --run", f"{command} says what that takes")
