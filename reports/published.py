"""A published table beside what was measured here, as `detbench reproduce` judges it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import plotly.graph_objects as go

from reports import figures, notes, theme
from reports.canvas import View, axis, categories, figure, legend, safe, shorten, tall
from reports.columns import Column
from reports.display import DASH, MINUS, Cell, Table
from reports.points import Bound

RATIO = "ratio"  # unit of times, which are set beside another device's as ratios to the first row
CELLS = (
    Column("row", "", "row", "of the published table", kind="text"),
    Column("column", "", "column", "of the published table, with its unit", kind="text"),
    Column("published", "", "published", "as it is printed; of times, the ratio to the first row"),
    Column("measured", "", "here", "the mean over seeds, to the printed digit"),
    Column("difference", "", "difference", "here less published", kind="signed"),
    Column("verdict", "", "verdict", "of detbench reproduce; the reason stands below", kind="text"),
)
PAIRS = (
    Column("column", "", "column", "of the published table, with its unit", kind="text"),
    Column("second", "", "row", "of the published table", kind="text"),
    Column("first", "", "against", "of the published table", kind="text"),
    Column("published", "", "published", "difference of the two printed figures, or their ratio"),
    Column("measured", "", "here", "the same, with its 95 % interval"),
    Column("verdict", "", "here it", "whether the published order appears here", kind="text"),
)
NOTE = (
    "A hollow square is published, a dot is measured here, its bar the 95 % interval over seeds"
    " where there are several. Times are ratios to the table's first row, as they are of another"
    " device. The verdicts are those of the table above; what the architecture determines, such as"
    " parameters, is in detbench reproduce."
)


class Pair(NamedTuple):
    """A printed figure and ours."""

    row: str
    published: float
    measured: Bound
    verdict: str


def pairs(result: Mapping[str, Any]) -> dict[str, list[Pair]]:
    """Set figures beside each other, by column with its unit.

    Those that nothing repeats are left out, and columns in which that leaves a single one.

    Args:
        result: what `detbench reproduce TABLE --json` prints.
    """
    found: dict[str, list[Pair]] = {}
    for cell in result["cells"]:
        if cell["published"] is not None and cell["measured"] is not None:
            pair = Pair(cell["row"], cell["published"], _bound(cell), cell["verdict"])
            found.setdefault(_column(cell), []).append(pair)
    return {name: column for name, column in found.items() if len(column) > 1}


def _bound(cell: Mapping[str, Any]) -> Bound:
    """Return what was measured, with its interval: a ratio's own, else that of the difference."""
    low, high, base = cell["low"], cell["high"], cell["published"]
    if low is None or high is None:
        return Bound(cell["measured"])
    shift = 0.0 if cell["unit"] == RATIO else base
    return Bound(cell["measured"], low + shift, high + shift)


def _column(cell: Mapping[str, Any]) -> str:
    return f"{cell['column']} ({cell['unit']})" if cell["unit"] else str(cell["column"])


class Shown(NamedTuple):
    """A published table as a page shows it."""

    title: str
    counts: str
    cells: Table
    pairs: Table
    words: Mapping[str, str]  # of the verdicts that stand there: what each means


def shown(result: Mapping[str, Any]) -> Shown:
    """Lay out all that a page shows of a published table."""
    cells, words = cell_table(result), result.get("words", {})
    return Shown(title(result), counts(result), cells, pair_table(result), words)


def title(result: Mapping[str, Any]) -> str:
    """Name the table, and where it stands."""
    (table,) = result["tables"]
    where = f", {table['paper_table']}" if table["paper_table"] else ""
    return f"{table['title']} ({table['id']}{where})"


def counts(result: Mapping[str, Any]) -> str:
    """Say in words how many cells have which verdict."""
    told = ", ".join(f"{count} {word}" for word, count in result["counts"].items() if count)
    number = len(result["cells"])
    return f"{number} printed figure{'s' if number != 1 else ''}: {told}."


def cell_table(result: Mapping[str, Any]) -> Table:
    """Lay out every printed figure with ours and the verdict; reasons are footnotes, each once."""
    cells = result["cells"]
    marks, reasons = _footnotes(cells)
    rows = [
        [
            Cell(cell["row"], cell["row"], style="key"),
            Cell(_column(cell), _column(cell), style="key"),
            Cell(_published(cell), cell["published"]),
            _measured(cell),
            Cell(_signed(cell["difference"], _decimals(cell)), cell["difference"]),
            Cell(cell["verdict"], cell["verdict"], notes=marks[place], style="key"),
        ]
        for place, cell in enumerate(cells)
    ]
    return Table(list(CELLS), rows, reasons, [])


