"""Where accuracy is won and lost: by class, size of object, IoU and kind of error."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any, NamedTuple

import plotly.graph_objects as go

from harness.records import Record
from reports import tables, theme
from reports.canvas import View, axis, figure, legend, safe, shorten

MOST_VARIANTS = len(theme.SERIES)
MOST_CLASSES = 24
SIZES = {"mAP_s": "small", "mAP_m": "medium", "mAP_l": "large"}
ERRORS = {
    "Cls": "wrong class",
    "Loc": "badly placed",
    "Both": "wrong class and badly placed",
    "Dupe": "found twice",
    "Bkg": "nothing there",
    "Miss": "missed",
}
"""Kinds of error by TIDE's names.

Source: Bolya et al., TIDE (2020), arXiv:2008.08115, sec. 2.2.
"""


class Breakdown(NamedTuple):
    """One way to take accuracy apart."""

    name: str
    unit: str
    labels: list[str]  # classes, sizes, ...
    variants: list[str]
    values: list[list[list[float]]]  # by variant and label, one a trial


def breakdowns(records: Sequence[Record]) -> list[Breakdown]:
    """Take the accuracy of variants apart, every trial by itself; empty where nothing is known.

    Of many variants those with the greatest mAP are shown, of many classes those whose AP differs
    most between these.
    """
    groups = shown([r for r in records if r.state == "done" and "mAP" in r.metrics])
    names = tables.knobs(records)
    variants = [tables.settings(group[0], names) for group in groups]
    ways: list[tuple[str, str, Callable[[Record], dict[str, float]]]] = [
        ("AP by class", "AP (%)", lambda record: _part(record, "per_class")),
        ("AP by size of object", "AP (%)", _sizes),
        ("AP by IoU that counts as found", "AP (%)", lambda record: _part(record, "per_iou")),
        ("points lost by kind of error", "points of AP at IoU 0.50 (TIDE)", _errors),
    ]
    made = [_breakdown(name, unit, variants, groups, read) for name, unit, read in ways]
    return [each for each in made if each.labels]


def shown(records: Sequence[Record]) -> list[list[Record]]:
    """Return the trials of each variant; of many variants, those with the greatest mAP."""
    groups = tables.variants(records)
    if len(groups) <= MOST_VARIANTS:
        return groups
    best = sorted(groups, key=lambda group: -fmean(r.metrics["mAP"] for r in group))
    kept = {group[0].trial for group in best[:MOST_VARIANTS]}
    return [group for group in groups if group[0].trial in kept]


def _breakdown(
    name: str,
    unit: str,
    variants: list[str],
    groups: Sequence[Sequence[Record]],
    read: Callable[[Record], dict[str, float]],
) -> Breakdown:
    parts = [[read(record) for record in group] for group in groups]
    labels = list(dict.fromkeys(label for group in parts for found in group for label in found))
    values = {
        label: [[100 * found[label] for found in group if label in found] for group in parts]
        for label in labels
    }
    if len(labels) > MOST_CLASSES:
        apart = sorted(labels, key=lambda label: -_spread(values[label]))[:MOST_CLASSES]
        labels = [label for label in labels if label in apart]
    by_variant = [[values[label][index] for label in labels] for index in range(len(groups))]
    return Breakdown(name, unit, labels, variants, by_variant)


def _spread(by_variant: Sequence[Sequence[float]]) -> float:
    means = [fmean(found) for found in by_variant if found]
    return max(means) - min(means) if means else 0.0


def _part(record: Record, name: str) -> dict[str, float]:
    found = record.details.get("accuracy")
    part: Any = found.get(name) if isinstance(found, Mapping) else None
    return _numbers(part) if isinstance(part, Mapping) else {}


def _sizes(record: Record) -> dict[str, float]:
    return {name: record.metrics[key] for key, name in SIZES.items() if key in record.metrics}


def _errors(record: Record) -> dict[str, float]:
    found = record.details.get("accuracy")
    tide: Any = found.get("tide") if isinstance(found, Mapping) else None
    lost: Any = tide.get("delta_ap") if isinstance(tide, Mapping) else None
    numbers = _numbers(lost) if isinstance(lost, Mapping) else {}
    return {name: numbers[key] for key, name in ERRORS.items() if key in numbers}


def _numbers(part: Mapping[str, Any]) -> dict[str, float]:
    return {str(key): float(v) for key, v in part.items() if isinstance(v, int | float)}


def breakdown_figure(found: Sequence[Breakdown]) -> go.Figure:
    """Draw every trial as a dot and the mean over seeds as a line across, a way at a time."""
    traces: list[Any] = []
    views: list[View] = []
    for each in found:
        made = _dots(each, visible=not views)
        shown = list(range(len(traces), len(traces) + len(made)))
        views.append(View(each.name, shown, _layout(each)))
        traces += made
    first = found[0]
    x = axis(first.unit, rangemode="tozero")
    y = axis("", range=[len(first.labels) - 0.5, -0.5], ticks="", **_ticks(first)) | {"title": None}
    return figure(
        traces, x, y, height=_height(first), views=views, legend=legend(), showlegend=True
    )


def _layout(each: Breakdown) -> dict[str, Any]:
    changes = {f"yaxis.{key}": value for key, value in _ticks(each).items()}
    span = {"yaxis.range": [len(each.labels) - 0.5, -0.5], "height": _height(each)}
    return {"xaxis.title.text": each.unit, **changes, **span}


def _ticks(each: Breakdown) -> dict[str, Any]:
    names = [safe(shorten(label, 28)) for label in each.labels]
    return {"tickvals": list(range(len(names))), "ticktext": names}


def _height(each: Breakdown) -> int:
    return 190 + len(each.labels) * (14 + 6 * len(each.variants))


def _dots(each: Breakdown, *, visible: bool) -> list[go.Scatter]:
    count = len(each.variants)
    traces = []
    for index, (variant, values) in enumerate(zip(each.variants, each.values, strict=True)):
        shift = 0.0 if count < 2 else 0.6 * (index / (count - 1) - 0.5)
        color, name = theme.SERIES[index % len(theme.SERIES)], safe(shorten(variant, 36))
        symbol = theme.SYMBOLS[index % len(theme.SYMBOLS)]
        places = [(label, place + shift) for place, label in enumerate(each.labels)]
        pairs = list(zip(places, values, strict=True))
        dots = [(v, y, label) for (label, y), found in pairs for v in found]
        means = [(fmean(found), y) for (_, y), found in pairs if len(found) > 1]
        traces.append(
            go.Scatter(
                x=[x for x, *_ in dots],
                y=[y for _, y, _ in dots],
                name=name,
                legendgroup=name,
                mode="markers",
                marker={"size": 7, "color": color, "symbol": symbol},
                customdata=[safe(label) for *_, label in dots],
                visible=visible,
                hovertemplate=f"%{{customdata}}: %{{x:.4g}}<extra>{name}</extra>",
            )
        )
        traces.append(
            go.Scatter(
                x=[x for x, _ in means],
                y=[y for _, y in means],
                legendgroup=name,
                showlegend=False,
                mode="markers",
                marker={"symbol": "line-ns", "size": 11, "line": {"width": 2, "color": color}},
                visible=visible,
                hovertemplate=f"mean %{{x:.4g}}<extra>{name}</extra>",
            )
        )
    return traces
