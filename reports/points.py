"""Points of figures: records in, numbers to draw out; nothing here knows how they are drawn."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from harness.records import Record, fronts, variants
from harness.records.units import METRICS as METRICS
from harness.records.units import Metric as Metric
from harness.records.variants import settings as settings
from harness.records.variants import swept as swept
from reports import tables

STAGES = ("backbone_ms", "neck_ms", "head_ms", "nms_ms")


class Bound(NamedTuple):
    """A value and the interval or range around it, where there is one."""

    value: float
    low: float | None = None
    high: float | None = None


class Dot(NamedTuple):
    """One trial or variant between two metrics."""

    number: int
    label: str
    x: Bound
    y: Bound
    hover: tuple[str, ...]
    optimal: bool  # no other dot is at least as good in both and better in one
    ranked: bool = True  # whether it may be set in an order with others


class Stages(NamedTuple):
    """Times of one trial's stages, milliseconds, from passes of their own."""

    label: str
    times: dict[str, float]  # only those measured
    total: float | None  # end to end, from the main pass


class Curve(NamedTuple):
    """One quantity of one trial by epoch."""

    number: int
    label: str
    variant: int  # index of the variant among variants
    repeat: int  # index of the trial among its variant's trials
    epochs: list[float]
    values: list[float]


class Timed(NamedTuple):
    """Raw latencies of one trial in the order they were taken, milliseconds."""

    label: str
    end_to_end: list[float]
    reference: list[float]  # of the first trial, in the same rounds


class Sweep(NamedTuple):
    """A metric against the one knob that is swept."""

    knob: str
    settings: list[str]  # in order
    numbers: list[float] | None  # the settings, where all are numbers
    values: list[list[float]]  # by setting, one a trial


class Grid(NamedTuple):
    """A metric against the two knobs that are swept."""

    x_knob: str
    y_knob: str
    xs: list[str]
    ys: list[str]
    means: list[list[float | None]]  # [len(ys)][len(xs)]
    counts: list[list[int]]


def trade_off(
    records: Sequence[Record], cost: str, gain: str = "mAP", ranked: Sequence[Record] | None = None
) -> list[Dot]:
    """Place every finished trial that has both metrics between them.

    Args:
        records: of one study.
        cost: a key of `METRICS`.
        gain: likewise.
        ranked: the same as `harness.records.ranking` leaves them; None where all may be ranked.
    """
    dots = []
    labels = tables.labels(records)
    pairs = zip(records, ranked or records, strict=True)
    for number, (label, (record, kept)) in enumerate(zip(labels, pairs, strict=True), 1):
        found = next((one for one in (kept, record) if _has(one, cost, gain)), None)
        if found is not None:
            hover = _hover(records, record)
            place = _bound(found, cost), _bound(found, gain)
            dots.append(Dot(number, label, *place, hover, False, found is kept))
    return mark_optimal(dots)


def variant_trade_off(
    records: Sequence[Record], cost: str, gain: str = "mAP", ranked: Sequence[Record] | None = None
) -> list[Dot]:
    """Place every variant between the means of two metrics over its seeds, with their ranges.

    Args:
        records: of one study.
        cost: a key of `METRICS`.
        gain: likewise.
        ranked: as for `trade_off`; means are over those where there are any.
    """
    paths = tables.knobs(records)
    kept = {id(own): other for own, other in zip(records, ranked or records, strict=True)}
    dots = []
    for number, group in enumerate(tables.variants(records), 1):
        may = [kept[id(record)] for record in group if _has(kept[id(record)], cost, gain)]
        both = may or [record for record in group if _has(record, cost, gain)]
        if both:
            label = f"V{number}: {tables.settings(group[0], paths)}"
            hover = (*_settings(records, group[0]), f"mean of n = {len(both)}")
            place = _range(both, cost), _range(both, gain)
            dots.append(Dot(number, label, *place, hover, False, bool(may)))
    return mark_optimal(dots)


def _has(record: Record, *metrics: str) -> bool:
    return record.state == "done" and record.metrics.keys() >= {*metrics}


def mark_optimal(dots: Sequence[Dot]) -> list[Dot]:
    """Mark the dots that are Pareto-optimal among those that may be ranked."""
    ranked = [dot for dot in dots if dot.ranked]
    flags = fronts.front([(-dot.x.value, dot.y.value) for dot in ranked])
    optimal = {id(dot) for dot, flag in zip(ranked, flags, strict=True) if flag}
    return [dot._replace(optimal=id(dot) in optimal) for dot in dots]


def _bound(record: Record, metric: str) -> Bound:
    scale = METRICS[metric].scale
    if not metric.startswith("latency"):
        return Bound(record.metrics[metric] * scale)
    low, high = (metric.replace("_ms", f"_{end}_ms") for end in ("low", "high"))
    return Bound(record.metrics[metric], record.metrics.get(low), record.metrics.get(high))


def _range(group: Sequence[Record], metric: str) -> Bound:
    spread = tables.spread(group, metric)
    scale = METRICS[metric].scale
    mean, low, high = (
        number * scale
        for part in ("mean", "min", "max")
        if (number := spread[f"{metric}_{part}"]) is not None
    )
    return Bound(mean, low, high) if len(group) > 1 else Bound(mean)


