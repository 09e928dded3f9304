"""`detbench list tables`: the published tables that are here, and what repeats each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.analysis.reproduce import tables
from harness.analysis.reproduce.schema import Table
from harness.cli import console
from harness.cli.console import print_json


def show(paper: str | None, *, as_json: bool) -> int:
    """Print the tables of a paper or of all: id, title, rows, what repeats them or why nothing.

    Args:
        paper: its name in studies/papers; None for all.
        as_json: whether to print JSON.

    Raises:
        StudyError: there is no such paper.
    """
    found = tables.tables(paper)
    if as_json:
        print_json({"tables": [_row(table) for table in found]})
    else:
        for table in found:
            console.entry(table.id, table.title, _by(_row(table)))
    return 0


def _row(table: Table) -> dict[str, Any]:
    repeated = sum(row.repeat is not None or bool(row.repeats) for row in table.rows)
    own = {name: getattr(table, name) for name in ("id", "title", "study", "outside")}
    return {**own, "rows": len(table.rows), "repeated": repeated}


def _by(row: Mapping[str, Any]) -> str:
    """Say what repeats a table, or why nothing does."""
    if row["outside"]:
        return f"Rows: {row['rows']}, not repeated: {row['outside']}"
    return f"Rows: {row['rows']}, {row['repeated']} repeated by {row['study'] or 'its detectors'}"
