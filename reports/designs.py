"""What a design or a search came to: its effects and its growth, as tables and figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import plotly.graph_objects as go

from harness.records import Record
from reports import theme
from reports.canvas import View, axis, categories, figure, safe, shorten, tall
from reports.display import DASH, MINUS, Cell, Column, Table
from reports.effects import LEVEL, Effect, Effects, by_metric
from reports.figures import bars
from reports.points import METRICS, Bound
from reports.search import Goal, Growth, front, growth

COLUMNS = (
    Column("label", "effect", "knob", "the knob, from its first setting to another", kind="text"),
    Column("estimate", "effect", "difference", "the mean over all other settings"),
    Column("low", "95 % interval", "from", "by least squares, seeds as blocks"),
    Column("high", "95 % interval", "to", "by least squares, seeds as blocks"),
    Column("sure", "95 % interval", "real?", "whether the interval leaves out 0", kind="text"),
    Column("aliases", "mixed up with", "", "the same trials would show these as it", kind="text"),
)
NOTHING = 1e-9  # what rounding leaves of a difference of equal numbers


def summary(records: Sequence[Record], goal: Goal | None = None) -> list[str]:
    """Say in lines what a design's knobs do, or what a search found."""
    if goal is not None:
        found = growth(records, goal)
        return [] if found is None else [growth_note(found, front_numbers(records, goal))]
    lines = []
    for item in by_metric(records).values():
        lines.append(effect_caption(item))
        lines += [_line(effect) for effect in item.effects]
    return lines


def _line(effect: Effect) -> str:
    ends = "" if effect.low is None else f" ({_signed(effect.low)} to {_signed(effect.high)})"
    mixed = f"; mixed up with {', '.join(effect.aliases)}" if effect.aliases else ""
    return f"  {effect.label}: {_signed(effect.estimate)}{ends}, {_judged(effect)}{mixed}"


def _judged(effect: Effect) -> str:
    return {"yes": "real", "not known": "no interval"}.get(verdict(effect), verdict(effect))


def effect_table(found: Effects) -> Table:
    """Lay out the effects on one metric, in the metric's unit."""
    rows = [_row(effect) for effect in found.effects]
    mixed = any(effect.aliases for effect in found.effects)
    columns = list(COLUMNS if mixed else COLUMNS[:-1])
    return Table(columns, [row[: len(columns)] for row in rows], [], [])


def effect_caption(found: Effects) -> str:
    """Say what the effects are on, and what their intervals rest on."""
    metric = METRICS[found.metric]
    if not found.freedom:
        rest = "No interval: nothing is repeated. More seeds, or fewer knobs, would give one."
    else:
        source = "interactions, taken for scatter," if found.pooled else "repetitions"
        rest = f"Intervals of {LEVEL:.0%} from {found.freedom} degrees of freedom of {source} in "
        rest += f"{found.trials} trials."
    return f"Effects on {metric.label}, {metric.unit}. {rest}"


def verdict(effect: Effect) -> str:
    """Say whether an effect is told from nothing."""
    if effect.low is None or effect.high is None:
        return "not known"
    return "yes" if effect.low > 0 or effect.high < 0 else "not told apart"


def _row(effect: Effect) -> list[Cell]:
    numbers = [effect.estimate, effect.low, effect.high]
    return [
        Cell(effect.label, effect.label, style="key"),
        *(Cell(_signed(number), number) for number in numbers),
        Cell(verdict(effect), verdict(effect)),
        Cell(", ".join(effect.aliases), ", ".join(effect.aliases)),
    ]


def _signed(number: float | None) -> str:
    if number is None:
        return DASH
    if abs(number) < NOTHING:
        return "0"
    return ("+" if number > 0 else MINUS) + f"{abs(number):.3g}"


def effects_figure(by_metric: Mapping[str, Effects]) -> go.Figure:
    """Draw each effect with its interval around nothing, one metric at a time."""
    traces = [_effects(found, visible=i == 0) for i, found in enumerate(by_metric.values())]
    views = [
        View(METRICS[key].label, [index], {"xaxis.title.text": _title(key)})
        for index, key in enumerate(by_metric)
    ]
    labels = list(dict.fromkeys(_label(e) for found in by_metric.values() for e in found.effects))
    x = axis(_title(next(iter(by_metric))), zeroline=True, zerolinecolor=theme.FAINT)
    return figure(traces, x, categories(labels), height=tall(len(labels)), views=views)


def _effects(found: Effects, *, visible: bool) -> go.Scatter:
    bounds = [Bound(effect.estimate, effect.low, effect.high) for effect in found.effects]
    return go.Scatter(
        x=[effect.estimate for effect in found.effects],
        y=[_label(effect) for effect in found.effects],
        error_x=bars(bounds, theme.BLUE),
        mode="markers",
        marker={"size": 10, "color": theme.BLUE},
        visible=visible,
        hovertemplate="%{y}: %{x:+.3g}<extra></extra>",
        showlegend=False,
    )


def _label(effect: Effect) -> str:
    return safe(shorten(effect.label))


def _title(metric: str) -> str:
    shown = METRICS[metric]
    unit = "points" if metric == "mAP" else shown.unit
    return f"difference in {shown.label} ({unit})"


def growth_figure(found: Growth) -> go.Figure:
    """Draw how the volume that the front dominates grew with the trials."""
    line = go.Scatter(
        x=found.trials,
        y=found.volumes,
        mode="lines+markers",
        line={"color": theme.BLUE, "width": 1.8, "shape": "hv"},
        marker={"size": 5},
        hovertemplate="after %{x} trials: %{y:.4g}<extra></extra>",
        showlegend=False,
    )
    title = f"dominated volume ({' × '.join(found.reference)})"
    return figure([line], axis("trials that are over"), axis(title, rangemode="tozero"))


def front_numbers(records: Sequence[Record], goal: Goal) -> list[str]:
    """Name the trials on the front by their numbers in the table."""
    trials = {record.trial for record in front(records, goal)}
    return [f"#{n}" for n, record in enumerate(records, 1) if record.trial in trials]


def growth_note(found: Growth, numbers: Sequence[str]) -> str:
    """Say what the volume counts from, and which trials are on the front."""
    corner = ", ".join(f"{name} {value:.4g}" for name, value in found.reference.items())
    return (
        f"Hypervolume {found.volumes[-1]:.4g}, down to {corner}. On the front: "
        f"{', '.join(numbers)}. "
        "Trials beyond a constraint count as tries and add nothing."
    )
