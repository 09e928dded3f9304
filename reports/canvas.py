"""What every figure shares: axes, legend, colours, and the views that a page offers."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any, NamedTuple

import plotly.graph_objects as go

from reports import theme


class View(NamedTuple):
    """One way to look at a figure: the traces it shows (None: all) and the layout it changes."""

    label: str
    traces: list[int] | None
    layout: dict[str, Any] = {}


def safe(text: str) -> str:
    """Escape what plotly would read as markup."""
    return html.escape(text, quote=False)


def shorten(text: str, length: int = 44) -> str:
    """Cut a label in its middle, so that its number and seed stay."""
    half = (length - 1) // 2
    return text if len(text) <= length else f"{text[:half]}…{text[-half:]}"


def axis(title: str, **options: Any) -> dict[str, Any]:
    """Make an axis with a title in words and its unit in brackets."""
    return {
        "title": {"text": title, "font": {"size": 13, "color": theme.INK}, "standoff": 10},
        "gridcolor": theme.GRID,
        "linecolor": theme.FAINT,
        "tickcolor": theme.FAINT,
        "tickfont": {"size": 12, "color": theme.FAINT},
        "showline": True,
        "ticks": "outside",
        "ticklen": 4,
        "zeroline": False,
        "automargin": True,
        **options,
    }


def figure(
    traces: Sequence[Any],
    x: dict[str, Any],
    y: dict[str, Any],
    *,
    height: int = 440,
    views: Sequence[View] = (),
    **layout: Any,
) -> go.Figure:
    """Make a figure in the one style of all.

    Args:
        traces: plotly traces.
        x: horizontal axis.
        y: vertical axis.
        height: pixels.
        views: ways to look at it, kept in `layout.meta.views`; the first is what traces show.
        layout: what else plotly's layout is to have.
    """
    base = {
        "template": "none",
        "font": {"family": theme.FONT, "size": 13, "color": theme.INK},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "height": height,
        "margin": {"l": 60, "r": 24, "t": 40, "b": 56},
        "modebar": {"bgcolor": "rgba(0,0,0,0)", "color": theme.FAINT, "activecolor": theme.INK},
        "hoverlabel": {
            "bgcolor": theme.PAPER,
            "bordercolor": theme.GRID,
            "font": {"family": theme.FONT, "color": theme.INK, "size": 12},
            "align": "left",
            "namelength": -1,
        },
        "legend": {"font": {"size": 12, "color": theme.INK}, "title": {"text": ""}},
        "xaxis": x,
        "yaxis": y,
        "meta": {"views": [view._asdict() for view in views]},
    }
    return go.Figure(list(traces), base | layout)


def legend() -> dict[str, Any]:
    """Lay the legend in rows at the foot of the figure, where nothing else is."""
    return {
        "orientation": "h",
        "yref": "container",
        "yanchor": "bottom",
        "y": 0,
        "xanchor": "left",
        "x": 0,
        "font": {"size": 12, "color": theme.INK},
    }


def categories(labels: Sequence[str]) -> dict[str, Any]:
    """Make a vertical axis of names, the first on top."""
    options = {"type": "category", "autorange": "reversed", "showgrid": False, "ticks": ""}
    return axis("", categoryorder="array", categoryarray=list(labels), **options) | {"title": None}


def tall(rows: int) -> int:
    """Return the height of a figure with a row a trial, pixels."""
    return 150 + rows * (34 if rows <= 12 else 21)
