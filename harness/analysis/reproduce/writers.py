"""Judged tables as rows, and these as Markdown, LaTeX, CSV and JSON values."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from harness.analysis.reproduce.cells import Cell, Result
from harness.analysis.reproduce.order import RATIO, Comparison
from harness.analysis.reproduce.verdicts import MEANING, UNEXPLAINED, VERDICTS, decimals
from harness.records.escaping import in_csv, in_latex, in_markdown

CELLS = {"row": "row", "column": "column", "published": "published", "measured": "measured"}
CELLS |= {"difference": "difference", "verdict": "verdict", "note": "note"}
PAIRS = {"column": "column", "second": "row", "first": "against", "published": "published"}
PAIRS |= {"measured": "measured", "verdict": "here", "note": "note"}
NOTHING = "–"


class Noted(NamedTuple):
    """Rows as people read them, whose reasons stand below, equal ones once."""

    rows: list[dict[str, str]]
    notes: list[str]


def cells(result: Result) -> Noted:
    """Return the cells of a table, keys as `CELLS` has them."""
    rows = [{**_shown(cell), "reason": cell.reason} for cell in result.cells]
    return _noted(rows)


def pairs(result: Result) -> Noted:
    """Return the comparisons between the rows of a table, keys as `PAIRS` has them."""
    return _noted([{**_pair(pair), "reason": pair.reason} for pair in result.comparisons])


def key(results: Sequence[Result]) -> dict[str, str]:
    """Return what the verdicts of tables mean, and a word of their reasons; those that stand there.

    Returns:
        Word: meaning.
    """
    there: set[str] = set()
    for result in results:
        there |= {cell.verdict for cell in result.cells} | {p.verdict for p in result.comparisons}
        if any(cell.reason.startswith(UNEXPLAINED) for cell in result.cells):
            there.add(UNEXPLAINED)
    return {word: meaning for word, meaning in MEANING.items() if word in there}


def plain(name: str, results: Sequence[Result], commit: str | None) -> dict[str, Any]:
    """Return JSON values: all cells and comparisons, and what is to be known of each table.

    Args:
        name: what was asked for: a table, a paper or `all`.
        results: its tables.
        commit: of the code that judged; None where that is not known.
    """
    counts = {word: sum(result.counts[word] for result in results) for word in VERDICTS}
    return {
        "table": name,
        "setting": _settings(results),
        "commit": commit,
        "counts": counts,
        "words": key(results),
        "cells": [
            {"table": result.table.id, **cell._asdict()}
            for result in results
            for cell in result.cells
        ],
        "comparisons": [
            {"table": result.table.id, **pair._asdict()}
            for result in results
            for pair in result.comparisons
        ],
        "tables": [
            {
                "id": result.table.id,
                "title": result.table.title,
                "paper_table": result.table.paper_table,
                "study": result.table.study,
                "rehearsed_by": result.rehearsed_by,
                "setting": result.table.setting.model_dump(exclude_none=True),
                "source": list(result.table.source),
                "counts": result.counts,
            }
            for result in results
        ],
    }


def markdown(result: Result) -> str:
    """Write a table with its notes, and the comparisons between its rows, as Markdown."""
    found = cells(result)
    lines = [f"# {in_markdown(result.table.id)}: {in_markdown(result.table.title)}", ""]
    lines += [*(f"- {in_markdown(text)}" for text in about(result)), ""]
    lines += [*markdown_table(CELLS, found.rows), "", *_numbered(found.notes)]
    if result.comparisons:
        compared = pairs(result)
        lines += ["", "## Comparisons between rows", ""]
        lines += [*markdown_table(PAIRS, compared.rows), "", *_numbered(compared.notes)]
    lines += ["", *(f"- {in_markdown(word)}: {told}" for word, told in key([result]).items())]
    return "\n".join(lines).rstrip() + "\n"


def latex(result: Result) -> str:
    """Write a table with its notes as LaTeX; it needs the package booktabs."""
    found = cells(result)
    lines = [
        r"\begin{table}",
        r"\centering\footnotesize\setlength{\tabcolsep}{3pt}",
        rf"\caption{{{in_latex(result.table.title)} ({in_latex(result.table.id)})}}",
        r"\begin{tabular}{lllrrll}",
        r"\toprule",
        _latex_row(CELLS.values()),
        r"\midrule",
        *(_latex_row(_minus(row[key]) for key in CELLS) for row in found.rows),
        r"\bottomrule",
        r"\end{tabular}",
        *(rf"\par {number}: {in_latex(text)}" for number, text in enumerate(found.notes, 1)),
        *(rf"\par {in_latex(word)}: {in_latex(told)}" for word, told in key([result]).items()),
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def to_csv(results: Sequence[Result]) -> str:
    """Write the cells of tables as CSV, numbers as they are; no cell is a formula."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(["table", *Cell._fields])
    for result in results:
        for cell in result.cells:
            writer.writerow([in_csv(value) for value in (result.table.id, *cell)])
    return stream.getvalue()


