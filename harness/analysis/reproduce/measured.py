"""What finished trials tell of the cells of a published table, and in which setting."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from harness.analysis.reproduce.schema import SCALE, Column, Row, Table
from harness.analysis.reproduce.trials import Asked
from harness.analysis.reproduce.verdicts import differ
from harness.config.data import COCO2017
from harness.records import Record, latencies, turns
from harness.study.study import Given

COCO_CLASSES, COCO_VAL_IMAGES = 80, 5000
NO_SETTING = ("seeds=", "measure=", "latency.", "data.")
"""How changes begin that leave an accuracy in the published setting, or show in its data."""
INVERTED = {"fps": "latency_ms", "network_fps": "network_ms", "training_ms": "images_per_second"}
"""Metric of a column: that of a record, of which it is 1000 over."""
IN_TURNS = ("latency_ms", "fps")
"""Times whose ratio has an interval from the rounds in which two trials took turns."""


class Ours(NamedTuple):
    """A row of a table as it was measured here, for one of its columns."""

    label: str
    printed: str | None
    asked: Asked | None  # None where nothing repeats it
    why_not: str | None  # why nothing does
    records: list[Record]  # one a seed


class Ratio(NamedTuple):
    """One row's time, or speed, over another's."""

    value: float
    low: float | None = None  # ends of the 95 % interval, where there is one
    high: float | None = None


def labels(table: Table) -> list[str]:
    """Name each row by what tells it from the others: its labels, and then what is printed."""
    columns = sorted(table.columns, key=lambda column: not column.is_label)
    first, *others = [column.name for column in columns]
    named, groups = [first], _groups(table, [first])
    for name in others:
        split = _groups(table, [*named, name])
        if split > groups:
            named, groups = [*named, name], split
    return [_told(row, named) or f"row {place}" for place, row in enumerate(table.rows, 1)]


def _groups(table: Table, columns: Sequence[str]) -> int:
    """Count the rows that some columns tell apart."""
    return len({tuple(row.cells[name] for name in columns) for row in table.rows})


def _told(row: Row, columns: Sequence[str]) -> str:
    """Write some cells of a row; the first without its column's name where that is no switch."""
    texts = {name: text for name in columns if (text := row.cells[name]) is not None}
    return ", ".join(
        text if name == columns[0] and text not in ("true", "false") else f"{name} {text}"
        for name, text in texts.items()
    )


def value(record: Record, column: Column) -> float | None:
    """Return what a record says of a column, in the column's unit; None if nothing.

    A time that is only rough says nothing.
    """
    metric = str(column.metric)
    found = latencies.firm(record).get(INVERTED.get(metric, metric))
    if metric in INVERTED:
        found = 1000 / found if found else None
    elif metric == "candidates":
        counted = record.details.get("latency", {}).get("candidates")
        found = float(counted["median"]) if counted else None
    return None if found is None or not math.isfinite(found) else found / SCALE.get(column.unit, 1)


def values(records: Sequence[Record], column: Column) -> list[float]:
    """Return what records say of a column, one a seed."""
    return [found for record in records if (found := value(record, column)) is not None]


def lacking(record: Record, column: Column) -> str:
    """Say why a record has nothing to say of a column."""
    rough = latencies.rough(record)
    name = INVERTED.get(str(column.metric), str(column.metric))
    if rough is not None and name in record.metrics:
        return f"its time is rough: {rough}"
    return record.absent.get(name, f"its record has no {name}")


def ratio(a: Sequence[Record], b: Sequence[Record], column: Column) -> Ratio | None:
    """Return B's time, or speed, over A's; None where a side has none.

    The interval is that over seeds where both have several, else that of the rounds in which both
    were timed in turns.
    """
    first, second = (values(side, column) for side in (a, b))
    if not first or not second:
        return None
    if min(len(first), len(second)) > 1:
        found = differ(np.log(first).tolist(), np.log(second).tolist())
        ends = [None if end is None else math.exp(end) for end in (found.low, found.high)]
        return Ratio(math.exp(found.difference), *ends)
    timed = turns.ratio(a[0], b[0]) if column.metric in IN_TURNS else None
    if timed is None:
        return Ratio(second[0] / first[0])
    if column.metric == "fps":
        return Ratio(1 / timed.ratio, 1 / timed.high, 1 / timed.low)
    return Ratio(*timed)


def device_of(record: Record) -> str:
    """Name what a record was timed on, and how."""
    facts, config = record.environment, record.config
    kind = str(facts.get("device", "an unknown device"))
    model = facts.get("gpu", {}).get("name") if kind.startswith("cuda") else None
    model = model or facts.get("cpu", {}).get("model")
    how = [config.get(f"latency.{name}") for name in ("runtime", "precision")]
    return ", ".join(map(str, filter(None, [model or kind, *how])))


def device_published(column: Column) -> str:
    """Name what a column was timed on, and how, as it is published."""
    parts = (column.device, column.runtime, column.precision)
    return ", ".join(map(str, filter(None, parts)))


def other_setting(table: Table, ours: Ours, given: Given, *, rehearsed: bool) -> str | None:
    """Say how an accuracy that was measured is of another setting than the published one.

    Args:
        table: the table.
        ours: a row that was measured.
        given: what the command line changed.
        rehearsed: whether its study is another than the table's.

    Returns:
        None where it is of the same.
    """
    record = ours.records[0]
    told = [table.other_setting] if table.other_setting else []
    if rehearsed:
        told.append(f"rehearsed by study {record.study}")
    if not _is_coco(record.data):
        told.append(f"on {_data(record)}")
    told += [f"with {text}" for text in given.sets if not text.startswith(NO_SETTING)]
    return "; ".join(told) or None


def _is_coco(data: dict[str, Any]) -> bool:
    """Say whether a record was evaluated on the images of COCO 2017's val."""
    images = data.get("val", {}).get("images")
    return images == COCO_VAL_IMAGES and len(data.get("classes", ())) == COCO_CLASSES


def _data(record: Record) -> str:
    images = record.data.get("val", {}).get("images")
    where = record.config.get("data.where")
    chosen = "" if not where else " with " + ", ".join(f"{k} {v}" for k, v in where.items())
    return f"{record.data.get('name', COCO2017)}, {images} images{chosen}"
