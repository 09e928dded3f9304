"""The figure of which knobs of a search mattered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import plotly.graph_objects as go

from harness.records.importances import Importance, Share
from reports import theme
from reports.canvas import View, axis, categories, figure, legend, safe, shorten, tall

NOTE = (
    "How much each knob mattered for being in the best quarter of the trials, as a share of all"
    " (Optuna's PED-ANOVA, arXiv:2304.10255). The mark is what luck alone gives in 19 of 20 cases:"
    " a bar that does not pass it tells nothing, and is grey."
)
TOLD, NOT_TOLD = "more than luck", "not told from luck"


def by_told(found: Importance) -> dict[str, list[Share]]:
    """Part the knobs into those that matter more than luck, and the others."""
    told = [share for share in found.shares if share.share > share.by_luck]
    return {TOLD: told, NOT_TOLD: [share for share in found.shares if share not in told]}


def importance_figure(found: Sequence[Importance]) -> go.Figure:
    """Draw a bar for each knob, and what luck gives it, an objective at a time."""
    traces: list[Any] = []
    views: list[View] = []
    for each in found:
        made = _bars(each, visible=not views)
        shown = list(range(len(traces), len(traces) + len(made)))
        order = {"yaxis.categoryarray": [_name(share) for share in each.shares]}
        views.append(View(f"{each.metric}, {each.trials} trials", shown, order))
        traces += made
    labels = [_name(share) for share in found[0].shares]
    x = axis("share of the importance of all knobs (%)", rangemode="tozero")
    return figure(
        traces,
        x,
        categories(labels),
        height=tall(len(labels)) + 40,
        views=views,
        barmode="overlay",
        bargap=0.45,
        legend=legend(),
        showlegend=True,
    )


def _bars(found: Importance, *, visible: bool) -> list[Any]:
    colors = {TOLD: theme.BLUE, NOT_TOLD: theme.GREY}
    traces: list[Any] = [
        go.Bar(
            x=[100 * share.share for share in shares],
            y=[_name(share) for share in shares],
            name=name,
            orientation="h",
            marker={"color": colors[name], "line": {"width": 0}},
            visible=visible,
            hovertemplate="%{y}: %{x:.1f} %<extra></extra>",
        )
        for name, shares in by_told(found).items()
        if shares
    ]
    line = {"symbol": "line-ns", "size": 16, "line": {"width": 2, "color": theme.INK}}
    luck = go.Scatter(
        x=[100 * share.by_luck for share in found.shares],
        y=[_name(share) for share in found.shares],
        name="by luck, 19 of 20 cases",
        mode="markers",
        marker=line,
        visible=visible,
        hovertemplate="%{y}: by luck up to %{x:.1f} %<extra></extra>",
    )
    return [*traces, luck]


def _name(share: Share) -> str:
    return safe(shorten(share.knob))