def about(result: Result) -> list[str]:
    """Say in a few lines what a table is and what stands beside it."""
    table = result.table
    where = f"{table.paper_table}; " if table.paper_table else ""
    lines = [f"published: {where}{'; '.join(table.source)}"]
    told = table.setting.model_dump(exclude_none=True)
    if told:
        lines.append("setting: " + "; ".join(f"{name}: {text}" for name, text in told.items()))
    if result.rehearsed_by:
        lines.append(f"accuracy and times: rehearsed by study {result.rehearsed_by}")
    counts = ", ".join(f"{count} {word}" for word, count in result.counts.items() if count)
    return [*lines, f"{len(result.cells)} cells: {counts}"]


def _settings(results: Sequence[Result]) -> dict[str, Any]:
    """Return the setting of a single table; of several, each has its own."""
    return results[0].table.setting.model_dump(exclude_none=True) if len(results) == 1 else {}


def _shown(cell: Cell) -> dict[str, str]:
    """Write a cell for people."""
    unit = f" ({cell.unit})" if cell.unit else ""
    published = cell.printed
    if cell.unit == RATIO and cell.published is not None:
        published = f"x{cell.published:.2f}"
    return {
        "row": cell.row,
        "column": f"{cell.column}{unit}",
        "published": published,
        "measured": cell.shown or NOTHING,
        "difference": _difference(cell),
        "verdict": cell.verdict,
    }


def _difference(cell: Cell) -> str:
    if cell.difference is None:
        return NOTHING
    digits = 2 if cell.unit == RATIO else decimals(cell.printed)
    return f"{cell.difference:+.{digits}f}" if cell.difference else "0"


def _pair(pair: Comparison) -> dict[str, str]:
    """Write a comparison for people."""
    unit = f" ({pair.unit})" if pair.unit else ""

    def text(value: float) -> str:
        return f"x{value:.2f}" if pair.unit == RATIO else f"{value:+.2f}"

    interval = ""
    if pair.low is not None and pair.high is not None:
        interval = f" ({text(pair.low)} to {text(pair.high)})"
    return {
        "column": f"{pair.column}{unit}",
        "first": pair.first,
        "second": pair.second,
        "published": text(pair.published),
        "measured": f"{text(pair.measured)}{interval}",
        "verdict": pair.verdict,
    }


def _noted(rows: Sequence[Mapping[str, str]]) -> Noted:
    """Put the reasons of rows below, numbered, equal ones once."""
    notes = list(dict.fromkeys(row["reason"] for row in rows if row["reason"]))
    numbers = {text: str(number) for number, text in enumerate(notes, 1)}
    return Noted([{**row, "note": numbers.get(row["reason"], "")} for row in rows], notes)


def markdown_table(columns: Mapping[str, str], rows: Sequence[Mapping[str, str]]) -> list[str]:
    """Return the lines of a table in Markdown.

    Args:
        columns: key of a row: heading.
        rows: texts.
    """
    lines = [list(columns.values()), ["---"] * len(columns)]
    lines += [[in_markdown(row[key]) for key in columns] for row in rows]
    return ["| " + " | ".join(line) + " |" for line in lines]


def _numbered(notes: Sequence[str]) -> list[str]:
    return [f"{number}. {in_markdown(text)}" for number, text in enumerate(notes, 1)]


def _minus(text: str) -> str:
    """Write the sign of a number as a minus, where LaTeX would set a hyphen."""
    return re.sub(r"^-(?=[\d.]+$)", "−", text)


def _latex_row(texts: Any) -> str:
    return " & ".join(map(in_latex, texts)) + r" \\"
