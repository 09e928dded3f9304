"""A published table beside what was counted and measured here: its cells, each with a verdict."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol, get_args

import numpy as np

from harness.analysis.reproduce import verdicts
from harness.analysis.reproduce.counts import COUNTED, Counts
from harness.analysis.reproduce.measured import (
    Ours,
    device_of,
    device_published,
    labels,
    lacking,
    other_setting,
    ratio,
    values,
)
from harness.analysis.reproduce.order import RATIO, Comparison, ImageVariance, compare_rows
from harness.analysis.reproduce.schema import Column, Row, Table, Timed
from harness.analysis.reproduce.trials import AS_PUBLISHED, Asked, Rehearsal, asked, rehearsed
from harness.analysis.reproduce.verdicts import VERDICTS, Judged, Verdict
from harness.records import Record
from harness.study.study import Given


class Missed(NamedTuple):
    """What was not run."""

    command: str  # that runs it
    cost: str


Missing = Callable[[Table, Asked], Missed]
"""Says what would run a variant that was not run."""
OF_LABELS = ("px", "epochs", "images")
"""Units of columns that say how a row came about, and not what came out."""
NO_NUMBER = "what is printed is no single number"


class Cell(NamedTuple):
    """A printed figure, ours, and what that says."""

    row: str
    column: str
    published: float | None  # of another device's times, the ratio to the table's first row
    measured: float | None  # likewise
    difference: float | None  # ours less the published one
    verdict: Verdict
    reason: str
    printed: str  # letter by letter
    shown: str  # ours, to as many digits
    low: float | None  # ends of the 95 % interval of the difference; of a ratio, its own
    high: float | None
    unit: str | None  # of both; "ratio" of another device's times
    command: str | None  # that would run what was not run


class Result(NamedTuple):
    """A published table with its cells judged."""

    table: Table
    cells: list[Cell]
    comparisons: list[Comparison]
    rehearsed_by: str | None  # name of a study

    @property
    def counts(self) -> dict[str, int]:
        """Number of cells of each verdict."""
        found = Counter(cell.verdict for cell in self.cells)
        return {verdict: found[verdict] for verdict in VERDICTS}


class Records(Protocol):
    """Knows the finished trials of variants."""

    def of(self, asked: Asked) -> list[Record]:
        """Return those of a variant, one a seed, by rising seed."""


class Sources(NamedTuple):
    """Where the measured figures of a table come from."""

    finished: Records
    missing: Missing
    given: Given = AS_PUBLISHED  # what the command line changes
    rehearsal: Rehearsal | None = None  # whose trials stand in for those of the table's own study
    over_images: ImageVariance | None = None  # how accuracies vary with the images


def judge(table: Table, sources: Sources, counted: dict[str, Counts] | None) -> Result:
    """Give every printed cell of a table a verdict, and every pair of its rows.

    Args:
        table: the table.
        sources: of what was measured.
        counted: detectors that other tables had counted, to which those of this one are added; None
            to leave out what the architecture determines.

    Raises:
        StudyError: trials that there are not.
        RecordError: a record that cannot be read.
    """
    columns = [column for column in table.columns if _is_figure(table, column)]
    if counted is None:
        columns = [column for column in columns if column.metric not in COUNTED]
    shared = {} if counted is None else counted
    rows = {column.name: _rows(table, column, sources) for column in columns}
    cells = []
    for place, row in enumerate(table.rows):
        for column in columns:
            printed = row.cells[column.name]
            if printed is not None:
                made = _judge(table, place, column, rows[column.name], sources, shared)
                cells.append(_cell(rows[column.name][place], column, printed, made))
    pairs = [
        pair
        for column in columns
        if column.metric not in (None, *COUNTED)
        for pair in compare_rows(column, rows[column.name], sources.over_images)
    ]
    return Result(table, cells, pairs, sources.rehearsal.name if sources.rehearsal else None)


def _is_figure(table: Table, column: Column) -> bool:
    """Say whether a column has figures, and does not only name rows."""
    has_unit = column.unit not in (None, *OF_LABELS)
    return not column.is_label or (table.outside is not None and has_unit)


def wanted(table: Table, sources: Sources) -> list[Asked]:
    """Return the variants whose records a table's cells need, each once."""
    found = {}
    for column in table.columns:
        if column.metric not in (None, *COUNTED):
            for ours in _rows(table, column, sources):
                if ours.asked is not None and ours.printed is not None:
                    found[id(ours.asked.study), ours.asked.name] = ours.asked
    return list(found.values())


