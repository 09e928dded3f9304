"""The setting that the page of an NMS frontier recommends, and how precise it is."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from harness.records.precision import Precision
from reports import precision
from reports.columns import Column
from reports.display import Cell, Table
from reports.panels import Panel

SHARES = (
    Column("of", "", "of the recommended setting", "which of its boxes", kind="text"),
    Column("score", "", "from score", "boxes of at least this score count"),
    Column("precision", "%", "precision", "share of the boxes that find an object", 1e2),
    Column("recall", "%", "recall", "share of the objects that are found", 1e2),
    Column("f1", "%", "F1", "the harmonic mean of precision and recall", 1e2),
    Column("right", "number of", "right", "boxes that find an object of their class"),
    Column("found", "number of", "boxes", "boxes of at least the score"),
    Column("objects", "number of", "objects", "what is to be found"),
)
CURVES_NOTE = (
    "The recommended setting: the greatest precision at each recall or more, as COCO interpolates"
    f" it. At most {precision.MOST_CLASSES} classes."
)
CONFUSION_NOTE = (
    "The recommended setting. Per cent of a row: what the objects of a class are found as, and, in"
    " the last row, what is found where there is nothing; boxes of at least the score of the"
    " greatest F1. A box finds the object that it overlaps most, by {iou:g} or more and whatever"
    f" its class, the surest first. At most {precision.MOST_CLASSES} classes, those mixed up most."
)


class Advice(NamedTuple):
    """What the page says of the recommended setting."""

    sentence: str
    rule: str
    table: Table
    file: str  # beside the page; empty where nothing was written
    boxes: int


def advice(result: Mapping[str, Any]) -> Advice | None:
    """Lay out how precise the recommended setting is; None without one.

    Args:
        result: what `detbench measure --nms-frontier --json` prints.
    """
    found = result["recommended"]
    if found is None:
        return None
    rows = [
        [Cell(title, style="key"), *(_share(found[key], column) for column in SHARES[1:])]
        for key, title in (("as_set", "all that it finds"), ("at_best_f1", "greatest F1"))
    ]
    file = Path(result["detections"]).name if result["detections"] else ""
    return Advice(found["sentence"], found["rule"], Table(list(SHARES), rows, [], []), file,
                  found["boxes"])  # fmt: skip


def _share(counts: Mapping[str, float], column: Column) -> Cell:
    value = counts[column.key] * column.scale
    places = {"score": 3, "right": 0, "found": 0, "objects": 0}.get(column.key, 1)
    return Cell(f"{value:,.{places}f}", value)


def row(result: Mapping[str, Any]) -> Any:
    """Return the row of the recommended setting; None without one."""
    found = result["recommended"]
    return result["rows"][found["place"]] if found else None


def panels(result: Mapping[str, Any]) -> list[Panel]:
    """Draw how precise the recommended setting is, and what it takes for what."""
    if result["recommended"] is None:
        return []
    found = Precision.model_validate(result["recommended"]["precision"])
    curves, matrix = precision.alone("recommended", found)
    note = CONFUSION_NOTE.format(iou=found.ious[0])
    return [
        Panel(
            "precision", "Precision against recall", CURVES_NOTE, precision.curves_figure(curves)
        ),
        Panel("confusion", "What is taken for what", note, precision.confusion_figure([matrix])),
    ]
