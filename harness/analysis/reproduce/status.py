"""How far the published tables are reproduced: one page over all of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import get_args

from harness.analysis.reproduce.cells import Cell, Result
from harness.analysis.reproduce.counts import COUNTED
from harness.analysis.reproduce.verdicts import UNEXPLAINED, VERDICTS, Order
from harness.analysis.reproduce.writers import markdown_table
from harness.records.escaping import in_markdown

ORDERS: tuple[str, ...] = get_args(Order)
COLUMNS: dict[str, str] = {"table": "table", "cells": "cells"}
COLUMNS |= {word: word for word in VERDICTS}
COLUMNS |= {"pairs": "pairs of rows compared", "appears": "appear"}
COLUMNS |= {"contradicts": "contradicted", "open": "not settled here"}


def status(results: Sequence[Result]) -> str:
    """Write the page; nothing in it depends on the machine or the moment."""
    rows = [_row(result) for result in results]
    total = {key: str(sum(int(row[key]) for row in rows)) for key in COLUMNS if key != "table"}
    lines = ["# How far the published tables are reproduced", ""]
    lines += ["Made by `detbench reproduce` from finished trials; nothing is written by hand.", ""]
    lines += [*markdown_table(COLUMNS, [*rows, {"table": "all", **total}]), ""]
    lines += _architecture(results)
    lines += ["", "## What is missing", ""]
    return "\n".join([*lines, *_missing(results)]) + "\n"


def _row(result: Result) -> dict[str, str]:
    orders = Counter(pair.verdict for pair in result.comparisons)
    numbers = {"cells": len(result.cells), **result.counts, "pairs": len(result.comparisons)}
    numbers |= {"appears": orders["appears"], "contradicts": orders["contradicts"]}
    numbers["open"] = orders["not settled"]
    return {"table": result.table.id, **{key: str(value) for key, value in numbers.items()}}


def _architecture(results: Sequence[Result]) -> list[str]:
    """List what architecture determines: how much comes out as printed, and each exception."""
    every = [
        (result, cell)
        for result in results
        for cell in result.cells
        if cell.verdict != "outside" and result.table.column(cell.column).metric in COUNTED
    ]
    differing = [(result, cell) for result, cell in every if cell.verdict != "reproduced"]
    unexplained = [cell for _, cell in differing if cell.reason.startswith(UNEXPLAINED)]
    lines = [
        "## What architecture determines",
        "",
        f"{len(every)} cells are counted: {len(every) - len(differing)} to the printed digit,"
        f" {len(differing)} otherwise, of which {len(unexplained)} unexplained.",
        "",
    ]
    return [*lines, *(_exception(result, cell) for result, cell in differing)]


def _exception(result: Result, cell: Cell) -> str:
    where = in_markdown(f"{result.table.id}, {cell.row}, {cell.column}")
    return f"- {where}: printed {cell.printed}, counted {cell.shown}: {in_markdown(cell.reason)}"


def _missing(results: Sequence[Result]) -> list[str]:
    """List for each table what runs what was not run, and why something is outside."""
    lines = []
    for result in results:
        runs = Counter(
            f"`{cell.command}`" if cell.command else in_markdown(cell.reason)
            for cell in result.cells
            if cell.verdict == "not run"
        )
        outside = Counter(cell.reason for cell in result.cells if cell.verdict == "outside")
        told = [f"{_cells(count)} not run: {text}" for text, count in runs.items()]
        told += [f"{_cells(count)} outside: {in_markdown(text)}" for text, count in outside.items()]
        if result.table.outside and not result.cells:
            told.append(f"outside: {in_markdown(result.table.outside)}")
        if result.table.missing:
            told.append(f"not printed in any source read: {in_markdown(result.table.missing)}")
        if told:
            lines += [f"- {in_markdown(result.table.id)}", *(f"  - {text}" for text in told)]
    return lines


def _cells(count: int) -> str:
    return "1 cell" if count == 1 else f"{count} cells"
