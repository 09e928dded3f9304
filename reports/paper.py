"""A table for a paper: records in, a row a variant out, and this as LaTeX and Markdown.

What is bold is better than every other row by more than chance, what is underlined than every other
but that one. What carries no interval is never bold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from statistics import fmean, stdev
from typing import NamedTuple

from harness.records import Record, latencies, turns
from harness.records.escaping import in_latex, in_markdown
from harness.records.ranking import rank
from harness.records.turns import Ratio
from reports import facts, significance, tables
from reports.against import as_shown
from reports.display import decimals
from reports.significance import Beats, Places, Seeds


class Measure(NamedTuple):
    """A column of numbers."""

    key: str
    heading: str
    unit: str
    scale: float = 1.0
    greater: bool = False  # whether more is better
    places: int | None = None  # decimals; None: three digits of the smallest


class Number(NamedTuple):
    """A cell: the mean over seeds, in the column's unit."""

    mean: float | None
    spread: float | None = None  # standard deviation over seeds
    place: str = ""  # best, second


class Paper(NamedTuple):
    """A table as a paper prints it."""

    title: str
    knobs: list[str]  # headings
    measures: list[Measure]
    settings: list[list[str]]  # by row
    numbers: list[list[Number]]  # by row
    notes: list[str]


MEASURES = (
    Measure("mAP", "mAP", "%", 100, greater=True, places=1),
    Measure("mAP_50", "mAP 50", "%", 100, greater=True, places=1),
    Measure("params", "params", "M", 1e-6),
    Measure("macs", "MACs", "G", 1e-9),
    Measure("latency_ms", "latency", "ms"),
    Measure("nms_ms", "NMS", "ms"),
)
COUNTED = ("params", "macs")


def paper(records: Sequence[Record], title: str) -> Paper:
    """Make a study's table for a paper: a row for each variant that has a trial that is done."""
    done = [record for record in records if record.state == "done"]
    groups = tables.variants(done)
    names = tables.knobs(done)
    measures = [m for m in MEASURES if any(m.key in record.metrics for record in done)]
    columns = [_column(measure, done, groups) for measure in measures]
    settings = [[tables.worded(tables.value(g[0], path)) for path in names] for g in groups]
    if not names:
        settings = [[tables.title(group[0])] for group in groups]
    return Paper(
        title,
        list(names.values()) or ["variant"],
        measures,
        settings,
        [list(row) for row in zip(*columns, strict=True)] if columns else [],
        _notes(done, groups),
    )


def _column(
    measure: Measure, done: Sequence[Record], groups: Sequence[Sequence[Record]]
) -> list[Number]:
    """Return the numbers of a column, the best of them marked if they may be ranked."""
    first = tables.reference(done)
    shown = [[as_shown(record, first) for record in group] for group in groups]
    timed = measure.key.endswith("_ms")
    values = [
        {
            record.seed: record.metrics[measure.key] * measure.scale
            for record in group
            if measure.key in record.metrics and not (timed and latencies.rough(record) is not None)
        }
        for group in shown
    ]
    found = _places(measure, values, done, groups)
    return [
        Number(
            fmean(by_seed.values()) if by_seed else None,
            stdev(by_seed.values()) if len(by_seed) > 1 and measure.key not in COUNTED else None,
            "best" if row == found.best else "second" if row == found.second else "",
        )
        for row, by_seed in enumerate(values)
    ]


def _places(
    measure: Measure,
    values: Sequence[dict[int, float]],
    done: Sequence[Record],
    groups: Sequence[Sequence[Record]],
) -> Places:
    """Find the best rows of a column; none where nothing tells them from chance."""
    beats: Beats | None
    if measure.key in COUNTED:
        means = [fmean(by_seed.values()) if by_seed else None for by_seed in values]
        beats = significance.exactly(means, greater=measure.greater)
    elif not any(measure.key in record.metrics for record in rank(done).records):
        beats = None  # of other data, other machines, or timed apart
    elif any(len(by_seed) > 1 for by_seed in values):
        beats = significance.over_seeds(_seeds(values, groups), greater=measure.greater)
    elif measure.key == "latency_ms":
        beats = significance.by_ratio(_ratios(groups))
    else:
        beats = None  # one seed: the scatter is unknown
    return significance.places(len(values), beats) if beats else Places()


def _seeds(values: Sequence[dict[int, float]], groups: Sequence[Sequence[Record]]) -> Seeds:
    by_trial = {
        record.trial: by_seed[record.seed]
        for group, by_seed in zip(groups, values, strict=True)
        for record in group
        if record.seed in by_seed
    }
    return Seeds(groups, by_trial)


def _ratios(groups: Sequence[Sequence[Record]]) -> Callable[[int, int], Ratio | None]:
    def ratio(i: int, j: int) -> Ratio | None:
        a, b = groups[i][0], groups[j][0]
        rough = latencies.rough(a) is not None or latencies.rough(b) is not None
        return None if rough or turns.unlike(a, b) else turns.ratio(a, b)

    return ratio


