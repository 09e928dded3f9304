"""What the two thresholds of NMS do: boxes that enter it, boxes that are left, and its time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import plotly.graph_objects as go

from reports import figures, tables, theme
from reports.canvas import View, axis, figure, legend, safe
from reports.points import METRICS, Bound, Grid

SCORE, IOU = "score_threshold", "iou_threshold"
ENTER = "boxes that enter NMS"
GRID_NOTE = "{rest}. The layout of RT-DETR's table 1, arXiv:2304.08069v3, with every crossing."
NOTE = (
    "{rest}. Medians over the timed images; bars are the 95 % interval of a time. The number of"
    " boxes against the score threshold is RT-DETR's figure 2, arXiv:2304.08069v3: the higher the"
    " threshold, the fewer boxes enter NMS, and the less time it takes."
)
SHIFT = 0.15  # of the lines' dots beside each other, places along the axis


class Line(NamedTuple):
    """A quantity along one threshold, at one value of the other."""

    name: str  # that value in words; empty where it makes no difference
    xs: list[str]
    values: list[Bound]


class Way(NamedTuple):
    """A quantity against one threshold."""

    title: str  # with its unit
    knob: str
    lines: list[Line]


def ways(result: Mapping[str, Any]) -> list[Way]:
    """Follow boxes and time along each threshold that varies, all else as configured.

    Args:
        result: what `detbench measure --nms-frontier --json` prints.
    """
    rows, _ = _at_configured(result, (SCORE, IOU))
    quantities = {ENTER: "candidates", "boxes that are left": "detections", "NMS (ms)": "nms_ms"}
    found = []
    for knob, other in ((SCORE, IOU), (IOU, SCORE)):
        settings = sorted({row["setting"][knob] for row in rows if knob in row["setting"]})
        for title, key in quantities.items():
            early = knob == IOU and title == ENTER  # boxes that no IoU was looked at for
            if len(settings) > 1 and not early:
                lines = _lines(rows, knob, other, key)
                found += [Way(title, knob, lines)] if lines else []
    return found


def _at_configured(
    result: Mapping[str, Any], knobs: Sequence[str]
) -> tuple[list[Mapping[str, Any]], dict[str, Any]]:
    """Return the settings that are as configured in all but some knobs, and what these have."""
    configured = next(row["setting"] for row in result["rows"] if row["configured"])
    rest = {name: value for name, value in configured.items() if name not in knobs}
    return [row for row in result["rows"] if rest.items() <= row["setting"].items()], rest


def _lines(rows: Sequence[Mapping[str, Any]], knob: str, other: str, key: str) -> list[Line]:
    """Return a line for each value of the other threshold; one where all are the same."""
    by_other: dict[Any, dict[Any, Bound]] = {}
    for row in rows:
        bound = _bound(row, key)
        if bound is not None:
            by_other.setdefault(row["setting"].get(other), {})[row["setting"][knob]] = bound
    lines = [
        Line(
            "" if value is None else f"{spell(other)} {tables.worded(value)}",
            [tables.worded(x) for x in sorted(along)],
            [along[x] for x in sorted(along)],
        )
        for value, along in sorted(by_other.items(), key=lambda item: item[0] or 0.0)
    ]
    same = all(line[1:] == lines[0][1:] for line in lines)
    return [lines[0]._replace(name="")] if lines and same else lines


def _bound(row: Mapping[str, Any], key: str) -> Bound | None:
    """Return a time with its interval, or a median number of boxes; None where it is not known."""
    if key in row["counts"]:
        return Bound(float(row["counts"][key]["median"]))
    metrics, name = row["metrics"], key.removesuffix("_ms")
    if key not in metrics:
        return None
    return Bound(metrics[key], metrics.get(f"{name}_low_ms"), metrics.get(f"{name}_high_ms"))


def note(result: Mapping[str, Any]) -> str:
    """Say what the figure of `ways` holds fixed."""
    return NOTE.format(rest=held(words(_at_configured(result, (SCORE, IOU))[1])))


def held(rest: str) -> str:
    """Say what the other knobs are, in words."""
    return f"At {rest}" if rest else "No other knob was tried"


def ways_figure(found: Sequence[Way]) -> go.Figure:
    """Draw a line for each value of the other threshold, a quantity at a time."""
    traces: list[Any] = []
    views: list[View] = []
    for way in found:
        shown = list(range(len(traces), len(traces) + len(way.lines)))
        ticks = {f"xaxis.{key}": value for key, value in _ticks(way).items()}
        changes = {"xaxis.title.text": spell(way.knob), "yaxis.title.text": way.title, **ticks}
        views.append(View(f"{way.title} by {spell(way.knob)}", shown, changes))
        traces += [_trace(way, place, visible=len(views) == 1) for place in range(len(way.lines))]
    x = axis(spell(found[0].knob), **_ticks(found[0]))
    y = axis(found[0].title, rangemode="tozero")
    return figure(traces, x, y, height=480, views=views, legend=legend(), showlegend=True)


def _ticks(way: Way) -> dict[str, Any]:
    """Set thresholds at even distances, as they rise by factors."""
    names = list(dict.fromkeys(x for line in way.lines for x in line.xs))
    places = list(range(len(names)))
    return {"tickvals": places, "ticktext": names, "range": [-0.5, len(names) - 0.5]}


def _trace(way: Way, place: int, *, visible: bool) -> go.Scatter:
    line, color = way.lines[place], theme.SERIES[place % len(theme.SERIES)]
    names = _ticks(way)["ticktext"]
    shift = SHIFT * (place - (len(way.lines) - 1) / 2) / max(len(way.lines) - 1, 1)
    bars = figures.bars(line.values, color) | {"thickness": 0.8, "width": 2}
    return go.Scatter(
        x=[names.index(x) + shift for x in line.xs],
        y=[bound.value for bound in line.values],
        error_y=bars,
        name=safe(line.name or way.title),
        showlegend=bool(line.name),
        mode="lines+markers",
        line={"color": color, "width": 1.6},
        marker={"size": 7, "symbol": theme.SYMBOLS[place % len(theme.SYMBOLS)]},
        customdata=[f"{spell(way.knob)} {x}" for x in line.xs],
        hovertemplate=f"%{{customdata}}: %{{y:.4g}}<extra>{safe(line.name)}</extra>",
        visible=visible,
    )


def grid(result: Mapping[str, Any], x_knob: str, y_knob: str) -> tuple[dict[str, Grid], str]:
    """Cross two knobs, all others as in the configured setting.

    Returns:
        By metric, its cells; and the values of the other knobs in words.
    """
    chosen, rest = _at_configured(result, (x_knob, y_knob))
    xs, ys = (sorted({row["setting"][knob] for row in chosen}) for knob in (x_knob, y_knob))
    cells = {(row["setting"][x_knob], row["setting"][y_knob]): row["metrics"] for row in chosen}
    grids = {
        key: Grid(
            spell(x_knob),
            spell(y_knob),
            [tables.worded(x) for x in xs],
            [tables.worded(y) for y in ys],
            [[_cell(cells.get((x, y)), key) for x in xs] for y in ys],
            [[int((x, y) in cells) for x in xs] for y in ys],
        )
        for key in ("mAP", "nms_ms")
    }
    return grids, words(rest)


def _cell(metrics: Mapping[str, float] | None, key: str) -> float | None:
    return None if metrics is None else metrics[key] * METRICS[key].scale


def words(setting: Mapping[str, Any]) -> str:
    """Write a setting for the eye."""
    return ", ".join(f"{spell(name)} {tables.worded(value)}" for name, value in setting.items())


def spell(knob: str) -> str:
    """Write the name of a knob for the eye."""
    return knob.replace("iou", "IoU").replace("_", " ")
