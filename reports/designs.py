"""What a design or a search came to: its effects and its growth, as tables and figures."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import plotly.graph_objects as go

from harness.records import Record
from harness.records.cells import ONE_SEED, UNTOLD
from harness.records.effects import LEVEL, Effect, Effects, by_metric
from harness.records.ranking import rank
from reports import theme
from reports.canvas import View, axis, categories, figure, safe, shorten, tall
from reports.columns import Column
from reports.display import DASH, MINUS, Cell, Table
from reports.figures import bars
from reports.points import METRICS, Bound
from reports.search import Goal, Growth, front, growth

COLUMNS = (
    Column("label", "effect", "knob", "the knob, from its first setting to another", kind="text"),
    Column("estimate", "effect", "difference", "the mean over all other settings"),
    Column("low", "95 % interval", "from", "all intervals of the page hold together at 95 %"),
    Column("high", "95 % interval", "to", "all intervals of the page hold together at 95 %"),
    Column(
        "sure",
        "95 % interval",
        "significant?",
        "whether the interval rests on repeated seeds and leaves out 0",
        kind="text",
    ),
    Column("aliases", "confounded with", "", "the same trials would show these as it", kind="text"),
)
SIGNIFICANT = "significant"
NOTHING = 1e-9  # what rounding leaves of a difference of equal numbers


def summary(records: Sequence[Record], goal: Goal | None = None) -> list[str]:
    """Say in lines what a design's knobs do, or what a search found, and what is not ranked."""
    ranking = rank(records)
    if goal is not None:
        found = growth(ranking.records, goal)
        numbers = front_numbers(ranking.records, goal)
        return [*ranking.reasons, *([] if found is None else [growth_note(found, numbers)])]
    lines = list(ranking.reasons)
    for item in by_metric(ranking).values():
        lines.append(effect_caption(item))
        lines += [_line(effect, item) for effect in item.effects]
    return lines


def _line(effect: Effect, among: Effects) -> str:
    ends = "" if effect.low is None else f" ({_signed(effect.low)} to {_signed(effect.high)})"
    mixed = f"; confounded with {', '.join(effect.aliases)}" if effect.aliases else ""
    return f"  {effect.label}: {_signed(effect.estimate)}{ends}, {verdict(effect, among)}{mixed}"


def effect_table(found: Effects) -> Table:
    """Lay out the effects on one metric, in the metric's unit."""
    rows = [_row(effect, found) for effect in found.effects]
    mixed = any(effect.aliases for effect in found.effects)
    columns = list(COLUMNS if mixed else COLUMNS[:-1])
    return Table(columns, [row[: len(columns)] for row in rows], [], [])


def effect_rows(found: Iterable[Effects]) -> list[dict[str, Any]]:
    """Make one flat row of plain values an effect, in the metric's unit."""
    return [
        {
            "metric": among.metric,
            "unit": METRICS[among.metric].unit,
            "effect": effect.label,
            "difference": effect.estimate,
            "low": effect.low,
            "high": effect.high,
            "verdict": verdict(effect, among),
            "confounded_with": ", ".join(effect.aliases),
            "trials": among.trials,
            "degrees_of_freedom": among.freedom,
            "effects_allowed_for": among.family,
        }
        for among in found
        for effect in among.effects
    ]


def effect_caption(found: Effects) -> str:
    """Say what the effects are on, and what their intervals rest on."""
    metric = METRICS[found.metric]
    lead = f"Effects on {metric.label}, {metric.unit}."
    several = f"{found.freedom} degree{'s' if found.freedom > 1 else ''} of freedom"
    if found.scatter == "seeds":
        held = f"Intervals that hold for all {found.family} effects on this page at once, in"
        held = f"{held} {LEVEL:.0%} of cases (Bonferroni)"
        held = held if found.family > 1 else f"Interval of {LEVEL:.0%}"
        rest = f"{held}, from {several} of repeated seeds in {found.trials} trials."
        timed = " A latency scatters over seeds with its training and with its timing."
        return f"{lead} {rest}{'' if found.metric == 'mAP' else timed}"
    why = WHY[found.scatter].format(what=_what(found))
    if all(effect.low is None for effect in found.effects):
        return f"{lead} No interval: {why}. More seeds would give one."
    return (
        f"{lead} None is called significant: {why}. Intervals from {several} of interactions,"
        f" which are taken for scatter, in {found.trials} trials; more seeds would tell."
    )


WHY = {
    "one seed": f"{ONE_SEED}; one training of each setting says {{what}}",
    "few seeds": "too few settings were trained with several seeds to tell their scatter",
    "equal seeds": "repeated seeds gave equal values, which do not tell how much others scatter",
}


def _what(found: Effects) -> str:
    """Say what is known of one training."""
    return "how it does on these images only" if found.metric == "mAP" else "how it was timed only"


def verdict(effect: Effect, among: Effects) -> str:
    """Say whether an effect is told from nothing: by repeated seeds alone."""
    if among.scatter == "one seed":
        return UNTOLD
    if among.scatter == "equal seeds":
        return "unknown: seeds gave equal values"
    if among.scatter == "few seeds" or effect.low is None or effect.high is None:
        return "unknown: too few repeated seeds"
    told = effect.low > NOTHING or effect.high < -NOTHING
    return SIGNIFICANT if told else "not significant"


def _row(effect: Effect, among: Effects) -> list[Cell]:
    numbers = [effect.estimate, effect.low, effect.high]
    return [
        Cell(effect.label, effect.label, style="key"),
        *(Cell(_signed(number), number) for number in numbers),
        Cell(verdict(effect, among), verdict(effect, among), style="key"),
        Cell(", ".join(effect.aliases), ", ".join(effect.aliases), style="key"),
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
        View(METRICS[found.metric].label, [index], {"xaxis.title.text": _title(found.metric)})
        for index, found in enumerate(by_metric.values())
    ]
    labels = list(dict.fromkeys(_label(e) for found in by_metric.values() for e in found.effects))
    first = next(iter(by_metric.values())).metric
    x = axis(_title(first), zeroline=True, zerolinecolor=theme.FAINT)
    return figure(traces, x, categories(labels), height=tall(len(labels)), views=views)


def _effects(found: Effects, *, visible: bool) -> go.Scatter:
    """Draw effects, those that are significant filled in blue."""
    bounds = [Bound(effect.estimate, effect.low, effect.high) for effect in found.effects]
    verdicts = [verdict(effect, found) for effect in found.effects]
    filled = [each == SIGNIFICANT for each in verdicts]
    return go.Scatter(
        x=[effect.estimate for effect in found.effects],
        y=[_label(effect) for effect in found.effects],
        error_x=bars(bounds, theme.GREY),
        mode="markers",
        marker={
            "size": 10,
            "color": [theme.BLUE if each else theme.GREY for each in filled],
            "symbol": ["circle" if each else "circle-open" for each in filled],
        },
        customdata=verdicts,
        visible=visible,
        hovertemplate="%{y}: %{x:+.3g}, %{customdata}<extra></extra>",
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