def _rows(table: Table, column: Column, sources: Sources) -> list[Ours]:
    """Return the rows of a table as they were measured for one of its columns."""
    is_counted = column.metric in (None, *COUNTED)
    found = []
    for name, row in zip(labels(table), table.rows, strict=True):
        printed = row.cells[column.name]
        repeat = table.repeat(row, column)
        if repeat is None or is_counted:
            why = table.why_outside(row, column)
            found.append(Ours(name, printed, None, why, []))
        elif sources.rehearsal is None or repeat.trial is None:
            one = asked(table, repeat, sources.given)
            found.append(Ours(name, printed, one, None, sources.finished.of(one)))
        else:
            other = rehearsed(sources.rehearsal, repeat, sources.given)
            changed = "".join(f" with {text}" for text in repeat.sets)
            why = f"study {sources.rehearsal.name} has no trial {repeat.trial}{changed}"
            records = [] if other is None else sources.finished.of(other)
            found.append(Ours(name, printed, other, why, records))
    return found


def _judge(
    table: Table,
    place: int,
    column: Column,
    rows: Sequence[Ours],
    sources: Sources,
    counted: dict[str, Counts],
) -> Judged:
    """Judge one cell."""
    row, ours = table.rows[place], rows[place]
    printed = str(ours.printed)
    if (why := table.why_outside(row, column)) is not None:
        return Judged("outside", why)
    if verdicts.number(printed) is None:
        return Judged("outside", NO_NUMBER)
    if column.metric in COUNTED:
        counts = _counts(table, row, column, counted)
        return counts.judge(column, printed, known=row.differs.get(column.name))
    if ours.asked is None:
        return Judged("not run", ours.why_not or "nothing repeats it")
    if not ours.records:
        missed = sources.missing(table, ours.asked)
        return Judged("not run", f"{missed.command}; {missed.cost}", command=missed.command)
    if not values(ours.records, column):
        return Judged("not run", lacking(ours.records[0], column))
    if column.metric in get_args(Timed):
        return _judge_time(column, ours, rows)
    return _judge_figure(table, place, column, rows, sources)


def _counts(table: Table, row: Row, column: Column, counted: dict[str, Counts]) -> Counts:
    """Return the counts of a row's detector in the published setting."""
    repeat = table.repeat(row, column)
    assert repeat is not None
    config = asked(table, repeat).config
    return counted.setdefault(repr(config), Counts(config))


def _judge_time(column: Column, ours: Ours, rows: Sequence[Ours]) -> Judged:
    """Set a time beside another device's: both as ratios to the first row that was timed."""
    first = next(
        row for row in rows if row.asked is not None and verdicts.number(row.printed or "")
    )
    found = ratio(first.records, ours.records, column)
    if found is None:
        return Judged("not run", f"the row that ratios are to was not timed here: {first.label}")
    published = float(ours.printed or 0) / float(first.printed or 1)
    here = device_of(ours.records[0])
    reason = f"ratio to {first.label}; ours on {here}; published on {device_published(column)}"
    if found.low is not None and found.high is not None:
        reason = f"95 % interval {found.low:.3f} to {found.high:.3f}; {reason}"
    return Judged(
        "other setting",
        reason,
        found.value,
        found.value - published,
        found.low,
        found.high,
        f"x{found.value:.2f}",
        published,
    )


def _judge_figure(
    table: Table, place: int, column: Column, rows: Sequence[Ours], sources: Sources
) -> Judged:
    """Judge an accuracy, or show it where it is of another setting."""
    ours, known = rows[place], table.rows[place].differs.get(column.name)
    assert ours.asked is not None
    printed, found = str(ours.printed), values(ours.records, column)
    rehearsed = sources.rehearsal is not None or ours.records[0].study != ours.asked.study.name
    why = other_setting(table, ours, sources.given, rehearsed=rehearsed)
    if why is not None:
        mean = float(np.mean(found))
        seeds = f"; mean of {len(found)} seeds" if len(found) > 1 else ""
        shown = verdicts.as_printed(mean, printed)
        return Judged("other setting", f"{why}{seeds}", mean, mean - float(printed), shown=shown)
    if ours.asked.evaluated:
        return verdicts.evaluated(printed, found[0], known=known)
    gap = verdicts.gap([row.printed for row in rows], place)
    return verdicts.trained(printed, found, gap, known=known)


def _cell(ours: Ours, column: Column, printed: str, judged: Judged) -> Cell:
    number = verdicts.number(printed)
    published = judged.published
    if published is None and number is not None:
        published = float(number)
    return Cell(
        ours.label,
        column.name,
        published,
        judged.measured,
        judged.difference,
        judged.verdict,
        judged.reason,
        printed,
        judged.shown,
        judged.low,
        judged.high,
        column.unit if judged.published is None else RATIO,
        judged.command,
    )
