"""Precision against recall, and which classes are taken for which, trial by trial."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import plotly.graph_objects as go

from harness.records import Record
from harness.records.precision import RECALLS, Precision
from reports import tables, theme
from reports.breakdowns import MOST_VARIANTS, shown
from reports.canvas import View, axis, figure, legend, safe, shorten

MOST_CLASSES = 12  # of curves by class, and of a matrix
MOST_MATRICES = 12
CURVES_NOTE = (
    "The greatest precision at each recall or more, as COCO interpolates it; the area below a line"
    " is the AP. A line a trial: a colour is a variant, a dash pattern a seed. At most"
    f" {MOST_VARIANTS} variants, those with the greatest mAP, and {MOST_CLASSES} classes, those"
    " whose AP differs most."
)
CONFUSION_NOTE = (
    "Per cent of a row: what the objects of a class are found as, and, in the last row, what is"
    " found where there is nothing. Only detections of at least the score that the list above"
    " names: there F1 over all classes is greatest for that trial. A detection finds the object"
    " that it overlaps most, by {iou:g} or more and whatever its class, the surest first. At most"
    f" {MOST_CLASSES} classes, those that are mixed up most, and {MOST_MATRICES} trials, the best."
)
MISSED, NOTHING = "missed", "nothing there"

Found = Mapping[str, Precision]
"""By trial."""


class Line(NamedTuple):
    """Precision along recall for one trial."""

    label: str
    variant: int  # index among the variants that are shown
    repeat: int  # index of the trial among its variant's
    values: list[float]  # [RECALLS] in %


class Matrix(NamedTuple):
    """What one trial takes classes for; N classes are shown."""

    label: str
    classes: list[str]  # [N]
    shares: list[list[float]]  # [N + 1, N + 1] % of a row, of all that are in it
    counts: list[list[int]]  # [N + 1, N + 1]


def lines(records: Sequence[Record], found: Found) -> dict[str, list[Line]]:
    """Collect the curves of all classes at each overlap, and those of single classes.

    Args:
        records: of one study.
        found: of its trials.

    Returns:
        By what is shown, most important first; empty where nothing is known.
    """
    known = [record for record in records if _holds(record, found)]
    if not known:
        return {}
    groups = shown(known)
    labels = {r.trial: label for r, label in zip(records, tables.labels(records), strict=True)}
    trials = [(v, n, r) for v, group in enumerate(groups) for n, r in enumerate(group)]
    curves = [found[record.trial] for _, _, record in trials]

    def along(values: list[list[float]]) -> list[Line]:
        rows = zip(trials, values, strict=True)
        return [Line(labels[r.trial], v, n, curve) for (v, n, r), curve in rows if curve]

    first = curves[0]
    whole = {
        f"all classes, IoU {iou:.2f}": along([_over_classes(each, at) for each in curves])
        for at, iou in enumerate(first.ious)
    }
    classes = _differing(curves) if len(first.classes) > 1 else []
    single = {
        f"{name}, IoU {first.ious[0]:.2f}": along([_of_class(each, name) for each in curves])
        for name in classes
    }
    return {name: drawn for name, drawn in (whole | single).items() if drawn}


def _holds(record: Record, found: Found) -> bool:
    return record.state == "done" and record.trial in found and "mAP" in record.metrics


def _over_classes(each: Precision, at: int) -> list[float]:
    """Average over the classes that have objects; nothing without any."""
    curves = [curve for curve in each.curves[at] if curve]
    return (100 * np.mean(curves, axis=0)).tolist() if curves else []


def _of_class(each: Precision, name: str) -> list[float]:
    curve = each.curves[0][each.classes.index(name)] if name in each.classes else []
    return [100 * value for value in curve]


def _differing(curves: Sequence[Precision]) -> list[str]:
    """Return the classes whose AP differs most between trials, in their order."""
    names = list(dict.fromkeys(name for each in curves for name in each.classes))
    means = {
        name: [float(np.mean(curve)) for each in curves if (curve := _of_class(each, name))]
        for name in names
    }
    spread = {name: max(found) - min(found) for name, found in means.items() if found}
    kept = sorted(spread, key=lambda name: -spread[name])[:MOST_CLASSES]
    return [name for name in names if name in kept]


def matrices(records: Sequence[Record], found: Found) -> list[Matrix]:
    """Lay out which classes each trial mixes up, the trial with the greatest mAP first."""
    labels = {r.trial: label for r, label in zip(records, tables.labels(records), strict=True)}
    known = [record for record in records if _holds(record, found)]
    best = sorted(known, key=lambda record: -record.metrics["mAP"])[:MOST_MATRICES]
    chosen = [(labels[record.trial], found[record.trial]) for record in best]
    kept = _mixed_up([each for _, each in chosen])
    return [_matrix(label, each, kept) for label, each in chosen]


def alone(label: str, found: Precision) -> tuple[dict[str, list[Line]], Matrix]:
    """Return the curves and the matrix of one detector, which is no trial of a study."""
    whole = {
        f"all classes, IoU {iou:.2f}": [Line(label, 0, 0, curve)]
        for at, iou in enumerate(found.ious)
        if (curve := _over_classes(found, at))
    }
    names = [name for name in found.classes if _of_class(found, name)][:MOST_CLASSES]
    single = [Line(name, place, 0, _of_class(found, name)) for place, name in enumerate(names)]
    if len(single) > 1:
        whole[f"each class, IoU {found.ious[0]:.2f}"] = single
    return whole, _matrix(label, found, _mixed_up([found]))


def _mixed_up(found: Sequence[Precision]) -> set[str]:
    """Return the classes that are taken for others most often, and others for them."""
    mistakes: dict[str, int] = {}
    for each in found:
        counts = np.array(each.confusion)[:-1, :-1]
        wrong = counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diag(counts)
        for name, more in zip(each.classes, wrong.tolist(), strict=True):
            mistakes[name] = mistakes.get(name, 0) + more
    return set(sorted(mistakes, key=lambda name: -mistakes[name])[:MOST_CLASSES])


def _matrix(label: str, each: Precision, kept: set[str]) -> Matrix:
    places = [place for place, name in enumerate(each.classes) if name in kept]
    counts = np.array(each.confusion)
    totals = np.maximum(counts.sum(axis=1, keepdims=True), 1)
    chosen = np.ix_([*places, -1], [*places, -1])
    at = each.counts
    told = f"precision {at.precision:.0%}, recall {at.recall:.0%}, F1 {at.f1:.0%}"
    return Matrix(
        f"{label}; score {at.score:.2f}: {told}",
        [each.classes[place] for place in places],
        (100 * counts / totals)[chosen].tolist(),
        counts[chosen].tolist(),
    )


def curves_figure(found: Mapping[str, Sequence[Line]]) -> go.Figure:
    """Draw a line a trial, one class or all of them at a time."""
    traces: list[Any] = []
    views: list[View] = []
    for name, drawn in found.items():
        views.append(View(name, list(range(len(traces), len(traces) + len(drawn)))))
        traces += [_trace(line, visible=len(views) == 1) for line in drawn]
    limits = {"range": [0, 101]}
    return figure(
        traces,
        axis("recall (%)", **limits),
        axis("precision (%)", **limits),
        height=480 + 20 * len(next(iter(found.values()))),
        views=views,
        legend=legend(),
        showlegend=True,
    )


def _trace(line: Line, *, visible: bool) -> go.Scatter:
    return go.Scatter(
        x=np.linspace(0, 100, RECALLS, dtype=np.float32),
        y=np.asarray(line.values, np.float32),
        name=safe(shorten(line.label)),
        mode="lines",
        line={
            "color": theme.SERIES[line.variant % len(theme.SERIES)],
            "dash": theme.DASHES[line.repeat % len(theme.DASHES)],
            "width": 1.8,
        },
        visible=visible,
        hovertemplate="recall %{x:.0f} %, precision %{y:.1f} %<extra>%{fullData.name}</extra>",
    )


def confusion_figure(found: Sequence[Matrix]) -> go.Figure:
    """Draw a trial's matrix at a time."""
    views = [View(each.label, [place]) for place, each in enumerate(found)]
    traces = [_heat(each, visible=place == 0) for place, each in enumerate(found)]
    names = [safe(shorten(name, 16)) for name in found[0].classes]
    sides = {"showgrid": False, "ticks": "", "tickvals": list(range(len(names) + 1))}
    x = axis("found as", ticktext=[*names, MISSED], **sides)
    y = axis("object", ticktext=[*names, NOTHING], autorange="reversed", **sides)
    height = 190 + 34 * (len(names) + 1)
    return figure(traces, x, y, height=max(360, height), views=views)


def _heat(each: Matrix, *, visible: bool) -> go.Heatmap:
    names = list(map(safe, each.classes))
    texts = [[f"{share:.0f}" if share >= 0.5 else "" for share in row] for row in each.shares]
    told = [
        [[count, truth, taken] for count, taken in zip(row, [*names, MISSED], strict=True)]
        for row, truth in zip(each.counts, [*names, NOTHING], strict=True)
    ]
    return go.Heatmap(
        z=each.shares,
        text=texts,
        customdata=told,
        texttemplate="%{text}",
        colorscale="Cividis",
        zmin=0,
        zmax=100,
        showscale=False,
        xgap=2,
        ygap=2,
        visible=visible,
        hovertemplate=(
            "%{customdata[1]}, found as %{customdata[2]}: %{z:.1f} %, %{customdata[0]}"
            "<extra></extra>"
        ),
    )