def pair_table(result: Mapping[str, Any]) -> Table:
    """Lay out the pairs of rows, and whether their published order appears here."""
    found = result["comparisons"]
    marks, reasons = _footnotes(found)
    rows = [
        [
            Cell(_column(pair), _column(pair), style="key"),
            Cell(pair["second"], pair["second"], style="key"),
            Cell(pair["first"], pair["first"], style="key"),
            Cell(_change(pair, pair["published"]), pair["published"]),
            Cell(_change(pair, pair["measured"]), pair["measured"], small=_ends(pair)),
            Cell(pair["verdict"], pair["verdict"], notes=marks[place], style="key"),
        ]
        for place, pair in enumerate(found)
    ]
    return Table(list(PAIRS), rows, reasons, [])


def _footnotes(items: Sequence[Mapping[str, Any]]) -> tuple[list[tuple[str, ...]], list[str]]:
    """Return each item's letter, and the reasons, equal ones once."""
    reasons = list(dict.fromkeys(item["reason"] for item in items if item["reason"]))
    letters = {text: (notes.letter(place),) for place, text in enumerate(reasons)}
    return [letters.get(item["reason"], ()) for item in items], reasons


def _published(cell: Mapping[str, Any]) -> str:
    is_ratio = cell["unit"] == RATIO and cell["published"] is not None
    return f"×{cell['published']:.2f}" if is_ratio else str(cell["printed"])


def _measured(cell: Mapping[str, Any]) -> Cell:
    if cell["measured"] is None:
        return Cell(DASH, None, style="missing")
    bound, digits = _bound(cell), max(_decimals(cell), 1)
    known = bound.low is not None and bound.high is not None
    small = f"{bound.low:.{digits}f} to {bound.high:.{digits}f}" if known else ""
    return Cell(cell["shown"].replace("x", "×"), cell["measured"], small)


def _decimals(cell: Mapping[str, Any]) -> int:
    return 2 if cell["unit"] == RATIO else len(str(cell["printed"]).partition(".")[2])


def _change(pair: Mapping[str, Any], value: float) -> str:
    return f"×{value:.2f}" if pair["unit"] == RATIO else _signed(value, 2)


def _ends(pair: Mapping[str, Any]) -> str:
    if pair["low"] is None or pair["high"] is None:
        return ""
    return f"{_change(pair, pair['low'])} to {_change(pair, pair['high'])}"


def _signed(value: float | None, digits: int) -> str:
    if value is None:
        return DASH
    text = f"{abs(value):.{digits}f}"
    return text if not float(text) else f"{'+' if value > 0 else MINUS}{text}"


def pairs_figure(found: Mapping[str, Sequence[Pair]]) -> go.Figure:
    """Draw printed figures and ours row by row, a column at a time."""
    traces: list[Any] = []
    views: list[View] = []
    for name, column in found.items():
        shown = [len(traces), len(traces) + 1]
        labels = _labels(column)
        changes = {"xaxis.title.text": safe(name), "yaxis.categoryarray": labels}
        views.append(View(name, shown, changes))
        traces += [_printed(column, labels), _ours(column, labels)]
        for trace in traces[-2:]:
            trace.visible = len(views) == 1
    first_name, first = next(iter(found.items()))
    rows = max(len(column) for column in found.values())
    x, y = axis(safe(first_name)), categories(_labels(first))
    return figure(
        traces, x, y, height=tall(rows) + 40, views=views, legend=legend(), showlegend=True
    )


def _labels(column: Sequence[Pair]) -> list[str]:
    """Name rows, cut where they stay apart."""
    names = [safe(pair.row) for pair in column]
    cut = [safe(shorten(pair.row)) for pair in column]
    return cut if len(set(cut)) == len(set(names)) else names


def _printed(column: Sequence[Pair], labels: list[str]) -> go.Scatter:
    marker = {"symbol": "square-open", "size": 12, "color": theme.INK, "line": {"width": 1.6}}
    return go.Scatter(
        x=[pair.published for pair in column],
        y=labels,
        name="published",
        mode="markers",
        marker=marker,
        hovertemplate="%{y}: published %{x:.4g}<extra></extra>",
    )


def _ours(column: Sequence[Pair], labels: list[str]) -> go.Scatter:
    return go.Scatter(
        x=[pair.measured.value for pair in column],
        y=labels,
        error_x=figures.bars([pair.measured for pair in column], theme.BLUE),
        name="measured here",
        mode="markers",
        marker={"size": 9, "color": theme.BLUE},
        customdata=[safe(pair.verdict) for pair in column],
        hovertemplate="%{y}: here %{x:.4g}, %{customdata}<extra></extra>",
    )
