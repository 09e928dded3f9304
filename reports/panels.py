"""Which figures a page shows, and what a reader must know to read them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import plotly.graph_objects as go

from harness.records import Record, effects
from harness.records.cells import ONE_SEED
from harness.records.protocols import brought_along
from harness.records.ranking import Ranking, rank
from reports import (
    breakdowns,
    designs,
    figures,
    importance,
    latencies,
    points,
    precision,
    published,
    search,
    tables,
)
from reports.findings import NONE, Findings
from reports.search import Goal

COSTS = ("latency_ms", "params", "macs")
SHOWN = ("mAP", "latency_ms", "nms_ms", "params", "macs")
SAME = 1e-9  # relative difference of numbers that are the same
COUNTED = ("params", "macs")  # what is drawn only where it differs
MANY = 12  # more trials than this need the page's full width for a row each

FRONT = (
    "The line connects the Pareto-optimal dots: no other is at least as good in both and better "
    "in one."
)
IN_TURNS = (
    "Latency is the baseline's own times the ratio to it, measured in turns, so that what the "
    "machine did between trials does not show."
)
STAGES = (
    "Stages are timed in passes of their own, so that their clocks do not disturb the total; the "
    "tick is the median of the main pass, end to end. The two need not meet; nothing fills the gap."
)
BREAKDOWN = (
    "A dot a trial; where seeds were repeated, a line marks their mean. At most "
    f"{breakdowns.MOST_VARIANTS} variants, those with the greatest mAP, and "
    f"{breakdowns.MOST_CLASSES} classes, those that differ most."
)
CURVES = (
    "One line a training; a colour is a variant, a dash pattern a seed. Trials of one training "
    "share its line, which has the first one's name. Click a name to hide it, twice to see it "
    "alone."
)
SPREAD = (
    "Every sample that was taken, none removed: box from first to third quartile, whiskers to "
    "1.5 times its length, dots beyond."
)
EFFECTS = (
    "A difference that a knob makes on average over the settings of the others, with its interval. "
    "A filled dot is significant: repeated seeds say so, all effects on the page allowed for. The "
    "table above holds the numbers."
)
UNRANKED = " A hollow square is shown and not ranked; the reason stands above the figures."
ORDER = "A drift that both series share comes from the machine, not from the trial."


class Panel(NamedTuple):
    """One figure of the page."""

    key: str
    title: str
    note: str
    figure: go.Figure
    wide: bool = False


def panels(
    records: Sequence[Record],
    goal: Goal | None = None,
    ranking: Ranking | None = None,
    findings: Findings = NONE,
) -> list[Panel]:
    """Make every figure that these records have points for.

    Args:
        records: of one study.
        goal: of the search that made them; None for a sweep.
        ranking: what of them may be ranked; found here if None.
        findings: what the command worked out.
    """
    ranking = ranking or rank(records)
    ranked = ranking.records
    dots = _trade_offs(records, ranking, goal)
    knobs = _growth(ranked, goal) if goal else [*_swept(ranking), *_effects(ranking)]
    knobs += [*_importance(findings), *_published(findings)]
    rest = [*_breakdowns(records), *_precision(records, findings), *_stages(records)]
    rest += _latencies(records)
    main = [panel._replace(wide=not knobs) for panel in dots[:1]]
    return [*main, *knobs, *dots[1:], *rest, *_curves(records)]


def _effects(ranking: Ranking) -> list[Panel]:
    found = effects.by_metric(ranking)
    if not found:
        return []
    return [Panel("effects", "Effect of each knob", EFFECTS, designs.effects_figure(found))]


def _growth(records: Sequence[Record], goal: Goal) -> list[Panel]:
    found = search.growth(records, goal)
    if found is None:
        return []
    note = designs.growth_note(found, designs.front_numbers(records, goal))
    return [Panel("growth", "What the search found", note, designs.growth_figure(found))]


def _importance(findings: Findings) -> list[Panel]:
    found = findings.importances.found if findings.importances else []
    if not found:
        return []
    title, figure = "Which knobs matter", importance.importance_figure(found)
    return [Panel("importance", title, importance.NOTE, figure)]


def _published(findings: Findings) -> list[Panel]:
    found = published.pairs(findings.published) if findings.published else {}
    if not found:
        return []
    title, figure = "Published beside measured", published.pairs_figure(found)
    return [Panel("published", title, published.NOTE, figure)]


def _precision(records: Sequence[Record], findings: Findings) -> list[Panel]:
    curves = precision.lines(records, findings.precision)
    matrices = precision.matrices(records, findings.precision)
    found = []
    if curves:
        title, figure = "Precision against recall", precision.curves_figure(curves)
        found.append(Panel("precision", title, precision.CURVES_NOTE, figure))
    if matrices:
        first = next(iter(findings.precision.values()))
        note = precision.CONFUSION_NOTE.format(iou=first.ious[0])
        title, figure = "What is taken for what", precision.confusion_figure(matrices)
        found.append(Panel("confusion", title, note, figure))
    return found


def _within(records: Sequence[Record], goal: Goal) -> list[Record]:
    """Take the metrics from trials beyond a constraint, so that they are on no front."""
    return [
        record.model_copy(update={"metrics": {}}) if record.trial in goal.beyond else record
        for record in records
    ]


def _trade_offs(records: Sequence[Record], ranking: Ranking, goal: Goal | None) -> list[Panel]:
    gain, several = points.METRICS["mAP"], tables.has_seeds(records)
    place = points.variant_trade_off if several else points.trade_off
    found = []
    for key in COSTS:
        shown, ranked = (
            _within(each, goal) if goal else each for each in (records, ranking.records)
        )
        dots = place(shown, key, ranked=ranked)
        metric = (ranking.metric or key) if key == "latency_ms" else key
        cost = points.METRICS[metric]
        if len(dots) > 1 and (key not in COUNTED or _varies(dot.x.value for dot in dots)):
            note = _bars_note(
                metric, several, any(dot.ranked for dot in dots), beside=ranking.beside
            )
            note += "" if several else f" {ONE_SEED.capitalize()}: a lead in mAP may be its seed's."
            note += "" if all(dot.ranked for dot in dots) else UNRANKED
            note += _across(ranking.records) if any(dot.ranked for dot in dots) else ""
            figure = figures.trade_off_figure(dots, cost, gain)
            found.append(Panel(f"mAP-{key}", f"mAP against {cost.label}", note, figure))
    return found


def _across(records: Sequence[Record]) -> str:
    """Say what differs between the protocols of trials on a front beside what their labels name."""
    done = [record for record in records if record.state == "done"]
    keys = ", ".join(brought_along(done))
    if not keys:
        return ""
    return f" The trials differ in {keys}, which goes with what the study sweeps."


def _varies(values: Iterable[float]) -> bool:
    """Say whether there is anything to see along an axis."""
    found = list(values)
    return bool(found) and max(found) - min(found) > SAME * max(map(abs, found))


def _bars_note(cost: str, several: bool, ranked: bool, *, beside: bool) -> str:
    front = f" {FRONT}" if ranked else ""
    if several:
        drift = f" {IN_TURNS}" if cost == "latency_adjusted_ms" else ""
        means = "the mean over its seeds, bars from least to greatest"
        return f"One dot a variant: {means}.{drift}{front}"
    ties = " Dots whose bars overlap may be ties." if ranked else ""
    bars = "its ratio to the baseline, which has none" if beside else "the median"
    if cost in ("latency_ms", "latency_adjusted_ms"):
        drift = f" {IN_TURNS}" if cost == "latency_adjusted_ms" else ""
        return f"One dot a trial; bars are the 95 % interval of {bars}.{drift}{front}{ties}"
    return f"One dot a trial.{front}"


def _breakdowns(records: Sequence[Record]) -> list[Panel]:
    found = breakdowns.breakdowns(records)
    if not found:
        return []
    title = "Where accuracy is won and lost"
    return [Panel("breakdown", title, BREAKDOWN, breakdowns.breakdown_figure(found), True)]


def _stages(records: Sequence[Record]) -> list[Panel]:
    stages = points.stages(records)
    if not stages:
        return []
    return [
        Panel(
            "stages",
            "Where the time goes",
            STAGES,
            figures.stages_figure(stages),
            len(stages) > MANY,
        )
    ]


def _curves(records: Sequence[Record]) -> list[Panel]:
    curves = {name: points.curves(records, name) for name in points.curve_names(records)}
    curves = {name: lines for name, lines in curves.items() if lines}
    if not curves:
        return []
    note = CURVES + _validated_with(records)
    return [Panel("curves", "Training", note, figures.curves_figure(curves), True)]


def _validated_with(records: Sequence[Record]) -> str:
    """Say which knobs of these trials are not those that their trainings were validated with."""
    trainings = [record.details.get("training", {}) for record in records]
    knobs = {path: v for told in trainings for path, v in told.get("validated_with", {}).items()}
    if not knobs:
        return ""
    texts = (f"{path}={'none' if value is None else value}" for path, value in knobs.items())
    return (
        f" Validated with {', '.join(texts)}; trials that differ in nothing else share a training."
    )


def _latencies(records: Sequence[Record]) -> list[Panel]:
    timed = points.timed(records)
    if not timed:
        return []
    return [
        Panel(
            "spread",
            "Latency: how it scatters",
            SPREAD,
            latencies.spread_figure(timed),
            len(timed) > MANY,
        ),
        Panel("order", "Latency: sample by sample", ORDER, latencies.order_figure(timed), True),
    ]


def _swept(ranking: Ranking) -> list[Panel]:
    records = ranking.records
    paths = points.swept(records)
    having = {key: [r.metrics[key] for r in records if key in r.metrics] for key in SHOWN}
    keys = [key for key, found in having.items() if key not in COUNTED or _varies(found)]
    keys = [key for key in keys if having[key]]
    if not keys:
        return []
    if len(paths) == 1:
        sweeps = {key: points.sweep(records, paths[0], key) for key in keys}
        knob = tables.knobs(records)[paths[0]]
        note = "A dot a trial, the line through the means."
        return [Panel("sweep", f"Effect of {knob}", note, figures.sweep_figure(sweeps))]
    if len(paths) == 2:
        grids = {key: points.grid(records, (paths[0], paths[1]), key) for key in keys}
        note = "The mean over seeds; an empty cell has no trial that is done."
        return [Panel("grid", "The two knobs together", note, figures.grid_figure(grids))]
    return []


def legend(records: Sequence[Record]) -> str:
    """Say how figures label trials."""
    names = ", ".join(tables.knobs(records).values())
    parts = ["number in the table", *([f"value of {names}"] if names else [])]
    parts += ["seed"] if tables.has_seeds(records) else []
    variants = " V and a number name a variant." if tables.has_seeds(records) else ""
    return f"Figures label a trial by: {'; '.join(parts)}.{variants}"
