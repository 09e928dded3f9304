"""Figures of raw latencies: how they scatter, and in which order they came."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from reports import theme
from reports.canvas import View, axis, categories, figure, legend, safe, shorten, tall
from reports.points import Timed


def spread_figure(timed: Sequence[Timed]) -> go.Figure:
    """Draw the distribution of each trial's raw latencies, outliers included."""
    labels = [safe(shorten(item.label)) for item in timed]
    traces = [
        go.Box(
            x=np.asarray(item.end_to_end, np.float32),
            name=label,
            boxpoints="outliers",
            orientation="h",
            marker={"color": theme.BLUE, "size": 4, "symbol": "circle-open"},
            line={"width": 1.4},
            fillcolor="rgba(68,119,170,0.18)",
            showlegend=False,
        )
        for item, label in zip(timed, labels, strict=True)
    ]
    views = [
        View(scale, None, {"xaxis.type": kind})
        for scale, kind in (("linear axis", "linear"), ("logarithmic axis", "log"))
    ]
    x = axis("end-to-end latency (ms)")
    return figure(traces, x, categories(labels), height=tall(len(labels)), views=views)


def order_figure(timed: Sequence[Timed]) -> go.Figure:
    """Draw each trial's raw latencies in the order they were taken, one trial at a time."""
    traces: list[Any] = []
    views: list[View] = []
    for item in timed:
        made = _in_order(item, visible=not views)
        shown = list(range(len(traces), len(traces) + len(made)))
        views.append(View(item.label, shown))
        traces += made
    return figure(
        traces,
        axis("sample, in the order taken"),
        axis("end-to-end latency (ms)"),
        views=views,
        legend=legend(),
        showlegend=True,
    )


def _in_order(item: Timed, visible: bool) -> list[go.Scatter]:
    series = [("baseline, same rounds", item.reference, theme.GREY)] if item.reference else []
    series.append(("this trial", item.end_to_end, theme.BLUE))
    dots = [
        go.Scatter(
            y=np.asarray(values, np.float32),
            name=name,
            mode="markers",
            marker={"size": 4, "color": color, "opacity": 0.45},
            visible=visible,
            hovertemplate="sample %{x}: %{y:.4g} ms<extra></extra>",
        )
        for name, values, color in series
    ]
    lines = [
        go.Scatter(
            y=running_median(values).astype(np.float32),
            name=f"{name}, running median",
            mode="lines",
            line={"width": 2, "color": color},
            visible=visible,
            hoverinfo="skip",
        )
        for name, values, color in series
    ]
    return dots + lines


def running_median(values: Sequence[float]) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the median around each sample over a twentieth of all, 5 samples at least."""
    window = max(5, len(values) // 20) | 1
    rolled = pd.Series(values, dtype=float).rolling(window, center=True, min_periods=1)
    return np.asarray(rolled.median(), dtype=np.float64)
