"""Tables for the eye: rows of plain values in, formatted cells with footnotes out."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from harness.records import Record
from harness.records.protocols import unexplained
from reports import notes, tables
from reports.against import Verdicts, no_ratio
from reports.canvas import shorten
from reports.columns import COLUMNS, INTERVALS, OVER_SEEDS, SOURCE, UNSAID, Column
from reports.notes import Remark

DASH = "–"
MINUS = "−"


class Cell(NamedTuple):
    """One cell: what is shown, what it sorts by, and which footnotes belong to it."""

    text: str
    sort: float | str | None = None
    small: str = ""  # beside the text: an interval, a range
    hint: str = ""  # tooltip
    notes: tuple[str, ...] = ()  # letters
    style: str = ""


class Table(NamedTuple):
    """A table ready for the template."""

    columns: list[Column]
    rows: list[list[Cell]]
    notes: list[str]
    hidden: list[str]  # columns that are left out, with the reason
    shared: str = ""  # what holds for all rows, in one sentence

    @property
    def lettered(self) -> list[tuple[str, str]]:
        """Footnotes with their letters."""
        return [(notes.letter(index), text) for index, text in enumerate(self.notes)]

    @property
    def groups(self) -> list[tuple[str, int]]:
        """Headings over the columns: text and how many columns it spans."""
        runs = itertools.groupby(self.columns, key=lambda column: column.group)
        return [(group, len(list(run))) for group, run in runs]

    @property
    def edges(self) -> set[int]:
        """Indices of the columns that begin a group, the first left out."""
        return set(itertools.accumulate(span for _, span in self.groups[:-1]))


IN_TURNS = (
    "the baseline's latency times the ratio to it, as both were timed in turns; what a trial "
    "took at its own moment is latency_own_ms in the download"
)
BASELINE = "baseline"
LONGEST = 40  # letters of a knob's value


def trial_table(
    records: Sequence[Record], verdicts: Verdicts | None = None, *, alone: bool = False
) -> Table:
    """Lay out all trials: number, knobs, seed, metrics, differences; see `tables.trial_rows`."""
    rows = tables.trial_rows(records, verdicts, alone=alone)
    columns, hidden = _filled(records, rows)
    formats = {column.key: _format(column, rows) for column in columns}
    first = None if alone else tables.reference(records)
    own = next((row["protocol"] for row in rows if first and row["trial"] == first.trial), None)
    lead = _lead(records)
    remarks: list[Remark] = []
    for number, (row, record) in enumerate(zip(rows, records, strict=True)):
        if row["other_code"] is not None:
            remarks.append(Remark(number, "number", "", f"of other code: {row['other_code']}"))
        for column in columns:
            remarks += _remarks(number, column, row, record, first, own)
    done = [number for number, record in enumerate(records) if record.state == "done"]
    found = notes.gather(remarks, done, "number")
    hints = _hints(remarks)
    cells = [
        [_plain_cell(column, row, record, first) for column in lead]
        + [_cell(column, row, record, first, formats[column.key]) for column in columns]
        for row, record in zip(rows, records, strict=True)
    ]
    everything = [*lead, *columns]
    marked = [
        [
            cell._replace(
                notes=found.marks.get((number, column.key), ()),
                hint=hints.get((number, column.key), cell.hint),
            )
            for column, cell in zip(everything, line, strict=True)
        ]
        for number, line in enumerate(cells)
    ]
    which = "all trials" if len(done) == len(records) else "all trials that are done"
    shared = f"Of {which}: {'; '.join(found.shared)}." if found.shared else ""
    return Table(everything, marked, found.notes, hidden, shared)


def _hints(remarks: Sequence[Remark]) -> dict[tuple[int, str], str]:
    """Return what is to be known of each value, in full, by row and column."""
    texts: dict[tuple[int, str], list[str]] = {}
    for remark in remarks:
        if remark.label:
            texts.setdefault((remark.row, remark.key), []).append(remark.text)
    return {place: "; ".join(found) for place, found in texts.items()}


def _lead(records: Sequence[Record]) -> list[Column]:
    lead = [
        Column("number", "trial", "#", "number in order of start", kind="text"),
        Column("seed", "trial", "seed", "seed of every random draw", kind="text"),
    ]
    if unexplained(records):
        meaning = "rows of different letters were measured differently"
        lead.append(Column("protocol", "trial", "protocol", meaning, kind="text"))
    if any(record.state != "done" for record in records):
        lead.append(Column("state", "trial", "state", "how the trial ended", kind="text"))
    return lead + _knob_columns(records)


def _knob_columns(records: Sequence[Record]) -> list[Column]:
    return [
        Column(path, "knobs", label, path, kind="text")
        for path, label in tables.knobs(records).items()
    ]


def _filled(
    records: Sequence[Record], rows: list[dict[str, Any]]
) -> tuple[list[Column], list[str]]:
    columns, hidden = [], []
    for column in COLUMNS:
        if any(row.get(column.key) is not None for row in rows):
            columns.append(column)
        elif column.key not in (*SOURCE, *UNSAID) and len(records) > (column.kind == "ratio"):
            done = [record for record in records if record.state == "done"]
            reasons = dict.fromkeys(reason(column, record, None) for record in done)
            hidden.append(
                f"{column.group}: {column.label}: {'; '.join(reasons) or 'no trial is done'}"
            )
    same = [column for column in columns if column.kind == "signed" and _nothing(column, rows)]
    hidden += [f"{column.group}: {column.label}: the same in all trials" for column in same]
    return [column for column in columns if column not in same], hidden


def _nothing(column: Column, rows: list[dict[str, Any]]) -> bool:
    """Say whether a column of sizes compared holds no difference at all."""
    differences = [row[column.key] for row in rows if row[column.key] is not None]
    return column.key != "mAP_delta" and not any(differences)


def reason(column: Column, record: Record, first: Record | None) -> str:
    """Say why a trial has no value in a column."""
    if column.kind == "ratio" and record.state == "done":
        return record.absent.get(column.key) or no_ratio(record, first)
    if column.key.startswith("candidates"):
        if record.state == "done" and "latency" in record.details:
            return "the postprocessing does not count its candidates"
        return tables.missing(record, "nms_ms")
    if column.kind == "signed" and first is not None and record.state == "done":
        metric = SOURCE[column.key]
        if metric in record.metrics and metric in first.metrics:
            return "evaluated on other data than the baseline"
        lacking = first if metric not in first.metrics else record
        return tables.missing(lacking, metric)
    return tables.missing(record, column.key)


def _plain_cell(column: Column, row: dict[str, Any], record: Record, first: Record | None) -> Cell:
    item = row[column.key]
    if column.key == "number":
        old = row["other_code"]
        mark = ", ".join([BASELINE] * (record is first) + ["other code"] * (old is not None))
        hint = f"{tables.title(record)} · {record.trial}"
        return Cell(f"{item}", item, mark, hint, style="key")
    if column.key == "protocol":
        return Cell(item, item, hint=f"protocol {record.protocol_hash}", style="protocol")
    if column.key == "state":
        text = item if record.failure is None else f"{item}: {record.failure.cause}"
        hint = record.failure.message if record.failure else ""
        return Cell(text.replace("_", " "), text, hint=hint, style=record.state)
    return _key(item)


def _cell(
    column: Column,
    row: dict[str, Any],
    record: Record,
    first: Record | None,
    write: Callable[[float], str],
) -> Cell:
    item = row[column.key]
    if item is None:
        compared = column.kind in ("signed", "ratio")
        if record is first and compared:
            return Cell("", None, hint="differences are shown to this trial", style="missing")
        return Cell(DASH, None, hint=reason(column, record, first), style="missing")
    style = "tie" if column.kind == "ratio" and row["latency_tie"] else ""
    text = ("≈ " if style else "") + write(item)
    if column.group == "latency, ms" and row["latency_rough"] is not None:
        style, text = "rough", tables.ROUGH + text
    return Cell(text, item, _interval(column, row, write), style=style)


def _remarks(
    number: int,
    column: Column,
    row: dict[str, Any],
    record: Record,
    first: Record | None,
    own: str | None,
) -> list[Remark]:
    """Collect what a reader of a value must know: why it is missing, its caveat, its interval.

    Args:
        number: of the row, from 0.
        column: the value's.
        row: as from `tables.trial_rows`.
        record: the row's.
        first: the baseline.
        own: letter of the baseline's protocol.
    """
    compared = column.kind in ("signed", "ratio")
    if row[column.key] is None:
        if record.state != "done" or (record is first and compared):
            return []  # the table says so elsewhere
        return [Remark(number, column.key, column.label, reason(column, record, first), True)]
    texts = [record.caveats.get(column.key, "")]
    if column.key == "latency_ms" and row.get("latency_own_ms") is not None:
        texts.append(IN_TURNS)
    low, _ = INTERVALS.get(column.key, (None, None))
    if low is not None and row.get(low) is None:
        texts.append(f"no interval: {tables.missing(record, low)}")
    if compared and row["protocol"] != own:
        texts.append("the baseline was measured by another protocol")
    return [Remark(number, column.key, column.label, text) for text in texts if text]


def _interval(column: Column, row: dict[str, Any], write: Callable[[float], str]) -> str:
    low, high = (row.get(key) for key in INTERVALS.get(column.key, ("", "")))
    return "" if low is None or high is None else f"{write(low)} to {write(high)}"


def _format(column: Column, rows: Iterable[dict[str, Any]]) -> Callable[[float], str]:
    found = [row[column.key] * column.scale for row in rows if row.get(column.key) is not None]
    if column.kind == "ratio":
        return lambda item: f"{item:.3f}"
    if column.kind == "signed":
        return signed
    if column.group == "accuracy, %":
        return lambda item: f"{item * column.scale:.1f}"
    if column.group == "boxes per image":
        return lambda item: f"{item * column.scale:,.0f}"
    places = decimals(found)
    return lambda item: f"{item * column.scale:.{places}f}"


def signed(difference: float) -> str:
    """Write a difference with one decimal and its sign; nothing is more than +0.0."""
    text = f"{abs(difference):.1f}"
    if float(text) == 0:
        return "0.0"
    return ("+" if difference > 0 else MINUS) + text


def decimals(values: Iterable[float]) -> int:
    """Return decimals that show three digits of the smallest value, between 1 and 3."""
    least = min((abs(number) for number in values if number), default=1.0)
    return min(3, max(1, 2 - math.floor(math.log10(least))))


def variant_table(records: Sequence[Record]) -> Table:
    """Lay out variants over their seeds: mean, least to greatest, and the number of trials."""
    rows = tables.variant_rows(records)
    metrics = [
        column
        for column in COLUMNS
        if any(row.get(f"{column.key}_mean") is not None for row in rows)
    ]
    lead = [
        Column("number", "variant", "#", "number in order of start", kind="text"),
        Column("done", "variant", "n", "trials done, one a seed", kind="text"),
        *_knob_columns(records),
    ]
    formats = {
        column.key: _format(column._replace(key=f"{column.key}_mean"), rows) for column in metrics
    }
    compared = [OVER_SEEDS] if any(row["mAP_delta"] is not None for row in rows) else []
    cells = [
        [_key(row[column.key]) for column in lead]
        + [_summary(column, row, formats[column.key]) for column in metrics]
        + [_compared(row) for _ in compared]
        for row in rows
    ]
    return Table([*lead, *metrics, *compared], cells, [], [])


def _compared(row: dict[str, Any]) -> Cell:
    """Show the difference of a variant's mAP with its interval, a tie as a tie."""
    value, low, high, tie = (row[f"mAP_delta{end}"] for end in ("", "_low", "_high", "_tie"))
    if value is None:
        return Cell("", None, hint="the variant of the baseline, or nothing tells", style="missing")
    mark, style = ("≈ ", "tie") if tie else ("", "")
    return Cell(mark + signed(value), value, f"{signed(low)} to {signed(high)}", style=style)


def _key(item: Any) -> Cell:
    """Show the value of a knob, a long one cut in its middle and whole under the pointer."""
    whole = tables.worded(item)
    text = shorten(whole, LONGEST)
    exact = tables.plain(item) if isinstance(item, float) else whole
    return Cell(text, _sort(item), hint="" if text == exact else exact, style="key")


def _sort(item: Any) -> float | str:
    number = isinstance(item, int | float) and not isinstance(item, bool)
    return item if number else tables.plain(item)


def _summary(column: Column, row: dict[str, Any], write: Callable[[float], str]) -> Cell:
    mean, low, high, count = (row[f"{column.key}_{part}"] for part in ("mean", "min", "max", "n"))
    if mean is None:
        return Cell(DASH, None, hint="no trial has it, or none that is not rough", style="missing")
    spread = f"{write(low)} to {write(high)}" if count > 1 and low != high else ""
    partial = f"n = {count}" if count != row["done"] else ""
    return Cell(write(mean), mean, ", ".join(filter(None, (spread, partial))), f"n = {count}")
