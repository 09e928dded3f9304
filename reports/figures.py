"""Figures: points in, plotly figures out.

Colours are those of `reports.theme` in the light; the page puts the dark ones in their place.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go
from numpy.typing import NDArray

from reports import naming, theme
from reports.canvas import View, axis, categories, figure, legend, safe, shorten, tall
from reports.placing import Placed
from reports.points import (
    METRICS,
    Bound,
    Curve,
    Dot,
    Grid,
    Metric,
    Stages,
    Sweep,
    axis_range,
)

LEAST = {"mAP": 4.0}  # smallest span of an axis worth showing; others: a share of the value
SHARE = 0.1
DOTS = {
    "Pareto-optimal": (theme.BLUE, "circle"),
    "dominated": (theme.GREY, "circle-open"),
    "not ranked": (theme.GREY, "square-open"),
}
WIDE, NARROW = (480.0, 290.0), (210.0, 210.0)  # least plots that names are placed for, pixels
BELOW = 565  # narrower figures than this, pixels, have the names of `NARROW`
ROOM = 0.1  # above the dots, for the name of the best, as a share of the axis
TICK = 16  # letters of a setting along an axis
CLOSE = 0.08  # of an axis, below which the names of two settings would touch
STAGE_NAMES = {"backbone_ms": "backbone", "neck_ms": "neck", "head_ms": "head", "nms_ms": "NMS"}


def trade_off_figure(dots: Sequence[Dot], cost: Metric, gain: Metric) -> go.Figure:
    """Draw gain against cost; dots that nothing beats are filled and connected, if ranked."""
    front = sorted((dot for dot in dots if dot.optimal), key=lambda dot: dot.x.value)
    rest = [dot for dot in dots if dot.ranked and not dot.optimal]
    aside = [dot for dot in dots if not dot.ranked]
    x = axis(cost.axis, range=_limits([dot.x for dot in dots], cost.key))
    low, high = _limits([dot.y for dot in dots], gain.key)
    y = axis(gain.axis, range=(low, high + ROOM * (high - low)))
    groups = [front, rest, *([aside] if aside else [])]
    wide, narrow = (naming.names(groups, (x["range"], y["range"]), size) for size in (WIDE, NARROW))
    traces = [
        go.Scatter(
            x=[dot.x.value for dot in front],
            y=[dot.y.value for dot in front],
            mode="lines",
            line={"color": theme.BLUE, "width": 1.5, "shape": "hv"},
            hoverinfo="skip",
            showlegend=False,
        ),
        *(
            _dots(group, name, placed, (cost, gain))
            for group, name, placed in zip(groups, DOTS, wide, strict=False)
        ),
    ]
    made = figure(traces, x, y, legend=legend(), showlegend=bool(rest or aside))
    changes = {str(index): _text(placed) for index, placed in enumerate(narrow, 1)}
    made.layout.meta = {**made.layout.meta, "narrow": {"below": BELOW, "traces": changes}}
    return made


def _text(placed: Sequence[Placed]) -> dict[str, Any]:
    return {
        "text": [each.text for each in placed],
        "textposition": [each.position for each in placed],
    }


def _dots(
    dots: Sequence[Dot], name: str, placed: Sequence[Placed], metrics: tuple[Metric, Metric]
) -> go.Scatter:
    color, symbol = DOTS[name]
    return go.Scatter(
        x=[dot.x.value for dot in dots],
        y=[dot.y.value for dot in dots],
        error_x=bars([dot.x for dot in dots], color),
        error_y=bars([dot.y for dot in dots], color),
        name=name,
        mode="markers+text",
        **_text(placed),
        textfont={"size": 11, "color": theme.FAINT},
        cliponaxis=False,
        marker={"color": color, "size": 10, "symbol": symbol, "line": {"width": 2, "color": color}},
        hovertext=[hover(dot, *metrics) for dot in dots],
        hovertemplate="%{hovertext}<extra></extra>",
    )


def hover(dot: Dot, cost: Metric, gain: Metric) -> str:
    """Write what is shown beside a dot under the pointer."""
    lines = [_value(gain, dot.y), _value(cost, dot.x), *dot.hover]
    return "<br>".join([f"<b>{safe(dot.label)}</b>", *map(safe, lines)])


def _value(metric: Metric, bound: Bound) -> str:
    text = f"{metric.label}: {bound.value:.4g} {metric.unit}"
    if bound.low is None or bound.high is None:
        return text
    return f"{text} ({bound.low:.4g} to {bound.high:.4g})"


def bars(bounds: Sequence[Bound], color: str) -> dict[str, Any]:
    """Make error bars, invisible where no value has any."""
    above = [0.0 if bound.high is None else bound.high - bound.value for bound in bounds]
    below = [0.0 if bound.low is None else bound.value - bound.low for bound in bounds]
    shown = any(above) or any(below)
    return {
        "visible": shown,
        "type": "data",
        "symmetric": False,
        "array": above,
        "arrayminus": below,
        "color": color,
        "thickness": 1.2,
        "width": 4,
    }


def _limits(bounds: Sequence[Bound], metric: str) -> tuple[float, float]:
    ends = [
        end for bound in bounds for end in (bound.value, bound.low, bound.high) if end is not None
    ]
    ends = ends or [0.0, 1.0]
    ceiling = 100.0 if metric == "mAP" else float("inf")
    return axis_range(ends, LEAST.get(metric, SHARE * max(ends)), 0.0, ceiling)


def stages_figure(stages: Sequence[Stages]) -> go.Figure:
    """Stack the stage times of each trial, with its end-to-end median marked beside them."""
    labels = [safe(shorten(item.label)) for item in stages]
    traces: list[Any] = [
        go.Bar(
            y=labels,
            x=[item.times.get(stage) for item in stages],
            name=name,
            orientation="h",
            marker={"color": theme.STAGES[stage], "line": {"width": 0}},
            hovertemplate=f"{name}: %{{x:.4g}} ms<br>%{{y}}<extra></extra>",
        )
        for stage, name in STAGE_NAMES.items()
        if any(stage in item.times for item in stages)
    ]
    traces.append(
        go.Scatter(
            y=labels,
            x=[item.total for item in stages],
            name="end to end",
            mode="markers",
            marker={"symbol": "line-ns", "size": 16, "line": {"width": 2, "color": theme.INK}},
            hovertemplate="end to end: %{x:.4g} ms<br>%{y}<extra></extra>",
        )
    )
    return figure(
        traces,
        axis("time per image (ms)", rangemode="tozero"),
        categories(labels),
        height=tall(len(labels)),
        barmode="stack",
        bargap=0.35,
        legend=legend() | {"traceorder": "normal"},
    )


def curves_figure(curves: Mapping[str, Sequence[Curve]]) -> go.Figure:
    """Draw one line a trial by epoch; one quantity at a time.

    Args:
        curves: name of a quantity: its curves. The first is the one shown at first.
    """
    traces: list[Any] = []
    views: list[View] = []
    for name, lines in curves.items():
        shown = list(range(len(traces), len(traces) + len(lines)))
        views.append(View(name, shown, {"yaxis.title.text": _curve_title(name)}))
        traces += [_line(curve, visible=len(views) == 1) for curve in lines]
    longest = max((len(lines) for lines in curves.values()), default=0)
    return figure(
        traces,
        axis("epoch"),
        axis(_curve_title(next(iter(curves), ""))),
        height=480,
        views=views,
        showlegend=longest > 1,
    )


def _curve_title(name: str) -> str:
    return METRICS[name].axis if name in METRICS else safe(shorten(name.replace("_", " ")))


def _line(curve: Curve, visible: bool) -> go.Scatter:
    colors, dashes = theme.SERIES, theme.DASHES
    dash = curve.repeat + curve.variant // len(colors)
    return go.Scatter(
        x=np.asarray(curve.epochs, np.float32),
        y=np.asarray(curve.values, np.float32),
        name=safe(shorten(curve.label)),
        mode="lines+markers" if len(curve.epochs) <= 30 else "lines",
        marker={"size": 5},
        line={
            "color": colors[curve.variant % len(colors)],
            "dash": dashes[dash % len(dashes)],
            "width": 1.8,
        },
        visible=visible,
        hovertemplate="epoch %{x}: %{y:.4g}<extra>%{fullData.name}</extra>",
    )


def sweep_figure(sweeps: Mapping[str, Sweep]) -> go.Figure:
    """Draw metrics against the one knob that is swept: a dot a trial, a line through the means.

    Args:
        sweeps: key of a metric: its points. The first is the one shown at first.
    """
    traces: list[Any] = []
    views: list[View] = []
    for key, sweep in sweeps.items():
        limits = _limits([Bound(value) for values in sweep.values for value in values], key)
        change = {"yaxis.title.text": METRICS[key].axis, "yaxis.range": limits}
        views.append(View(METRICS[key].label, [len(traces), len(traces) + 1], change))
        traces += _swept(sweep, visible=len(views) == 1)
    key, first = next(iter(sweeps.items()))
    return figure(
        traces,
        axis(safe(first.knob), **_along(first.numbers)),
        axis(METRICS[key].axis, range=views[0].layout["yaxis.range"]),
        views=views,
        showlegend=False,
    )


def _along(numbers: Sequence[float] | None) -> dict[str, Any]:
    """Say what axis the settings of a knob lie along, so that none stands on another.

    Numbers that would touch on a linear axis, but not on a logarithmic one, are put on that.
    """
    if numbers is None:
        return {"type": "category"}
    places = sorted(numbers)
    if places[0] > 0 and _closest(np.log(places)) > CLOSE > _closest(places):
        return {"type": "log", "tickvals": places, "ticktext": [f"{x:g}" for x in places]}
    return {"tickvals": numbers}


def _closest(places: Sequence[float] | NDArray[np.float64]) -> float:
    """Return the least distance between neighbours as a share of the whole; 1 of less than two."""
    steps = np.diff(places)
    return float(steps.min() / steps.sum()) if len(steps) else 1.0


def _swept(sweep: Sweep, visible: bool) -> list[go.Scatter]:
    xs: Sequence[Any] = sweep.numbers or _short(sweep.settings)
    pairs = [(x, values) for x, values in zip(xs, sweep.values, strict=True) if values]
    means = go.Scatter(
        x=[x for x, _ in pairs],
        y=[sum(values) / len(values) for _, values in pairs],
        mode="lines",
        line={"color": theme.BLUE, "width": 1.5},
        hoverinfo="skip",
        visible=visible,
    )
    dots = go.Scatter(
        x=[x for x, values in pairs for _ in values],
        y=[value for _, values in pairs for value in values],
        mode="markers",
        marker={"size": 10, "color": theme.BLUE},
        hovertemplate="%{x}: %{y:.4g}<extra></extra>",
        visible=visible,
    )
    return [means, dots]


def _short(settings: Sequence[str]) -> list[str]:
    """Shorten names along an axis where they stay apart."""
    cut = [safe(shorten(setting, TICK)) for setting in settings]
    return cut if len(set(cut)) == len(cut) else [safe(setting) for setting in settings]


def grid_figure(grids: Mapping[str, Grid]) -> go.Figure:
    """Draw metrics over the two knobs that are swept, as a heat map with its numbers.

    Args:
        grids: key of a metric: its cells. The first is the one shown at first.
    """
    views = [View(METRICS[key].label, [index]) for index, key in enumerate(grids)]
    traces = [
        go.Heatmap(
            x=_short(grid.xs),
            y=_short(grid.ys),
            z=grid.means,
            customdata=grid.counts,
            colorscale="Cividis",
            colorbar={
                "title": {"text": METRICS[key].axis, "side": "right", "font": {"size": 13}},
                "thickness": 12,
                "outlinewidth": 0,
                "tickfont": {"color": theme.FAINT},
            },
            xgap=2,
            ygap=2,
            texttemplate="%{z:.3g}",
            hovertemplate="%{x}, %{y}: %{z:.4g} (n = %{customdata})<extra></extra>",
            visible=index == 0,
        )
        for index, (key, grid) in enumerate(grids.items())
    ]
    first = next(iter(grids.values()))
    options = {"type": "category", "showgrid": False}
    return figure(
        traces,
        axis(safe(first.x_knob), **options),
        axis(safe(first.y_knob), **options),
        height=max(440, 150 + 50 * len(first.ys)),
        views=views,
    )
