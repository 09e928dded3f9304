"""The page of an NMS frontier: mAP against time for every setting that was tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import plotly.graph_objects as go
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from harness.records import FILE, RecordError, read, write_whole
from reports import display, figures, points, recommended, tables, theme, thresholds
from reports.canvas import View, axis, figure, legend, safe
from reports.columns import Column
from reports.display import Cell, Table
from reports.facts import Fact
from reports.panels import FRONT, Panel
from reports.points import METRICS, Bound, Dot, Metric, axis_range
from reports.site import PAGE, downloads, environment

COSTS = {
    "nms_ms": METRICS["nms_ms"]._replace(label="time for NMS"),
    "latency_ms": METRICS["latency_ms"],
}
COLUMNS = (
    Column("mAP", "accuracy, %", "mAP", "mean AP over IoU 0.50 to 0.95, as COCO defines it", 1e2),
    Column("mAP_50", "accuracy, %", "mAP 50", "mean AP at IoU 0.50", 1e2),
    Column("mAP_75", "accuracy, %", "mAP 75", "mean AP at IoU 0.75", 1e2),
    Column("nms_ms", "time, ms", "NMS", "median over the rounds, with the median's 95 % interval"),
    Column("latency_ms", "time, ms", "end to end", "median of the network's time and that of NMS"),
    Column("candidates", "boxes per image", "before NMS", "median number that enter NMS"),
    Column("detections", "boxes per image", "after", "median number of detections"),
)
NMS_NOTE = f"One dot a setting; bars are the 95 % interval of the median. {FRONT}"
LATENCY_NOTE = (
    f"The network's time and that of NMS. {FRONT} All settings share one network, timed in the "
    "same rounds, so that what sets two of them apart is their time for NMS."
)
LEAST = 1.0  # smallest span of mAP worth showing, points
TICKS = [
    digit * 10.0**power for power in range(-3, 5) for digit in (1, 1.5, 2, 3, 4, 5, 7)
]  # milliseconds
OPACITY = 0.55  # opacity of dots that are not on the front


class Tried(NamedTuple):
    """A setting among the dots of a figure."""

    dot: Dot
    values: dict[str, str]  # by knob
    configured: bool
    recommended: bool = False


def write(result: Mapping[str, Any], out: Path) -> Path:
    """Write the page.

    Args:
        result: what `detbench measure --nms-frontier --json` prints.
        out: an .html file, or a folder that gets `index.html`.
    """
    file = out if out.suffix == ".html" else out / PAGE
    file.parent.mkdir(parents=True, exist_ok=True)
    return write_whole(file, render(result))


def render(result: Mapping[str, Any]) -> str:
    """Make the page's HTML; see `write`."""
    rows = flat(result)
    return (
        environment()
        .get_template("frontier.html")
        .render(
            title=f"{named(str(result['model']))}: settings of postprocessing",
            advice=recommended.advice(result),
            facts=about(result),
            caveats=list(dict.fromkeys([*result["caveats"].values(), *result["absent"].values()])),
            panels=panels(result),
            settings=table(result),
            downloads=downloads("nms_frontier", rows),
            theme=theme,
            plotly=lambda: Markup(get_plotlyjs()),
            plotly_file="",
        )
    )


def named(model: str) -> str:
    """Name a model for a reader: a trial's folder by what its record says, not by its hash."""
    folder = Path(model)
    if not (folder / FILE).is_file():
        return folder.name or model
    try:
        record = read(folder)
    except RecordError:
        return folder.name
    return f"{record.study}: {tables.title(record)}"


