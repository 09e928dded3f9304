"""Printed figures beside ours: numbers by hand, the tables and the figure."""

from __future__ import annotations

import csv
import io
import json
import re
from base64 import b64decode
from pathlib import Path
from typing import Any

import pytest

from reports import published, site
from reports.findings import Findings
from reports.points import Bound
from tests.reports.conftest import make_record


def cell(row: str, column: str, printed: str, **changes: Any) -> dict[str, Any]:
    fields = {
        "table": "toy/width",
        "row": row,
        "column": column,
        "published": float(printed),
        "measured": None,
        "difference": None,
        "verdict": "not run",
        "reason": "detbench run toy",
        "printed": printed,
        "shown": "",
        "low": None,
        "high": None,
        "unit": "%",
        "command": "detbench run toy",
    }
    return fields | changes


def result() -> dict[str, Any]:
    """Two rows: an accuracy with its interval, and a time as a ratio; one was not run."""
    own = "95 % interval of the difference -0.5 to +0.7, 3 seeds"
    ours: dict[str, Any] = {"measured": 40.1, "difference": 0.1, "low": -0.5, "high": 0.7}
    times = {"unit": "ratio", "verdict": "other setting", "reason": "on another device"}
    cells = [
        cell("4", "AP", "40.0", **ours, verdict="not settled", shown="40.1", reason=own),
        cell("8", "AP", "42.0", measured=41.0, difference=-1.0, verdict="differs", shown="41.0",
             reason=own),
        cell("16", "AP", "43.0"),
        cell("4", "time", "2.0", **times, published=1.0, measured=1.0, difference=0.0,
             shown="x1.00"),
        cell("8", "time", "3.0", **times, published=1.5, measured=1.6, difference=0.1,
             low=1.55, high=1.66, shown="x1.60"),
    ]  # fmt: skip
    pair = {"table": "toy/width", "first": "4", "second": "8", "reason": ""}
    return {
        "table": "toy/width",
        "counts": {"not settled": 1, "differs": 1, "other setting": 2, "not run": 1, "outside": 0},
        "cells": cells,
        "comparisons": [
            {**pair, "column": "AP", "published": 2.0, "measured": 0.9, "low": 0.2, "high": 1.6,
             "verdict": "appears", "unit": "%"},
            {**pair, "column": "time", "published": 1.5, "measured": 1.6, "low": None,
             "high": None, "verdict": "not settled", "unit": "ratio", "reason": "one seed"},
        ],
        "words": {"other setting": "another device <b>"},
        "tables": [{"id": "toy/width", "title": "Width", "paper_table": "Table 5 (a)"}],
    }  # fmt: skip


def test_figures_that_were_measured_stand_beside_each_other() -> None:
    found = published.pairs(result())
    assert list(found) == ["AP (%)", "time (ratio)"]
    first, second = found["AP (%)"]
    assert (first.row, first.published, first.verdict) == ("4", 40.0, "not settled")
    assert first.measured == pytest.approx(Bound(40.1, 39.5, 40.7))  # the difference's, shifted
    assert second.measured == Bound(41.0)
    assert found["time (ratio)"][1].measured == Bound(1.6, 1.55, 1.66)  # the ratio's own


def test_a_column_with_a_single_figure_is_not_drawn() -> None:
    one = result()
    one["cells"] = [one["cells"][0], *one["cells"][2:]]
    assert list(published.pairs(one)) == ["time (ratio)"]


def test_the_table_has_every_printed_figure_and_the_verdicts_words() -> None:
    made = published.cell_table(result())
    texts = [[item.text for item in row] for row in made.rows]
    assert texts == [
        ["4", "AP (%)", "40.0", "40.1", "+0.1", "not settled"],
        ["8", "AP (%)", "42.0", "41.0", "−1.0", "differs"],
        ["16", "AP (%)", "43.0", "–", "–", "not run"],
        ["4", "time (ratio)", "×1.00", "×1.00", "0.00", "other setting"],
        ["8", "time (ratio)", "×1.50", "×1.60", "+0.10", "other setting"],
    ]
    assert made.rows[0][3].small == "39.5 to 40.7"
    assert [row[-1].notes for row in made.rows] == [("a",), ("a",), ("b",), ("c",), ("c",)]
    assert made.notes[1] == "detbench run toy"


def test_pairs_of_rows_say_whether_the_order_appears() -> None:
    made = published.pair_table(result())
    assert [[item.text for item in row] for row in made.rows] == [
        ["AP (%)", "8", "4", "+2.00", "+0.90", "appears"],
        ["time (ratio)", "8", "4", "×1.50", "×1.60", "not settled"],
    ]
    assert made.rows[0][4].small == "+0.20 to +1.60"


def test_the_figure_shows_a_column_at_a_time() -> None:
    made = published.pairs_figure(published.pairs(result()))
    assert [view["traces"] for view in made.layout.meta["views"]] == [[0, 1], [2, 3]]
    printed, ours = made.data[:2]
    assert (list(printed.x), list(ours.x)) == ([40.0, 42.0], [40.1, 41.0])
    assert ours.error_x.array == pytest.approx((0.6, 0.0))
    assert list(ours.customdata) == ["not settled", "differs"]
    assert [trace.visible for trace in made.data] == [True, True, False, False]


def test_both_tables_are_downloaded_as_they_were_judged() -> None:
    told = result()
    told["cells"][0]["row"] = "=2+3"
    page = site.render(
        [make_record("a")], Path(), findings=Findings(published=told), title="Width", question="",
        source="", answer="", command="",
    )  # fmt: skip
    kinds = r'download="(Width-(?:published|order)\.(?:csv|json))" href="[^"]*base64,([^"]*)"'
    files = {name: b64decode(text).decode() for name, text in re.findall(kinds, page)}
    rows = list(csv.DictReader(io.StringIO(files["Width-published.csv"])))
    assert [row["row"] for row in rows] == ["'=2+3", "8", "16", "4", "8"]  # no formula
    assert [row["measured"] for row in rows] == ["40.1", "41.0", "", "1.0", "1.6"]
    assert [row["printed"] for row in rows] == ["40.0", "42.0", "43.0", "2.0", "3.0"]
    assert (rows[0]["low"], rows[2]["verdict"]) == ("-0.5", "not run")
    assert json.loads(files["Width-published.json"]) == told["cells"]
    assert json.loads(files["Width-order.json"]) == told["comparisons"]
    pairs = list(csv.DictReader(io.StringIO(files["Width-order.csv"])))
    assert [row["verdict"] for row in pairs] == ["appears", "not settled"]
    told["comparisons"] = []
    alone = site.render(
        [make_record("a")], Path(), findings=Findings(published=told), title="Width", question="",
        source="", answer="", command="",
    )  # fmt: skip
    assert "Width-order" not in alone
    assert "Width-published.csv" in alone


def test_names_are_told_in_words() -> None:
    shown = published.shown(result())
    assert shown.title == "Width (toy/width, Table 5 (a))"
    assert shown.counts == (
        "5 printed figures: 1 not settled, 1 differs, 2 other setting, 1 not run."
    )
