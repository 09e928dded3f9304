"""Published tables that nobody printed: of the toy detector, and the records that repeat them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from harness.analysis.reproduce.schema import Table
from harness.records import Record
from tests.reports.conftest import make_record

COLUMNS: list[dict[str, Any]] = [
    {"name": "width"},
    {"name": "params", "unit": "M", "metric": "params"},
    {"name": "flops", "unit": "G", "metric": "flops", "conventions": ("macs",)},
    {"name": "latency", "unit": "ms", "metric": "latency_ms", "device": "T4", "runtime": "RT"},
    {"name": "AP", "unit": "%", "metric": "mAP"},
]
DATA = {
    "name": "coco2017",
    "fingerprint": "f1",
    "classes": [str(number) for number in range(80)],
    "train": {"images": 117_266},
    "val": {"images": 5000},
}
SMALL = {**DATA, "name": "bccd", "classes": ["a", "b", "c"], "val": {"images": 87}}


def row(width: int, **changes: Any) -> dict[str, Any]:
    """Return the printed row of a width, with cells replaced."""
    printed: dict[int, dict[str, Any]] = {
        4: {"params": "0.000822", "flops": "0.00005171", "latency": "2.0", "AP": "40.0"},
        8: {"params": "0.001634", "flops": "0.00010342", "latency": "3.0", "AP": "42.0"},
    }
    own = {"width": str(width), **printed[width], "repeat": {"trial": f"width={width}"}}
    return own | changes


def table(study: str | Path | None, rows: list[dict[str, Any]] | None = None, **more: Any) -> Table:
    """Make a table that a study of the toy detector repeats."""
    tree = {
        "id": "toy/width",
        "title": "Width of the hidden layer",
        "varied": "width",
        "columns": COLUMNS,
        "rows": rows or [row(4), row(8)],
        "study": None if study is None else str(study),
        "status": "made up",
        "source": ["this file"],
    }
    return Table.model_validate(tree | more)


def trained(width: int, seed: int, ap: float, **changes: Any) -> Record:
    """Make the record of a trial of the toy study, on COCO."""
    fields = {
        "study": "toy",
        "name": f"width={width}",
        "detector": "tests.toy:TOY",
        "overrides": {"detector.width": width},
        "config": {"detector.width": width, "latency.runtime": "eager"},
        "seed": seed,
        "metrics": {"mAP": ap / 100, "latency_ms": (10.0 if width == 4 else 16.0) * 1.001**seed},
        "data": DATA,
        "details": {},
    }
    return make_record(f"w{width}s{seed}", **{**fields, **changes})


def put(runs: Path, *records: Record) -> Path:
    """Leave records in a folder of runs."""
    for record in records:
        record.write(runs / record.study / record.trial)
    return runs