def flat(result: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return one row of plain values a setting, fastest first; what is missing is None."""
    rows = []
    for row in sorted(result["rows"], key=lambda row: float(row["metrics"]["latency_ms"])):
        counts = {f"{name}_median": found["median"] for name, found in row["counts"].items()}
        flags = {key: row[key] for key in ("optimal", "configured")}
        flags["recommended"] = row is recommended.row(result)
        rows.append({**row["setting"], **row["metrics"], **counts, **flags})
    names = dict.fromkeys(name for row in rows for name in row)
    return [{name: row.get(name) for name in names} for row in rows]


def about(result: Mapping[str, Any]) -> list[Fact]:
    """Say what a reader must know before the numbers."""
    details, network, machine = result["details"], result["network"], result["environment"]
    cpu = machine.get("cpu", {}).get("model", "")
    packages = machine.get("packages", {})
    latency = result["latency"]
    found = [
        Fact("model", str(result["model"])),
        Fact("data", f"{result['data']['name']} ({details['images']} val)"),
        Fact("settings", f"{len(result['rows'])} from one pass of the network"),
        Fact(
            "rounds", f"{details['rounds']} in random order, {details['nms_seconds']:.0f} s of NMS"
        ),
        Fact("network", f"{network['network_ms']:.4g} ms{_interval(network, 'network')}"),
        Fact("latency", f"precision {latency['precision']}, one image a call"),
        Fact("device", " ".join(filter(None, (str(machine.get("device", "")), cpu)))),
        Fact("software", ", ".join(f"{name} {version}" for name, version in packages.items())),
    ]
    return [fact for fact in found if fact.text]


def _interval(metrics: Mapping[str, float], name: str) -> str:
    low, high = metrics.get(f"{name}_low_ms"), metrics.get(f"{name}_high_ms")
    return "" if low is None or high is None else f" ({low:.4g} to {high:.4g})"


def panels(result: Mapping[str, Any]) -> list[Panel]:
    """Make every figure that these settings have points for."""
    if "mAP" in result["absent"]:
        return []
    gain, notes = METRICS["mAP"], {"nms_ms": NMS_NOTE, "latency_ms": LATENCY_NOTE}
    found = [
        Panel(
            f"mAP-{key}",
            f"mAP against {cost.label}",
            notes[key],
            scatter(tried(result, cost), cost, gain),
            wide=True,
        )
        for key, cost in COSTS.items()
    ]
    ways = thresholds.ways(result)
    if ways:
        title, note = "What the thresholds do", thresholds.note(result)
        found.append(Panel("thresholds", title, note, thresholds.ways_figure(ways), wide=True))
    if _varies(result, thresholds.SCORE) and _varies(result, thresholds.IOU):
        grids, rest = thresholds.grid(result, thresholds.SCORE, thresholds.IOU)
        note = thresholds.GRID_NOTE.format(rest=thresholds.held(rest))
        title = "Score threshold and IoU threshold together"
        found.append(Panel("grid", title, note, figures.grid_figure(grids), wide=True))
    return [*found, *recommended.panels(result)]


def _varies(result: Mapping[str, Any], knob: str) -> bool:
    return len({repr(row["setting"].get(knob)) for row in result["rows"]}) > 1


def tried(result: Mapping[str, Any], cost: Metric) -> list[Tried]:
    """Place every setting between a cost and mAP, and mark those that no other beats."""
    rows = result["rows"]
    dots = [_dot(number, row, cost) for number, row in enumerate(rows, 1)]
    return [
        Tried(dot, {name: tables.worded(value) for name, value in row["setting"].items()},
              row["configured"], row is recommended.row(result))
        for dot, row in zip(points.mark_optimal(dots), rows, strict=True)
    ]  # fmt: skip


def _dot(number: int, row: Mapping[str, Any], cost: Metric) -> Dot:
    metrics = row["metrics"]
    low, high = (cost.key.replace("_ms", end) for end in ("_low_ms", "_high_ms"))
    x = Bound(metrics[cost.key], metrics.get(low), metrics.get(high))
    label = thresholds.words(row["setting"])
    others = [
        f"{other.label}: {metrics[key]:.4g} ms" for key, other in COSTS.items() if key != cost.key
    ]
    counts = [
        f"{'boxes before NMS' if name == 'candidates' else 'detections'}: {found['median']:g}"
        for name, found in row["counts"].items()
    ]
    return Dot(number, label, x, Bound(metrics["mAP"] * 100), (*others, *counts), False)


def scatter(settings: Sequence[Tried], cost: Metric, gain: Metric) -> go.Figure:
    """Draw all settings; a view for each knob gives its values their colours."""
    front = sorted((item.dot for item in settings if item.dot.optimal), key=lambda dot: dot.x.value)
    chosen = {
        "as configured": ("star-open", [item.dot for item in settings if item.configured]),
        "recommended": ("circle-open", [item.dot for item in settings if item.recommended]),
    }
    marks = [
        _outlined(name, symbol, dots, (cost, gain))
        for name, (symbol, dots) in chosen.items()
        if dots
    ]
    traces: list[Any] = [_line(front), *marks]
    always = list(range(len(traces)))
    views: list[View] = []
    for knob in _knobs(settings):
        made = _by_value(settings, knob, (cost, gain), visible=not views)
        shown = [*always, *range(len(traces), len(traces) + len(made))]
        views.append(View(f"{thresholds.spell(knob)} in colour", shown))
        traces += made
    kind = {"type": "log", "tickvals": TICKS} if cost.key == "nms_ms" else {}
    heights = axis_range([item.dot.y.value for item in settings], LEAST, 0.0, 100.0)
    x, y = axis(cost.axis, **kind), axis(gain.axis, range=heights)
    return figure(traces, x, y, height=520, views=views, legend=legend(), showlegend=True)


def _knobs(settings: Sequence[Tried]) -> list[str]:
    """Return the knobs that take more than one value, or any if none does."""
    names = list(settings[0].values)
    several = [name for name in names if len({item.values[name] for item in settings}) > 1]
    return several or names[:1]


def _line(front: Sequence[Dot]) -> go.Scatter:
    return go.Scatter(
        x=[dot.x.value for dot in front],
        y=[dot.y.value for dot in front],
        name="Pareto front",
        mode="lines",
        line={"color": theme.INK, "width": 1.2, "shape": "hv"},
        hoverinfo="skip",
    )


def _outlined(
    name: str, symbol: str, dots: Sequence[Dot], metrics: tuple[Metric, Metric]
) -> go.Scatter:
    """Draw a large mark around settings."""
    line = {"color": theme.INK, "width": 1.6}
    return go.Scatter(
        x=[dot.x.value for dot in dots],
        y=[dot.y.value for dot in dots],
        name=name,
        mode="markers",
        marker={"symbol": symbol, "size": 19, "color": theme.INK, "line": line},
        hovertext=[figures.hover(dot, *metrics) for dot in dots],
        hovertemplate="%{hovertext}<extra></extra>",
    )


def _by_value(
    settings: Sequence[Tried], knob: str, metrics: tuple[Metric, Metric], *, visible: bool
) -> list[go.Scatter]:
    values = list(dict.fromkeys(item.values[knob] for item in settings))
    traces = []
    for index, value in enumerate(values):
        dots = [item.dot for item in settings if item.values[knob] == value]
        color = theme.SERIES[index % len(theme.SERIES)]
        marker = {
            "color": color,
            "size": [10 if dot.optimal else 7 for dot in dots],
            "opacity": [1.0 if dot.optimal else OPACITY for dot in dots],
            "symbol": theme.SYMBOLS[index % len(theme.SYMBOLS)],
        }
        bars = figures.bars([dot.x for dot in dots], color) | {"thickness": 0.6, "width": 0}
        traces.append(
            go.Scatter(
                x=[dot.x.value for dot in dots],
                y=[dot.y.value for dot in dots],
                error_x=bars if metrics[0].key == "nms_ms" else None,
                name=safe(f"{thresholds.spell(knob)} {value}"),
                mode="markers",
                marker=marker,
                visible=visible,
                hovertext=[figures.hover(dot, *metrics) for dot in dots],
                hovertemplate="%{hovertext}<extra></extra>",
            )
        )
    return traces


def table(result: Mapping[str, Any]) -> Table:
    """Lay out all settings, fastest first."""
    rows = flat(result)
    knobs = list(result["rows"][0]["setting"])
    marks = "recommended, on the front, or as configured"
    lead = [
        Column("place", "setting", "#", "number by rising latency", kind="text"),
        Column("mark", "setting", "mark", marks, kind="text"),
    ]
    lead += [Column(name, "setting", thresholds.spell(name), name, kind="text") for name in knobs]
    columns = [column for column in COLUMNS if _value(rows[0], column.key) is not None]
    times = display.decimals(row["nms_ms"] for row in rows)
    places = {"accuracy, %": 2, "time, ms": times, "boxes per image": 0}
    cells = [
        [Cell(str(place), place, style="key"), _mark(row)]
        + [Cell(tables.worded(row[name]), row[name], style="key") for name in knobs]
        + [_number(row, column, places[column.group]) for column in columns]
        for place, row in enumerate(rows, 1)
    ]
    return Table([*lead, *columns], cells, [], [])


def _value(row: Mapping[str, Any], key: str) -> float | None:
    found: float | None = row.get(key, row.get(f"{key}_median"))
    return found


def _mark(row: Mapping[str, Any]) -> Cell:
    names = {"recommended": "recommended", "front": "optimal", "configured": "configured"}
    words = [word for word, key in names.items() if row[key]]
    return Cell(", ".join(words), ", ".join(words), style="key")


def _number(row: Mapping[str, Any], column: Column, places: int) -> Cell:
    value = _value(row, column.key)
    if value is None:
        return Cell(display.DASH, None, style="missing")
    name = column.key.removesuffix("_ms")
    low, high = row.get(f"{name}_low_ms"), row.get(f"{name}_high_ms")
    small = "" if low is None or high is None else f"{low:.{places}f} to {high:.{places}f}"
    return Cell(f"{value * column.scale:,.{places}f}", value, small)
