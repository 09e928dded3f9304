"""`studies/papers/STATUS.md` is what the command makes of the committed records."""

import re
from pathlib import Path

import pytest

from harness.analysis.reproduce import status, tables
from harness.analysis.reproduce.cells import Missed, Result, Sources, judge
from harness.analysis.reproduce.counts import Counts
from harness.analysis.reproduce.finished import Finished
from harness.analysis.reproduce.schema import Table
from harness.analysis.reproduce.trials import AS_PUBLISHED, Asked, rehearsal
from harness.analysis.reproduce.verdicts import VERDICTS
from harness.cli.expenses import Expenses
from tests.rooms import ROOT

RECORDS = ROOT / "reports" / "measured" / "epyc-2-cores"
STATUS = tables.FOLDER / "STATUS.md"
AGAIN = (
    f"detbench reproduce all --scale rehearsal --runs {RECORDS.relative_to(ROOT)} --keep-stale"
    f" --out {STATUS.relative_to(ROOT)}"
)


def judged(table: Table, finished: Finished, counted: dict[str, Counts]) -> Result:
    """Judge a table as the command does, without asking what takes how long."""
    small = rehearsal(table)
    expenses = Expenses(Path("nowhere"), AS_PUBLISHED, small)

    def missing(table: Table, asked: Asked) -> Missed:
        return Missed(expenses.command(table, asked.study), "")

    return judge(table, Sources(finished, missing, AS_PUBLISHED, small), counted)


def test_the_status_has_all_tables_and_their_cells_add_up() -> None:
    text = STATUS.read_text(encoding="utf-8")
    rows = re.findall(r"^\| ([^ |]+) \|((?: \d+ \|)+)$", text, flags=re.MULTILINE)
    found = {
        name.replace("\\", ""): list(map(int, re.findall(r"\d+", rest))) for name, rest in rows
    }
    total = found.pop("all")
    assert list(found) == [table.id for table in tables.tables()], AGAIN
    assert total == [sum(column) for column in zip(*found.values(), strict=True)]
    for name, numbers in found.items():
        cells, verdicts, orders = numbers[0], numbers[1 : 1 + len(VERDICTS)], numbers[-4:]
        assert sum(verdicts) == cells, name
        assert sum(orders[1:]) == orders[0], name


@pytest.mark.slow
def test_the_status_is_what_the_command_makes_of_the_committed_records() -> None:
    finished, counted = Finished(RECORDS, keep_stale=True), dict[str, Counts]()
    results = [judged(table, finished, counted) for table in tables.tables()]
    assert STATUS.read_text(encoding="utf-8") == status.status(results), AGAIN