def _notes(done: Sequence[Record], groups: Sequence[Sequence[Record]]) -> list[str]:
    """Say how the numbers were measured, and what bold stands for."""
    protocol = [f"{fact.name}: {fact.text}" for fact in facts.facts(done)]
    counts = sorted({len({record.seed for record in group}) for group in groups})
    seeds = " to ".join(dict.fromkeys(map(str, (counts[0], counts[-1])))) if counts else "0"
    several = bool(counts) and counts[-1] > 1
    lead = (
        f"Mean ± standard deviation over {seeds} seeds." if several else "One seed: the scatter"
        " over trainings is unknown, so that no accuracy is marked."
    )  # fmt: skip
    marks = (
        "Bold is better than every other row, underlined than every other but that one, at 95 %"
        " with all of these comparisons allowed for; numbers without a mark are not told apart."
    )
    return [lead, marks, "; ".join(protocol) + "."]


def decimals_of(measure: Measure, numbers: Sequence[Number]) -> int:
    """Return how many decimals a column shows."""
    found = [number.mean for number in numbers if number.mean is not None]
    return decimals(found) if measure.places is None else measure.places


def to_latex(table: Paper) -> str:
    """Write a table as LaTeX; it needs the package booktabs."""
    width = len(table.knobs) + len(table.measures)
    rows = [
        " & ".join([*map(in_latex, settings), *numbers]) + r" \\"
        for settings, numbers in zip(table.settings, _written(table, LATEX), strict=True)
    ]
    headings = [_stacked(re.split(r"(?<=\.)", knob), "l") for knob in table.knobs]
    headings += [_stacked(re.split(r" (?=\()", _heading(m)), "r") for m in table.measures]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering\small\setlength{\tabcolsep}{4pt}",
            rf"\caption{{{in_latex(table.title)}}}",
            rf"\begin{{tabular}}{{{'l' * len(table.knobs)}{'r' * len(table.measures)}}}",
            r"\toprule",
            " & ".join(headings) + r" \\",
            r"\midrule",
            *(rows or [rf"\multicolumn{{{width}}}{{l}}{{no trial is done}} \\"]),
            r"\bottomrule",
            r"\end{tabular}",
            r"\par\smallskip",
            r"\begin{minipage}{\linewidth}\footnotesize",
            *(rf"{in_latex(note)}\par" for note in table.notes),
            r"\end{minipage}",
            r"\end{table}",
            "",
        ]
    )


def _stacked(lines: Sequence[str], side: str) -> str:
    """Write a heading in lines, so that the table fits a page; `l` or `r` is where it is flush."""
    text = r" \\ ".join(map(in_latex, lines))
    return rf"\shortstack[{side}]{{{text}}}" if len(lines) > 1 else text


def to_markdown(table: Paper) -> str:
    """Write a table as Markdown, its notes below it."""
    headings = [*map(in_markdown, table.knobs), *(in_markdown(_heading(m)) for m in table.measures)]
    lines = [
        headings,
        ["---"] * len(table.knobs) + ["---:"] * len(table.measures),
        *(
            [*map(in_markdown, settings), *numbers]
            for settings, numbers in zip(table.settings, _written(table, MARKDOWN), strict=True)
        ),
    ]
    body = ["| " + " | ".join(line) + " |" for line in lines]
    notes = [in_markdown(note) for note in table.notes]
    return "\n\n".join([f"**{in_markdown(table.title)}**", "\n".join(body), *notes]) + "\n"


class _Style(NamedTuple):
    best: str
    second: str
    spread: str
    missing: str


LATEX = _Style(r"\textbf{{{}}}", r"\underline{{{}}}", r" $\pm$ ", "--")
MARKDOWN = _Style("**{}**", "<u>{}</u>", " ± ", "–")


def _written(table: Paper, style: _Style) -> list[list[str]]:
    """Write the numbers of a table, each column with its own decimals."""
    columns = [list(column) for column in zip(*table.numbers, strict=True)]
    digits = [decimals_of(m, column) for m, column in zip(table.measures, columns, strict=True)]
    return [[_number(*each, style) for each in zip(row, digits, strict=True)]
            for row in table.numbers]  # fmt: skip


def _number(number: Number, digits: int, style: _Style) -> str:
    if number.mean is None:
        return style.missing
    text = f"{number.mean:.{digits}f}"
    if number.spread is not None:
        text += f"{style.spread}{number.spread:.{digits}f}"
    emphasis = {"best": style.best, "second": style.second}.get(number.place, "{}")
    return emphasis.format(text)


def _heading(measure: Measure) -> str:
    return f"{measure.heading} ({measure.unit})"
