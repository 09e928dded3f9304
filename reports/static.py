"""Figures as files for a paper: SVG, PDF and PNG, sized for a column and for a page.

kaleido draws them in a browser that it finds on this machine; nothing is loaded from elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import plotly.graph_objects as go

from reports import browsers
from reports.browsers import StaticError
from reports.panels import Panel

FORMATS = ("svg", "pdf", "png")
INCH = 96  # pixels
POINT = INCH / 72  # pixels
SCALE = 4  # of PNG: 384 pixels an inch
MOST_VIEWS = 4  # of a figure that are drawn
LEFT_OUT = ("order",)  # figures of single samples, one view a trial


class Size(NamedTuple):
    """Where a figure goes, and how large its text is there."""

    name: str
    width: float  # pixels
    height: float  # share of the height that a page on a screen has
    text: float  # pixels


SIZES = (
    Size("column", 3.25 * INCH, 0.7, 7.5 * POINT),
    Size("page", 6.875 * INCH, 0.9, 8 * POINT),
)
"""Widths of a column and of both.

Source: the authors' kit of CVPR, sec. 2, https://github.com/cvpr-org/author-kit.
"""


class Drawing(NamedTuple):
    """One figure at one size, still without a format."""

    name: str
    figure: go.Figure


def drawings(panels: Sequence[Panel]) -> list[Drawing]:
    """Make every figure of a page at every size, each of its views by itself."""
    found = []
    for panel in panels:
        if panel.key in LEFT_OUT:
            continue
        views = list((panel.figure.layout.meta or {}).get("views") or [])[:MOST_VIEWS]
        for view in views or [None]:
            name = panel.key if view is None else f"{panel.key}-{view['label']}"
            for size in SIZES:
                made = sized(shown(panel.figure, view), size)
                found.append(Drawing(f"{_file_name(name)}-{size.name}", made))
    return found


def shown(figure: go.Figure, view: dict[str, Any] | None) -> go.Figure:
    """Return a copy of a figure as one of its views has it."""
    made = go.Figure(figure)
    if view is None:
        return made
    if view["traces"] is not None:
        for index, trace in enumerate(made.data):
            trace.visible = index in view["traces"]
    for path, value in view["layout"].items():
        made.layout[path] = value
    return made


def sized(figure: go.Figure, size: Size) -> go.Figure:
    """Give a figure the size and the letters that it has on paper."""
    narrow = (figure.layout.meta or {}).get("narrow")
    if narrow and size.width < narrow["below"]:
        for index, change in narrow["traces"].items():
            figure.data[int(index)].update(change)
    text = {"size": size.text}
    axis = {"tickfont": text, "title": {"font": text, "standoff": 5}}
    figure.update_layout(
        width=size.width,
        height=size.height * (figure.layout.height or 440),
        font=text,
        legend={"font": text, "orientation": "h", "yref": "container", "y": 0, "x": 0}
        | {"yanchor": "bottom", "xanchor": "left"},
        margin={"l": 40, "r": 8, "t": 8, "b": 36},
        paper_bgcolor="white",
        plot_bgcolor="white",
        meta=None,
    )
    figure.update_xaxes(axis)
    figure.update_yaxes(axis)
    return figure


def _file_name(text: str) -> str:
    """Write a name with letters that every file system takes."""
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")[:80]


def write(panels: Sequence[Panel], folder: Path) -> list[Path]:
    """Draw every figure of a page into a folder, in every format.

    Raises:
        StaticError: nothing here can draw, or the browser failed.
    """
    browsers.check()
    import kaleido  # optional

    folder.mkdir(parents=True, exist_ok=True)
    asked = [
        {
            "fig": drawing.figure.to_dict(),
            "path": str(folder / f"{drawing.name}.{kind}"),
            "opts": {"format": kind, "scale": SCALE if kind == "png" else 1},
        }
        for drawing in drawings(panels)
        for kind in FORMATS
    ]
    try:
        kaleido.write_fig_from_object_sync(
            asked, kopts={"page_generator": kaleido.PageGenerator(mathjax=False)}
        )
    except Exception as error:  # whatever a browser does
        raise StaticError(f"{folder}: no figures: {type(error).__name__}: {error}") from error
    return [Path(each["path"]) for each in asked]