def _hover(records: Sequence[Record], record: Record) -> tuple[str, ...]:
    caveats = [f"{METRICS[m].label if m in METRICS else m}: {t}" for m, t in record.caveats.items()]
    return (*_settings(records, record), f"seed: {record.seed}", *caveats)


def _settings(records: Sequence[Record], record: Record) -> tuple[str, ...]:
    return tuple(
        f"{label}: {tables.worded(tables.value(record, path))}"
        for path, label in tables.knobs(records).items()
    )


def stages(records: Sequence[Record]) -> list[Stages]:
    """Collect stage times of the trials that have any."""
    found = [
        Stages(
            tables.marked(label, record),
            {stage: record.metrics[stage] for stage in STAGES if stage in record.metrics},
            record.metrics.get("latency_ms"),
        )
        for label, record in zip(tables.labels(records), records, strict=True)
    ]
    return [item for item in found if item.times]


def curve_names(records: Sequence[Record]) -> list[str]:
    """Name what the curves of these trials hold: loss first, then mAP, other losses, the rest."""
    names = dict.fromkeys(name for record in records for row in record.curves for name in row)
    names = {name: None for name in names if name not in ("epoch", "step", "time")}
    order = ["loss", "mAP", *(name for name in names if name.startswith("loss")), *names]
    return [name for name in dict.fromkeys(order) if name in names]


def curves(records: Sequence[Record], name: str) -> list[Curve]:
    """Collect one quantity by epoch of every training; the first of its trials names it."""
    places = {
        id(record): (variant, repeat)
        for variant, group in enumerate(tables.variants(records))
        for repeat, record in enumerate(group)
    }
    scale = METRICS[name].scale if name in METRICS else 1.0
    found, drawn = [], set()
    for number, (label, record) in enumerate(zip(tables.labels(records), records, strict=True), 1):
        rows = [row for row in record.curves if math.isfinite(row.get(name, math.nan))]
        training = record.details.get("training", {}).get("training", record.trial)
        if rows and training not in drawn:
            drawn.add(training)
            epochs = [row.get("epoch", float(index)) for index, row in enumerate(rows)]
            values = [row[name] * scale for row in rows]
            found.append(Curve(number, label, *places[id(record)], epochs, values))
    return found


def timed(records: Sequence[Record]) -> list[Timed]:
    """Collect raw latencies of the trials that have them."""
    return [
        Timed(
            tables.marked(label, record),
            _scaled(record, "latency_ms"),
            _scaled(record, "reference_latency_ms"),
        )
        for label, record in zip(tables.labels(records), records, strict=True)
        if record.samples.get("latency_ms")
    ]


def _scaled(record: Record, name: str) -> list[float]:
    """Return samples on the scale of the record's figures, which are free of drift."""
    scale = record.details.get("together", {}).get("scale", 1.0)
    return [value * scale for value in record.samples.get(name, [])]


def sweep(records: Sequence[Record], path: str, metric: str) -> Sweep:
    """Collect a metric by the settings of the one knob that is swept."""
    having = [record for record in records if metric in record.metrics]
    settings = variants.ordered([tables.value(record, path) for record in having])
    scale = METRICS[metric].scale
    values = [
        [
            record.metrics[metric] * scale
            for record in having
            if tables.plain(tables.value(record, path)) == tables.plain(setting)
        ]
        for setting in settings
    ]
    return Sweep(
        tables.knobs(records)[path],
        [tables.worded(setting) for setting in settings],
        [float(setting) for setting in settings]
        if all(map(variants.is_number, settings))
        else None,
        values,
    )


def grid(records: Sequence[Record], paths: tuple[str, str], metric: str) -> Grid:
    """Collect a metric's mean over seeds by the settings of the two knobs that are swept."""
    settings = [variants.ordered([tables.value(r, path) for r in records]) for path in paths]
    xs, ys = ([tables.plain(item) for item in found] for found in settings)
    cells: dict[tuple[str, str], list[float]] = {}
    for record in records:
        if metric in record.metrics:
            x, y = tables.variant(record, paths)
            cells.setdefault((x, y), []).append(record.metrics[metric] * METRICS[metric].scale)
    names = tables.knobs(records)
    return Grid(
        names[paths[0]],
        names[paths[1]],
        [tables.worded(item) for item in settings[0]],
        [tables.worded(item) for item in settings[1]],
        [[_mean(cells.get((x, y), [])) for x in xs] for y in ys],
        [[len(cells.get((x, y), [])) for x in xs] for y in ys],
    )


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def axis_range(
    values: Sequence[float], least: float, floor: float = -math.inf, ceiling: float = math.inf
) -> tuple[float, float]:
    """Return limits that hold all values with a margin, even where there is only one.

    Args:
        values: what is drawn, intervals included.
        least: the smallest span worth showing, so that noise does not look like a trend.
        floor: no limit is lower.
        ceiling: no limit is higher.
    """
    low, high = min(values), max(values)
    margin = max(0.12 * (high - low), (least - (high - low)) / 2)
    return max(floor, low - margin), min(ceiling, high + margin)
