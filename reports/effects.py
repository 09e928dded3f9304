"""Effects: what each swept knob does on average, and how sure that is; records in, numbers out.

A linear model is fitted by least squares: a block for each seed, the main effect of every knob, and
the interaction of every two knobs of two settings as far as the trials tell it from the rest.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.records import Record, least_squares
from harness.records.least_squares import Fit
from reports import points, tables

Floats = NDArray[np.float64]
MOST_SETTINGS = 6  # of a knob; more are a search, not a design
LEVEL = 0.95
SAME = 1e-9  # length, relative to its own, of what is left of a column that others make up
TIMES = " × "


class Effect(NamedTuple):
    """A difference that a knob makes, averaged over the settings of the others."""

    label: str  # "expand_ratio: 0.25 to 0.5", or "expand_ratio × kernel_size"
    estimate: float
    low: float | None  # of the 95 % interval; None where nothing tells the scatter
    high: float | None
    aliases: tuple[str, ...] = ()  # what else the same trials would show as this effect


class Effects(NamedTuple):
    """All effects on one metric."""

    metric: str
    effects: list[Effect]
    trials: int
    freedom: int  # degrees, of the scatter
    pooled: bool  # whether interactions were taken for scatter, for want of repetitions


class _Term(NamedTuple):
    """Columns of the model that stand for one knob, or for two together."""

    name: str
    columns: Floats  # [N, L - 1], of a knob's settings against their average
    settings: list[str]


def by_metric(records: Sequence[Record]) -> dict[str, Effects]:
    """Estimate effects on accuracy and latency; empty where there is no design to tell from."""
    timed = points.without_drift(records)
    keys = ("mAP", "latency_adjusted_ms" if timed else "latency_ms")
    found = {key: effects(timed or records, key) for key in keys}
    return {key: item for key, item in found.items() if item is not None}


def effects(records: Sequence[Record], metric: str) -> Effects | None:
    """Estimate main effects, and interactions of two knobs, on a metric.

    The effect of a setting is the mean over all combinations with it, less that with the knob's
    first setting. The interaction of two knobs is half of what the second setting of one adds to
    the effect of the other.

    Args:
        records: of one study; those that are done and have the metric count.
        metric: a key of `points.METRICS`, whose scale and unit the estimates take.

    Returns:
        None where there is nothing to estimate: nothing or too much is swept, or one knob without
        repetitions, of which the trials themselves say it all.
    """
    done = [r for r in records if r.state == "done" and metric in r.metrics]
    paths = points.swept(done)
    settings = {path: points.settings(done, path) for path in paths}
    if not paths or any(len(known) > MOST_SETTINGS for known in settings.values()):
        return None
    y = np.array([r.metrics[metric] for r in done]) * points.METRICS[metric].scale
    base = np.column_stack([np.ones(len(done)), _seeds(done)])
    names = tables.knobs(done)
    mains = [_main(done, path, settings[path], names[path]) for path in paths]
    pairs = [
        _Term(f"{a.name}{TIMES}{b.name}", a.columns * b.columns, [])
        for a, b in itertools.combinations(mains, 2)
        if len(a.settings) == len(b.settings) == 2
    ]
    terms, aliases = _apart(base, mains, pairs)
    found = _estimate(metric, y, base, terms, aliases) if terms else None
    return None if found is None or (len(paths) == 1 and not found.freedom) else found


def _estimate(
    metric: str, y: Floats, base: Floats, terms: list[_Term], aliases: dict[str, list[str]]
) -> Effects | None:
    """Fit all terms; without the interactions, where those would leave nothing to tell scatter."""
    mains = [term for term in terms if term.settings]
    width = base.shape[1] + sum(term.columns.shape[1] for term in terms)
    pooled = width >= len(y) and len(mains) < len(terms)
    shown = mains if pooled else terms
    fit = least_squares.fit(np.column_stack([base, *(term.columns for term in shown)]), y)
    if len(fit.coefficients) > len(y):
        return None
    rows: list[Effect] = []
    start = base.shape[1]
    for term in shown:
        for label, weights in _contrasts(term):
            rows.append(_effect(fit, label, start, weights, tuple(aliases.get(term.name, ()))))
        start += term.columns.shape[1]
    return Effects(metric, rows, len(y), fit.freedom, pooled)


def _effect(fit: Fit, label: str, start: int, weights: Floats, aliases: tuple[str, ...]) -> Effect:
    """Combine coefficients, from one on, into what is shown, with its interval."""
    contrast = np.zeros(len(fit.coefficients))
    contrast[start : start + len(weights)] = weights
    estimate = float(contrast @ fit.coefficients)
    half = fit.half(contrast, LEVEL)
    if half is None:
        return Effect(label, estimate, None, None, aliases)
    return Effect(label, estimate, estimate - half, estimate + half, aliases)


def _contrasts(term: _Term) -> list[tuple[str, Floats]]:
    """Return what is shown of a term: each setting against the first, or the interaction."""
    if not term.settings:
        return [(term.name, np.array([2.0]))]
    first, *others = term.settings
    count = len(others)
    return [
        (f"{term.name}: {first} to {setting}", np.ones(count) + np.eye(count)[index])
        for index, setting in enumerate(others)
    ]


def _main(records: Sequence[Record], path: str, settings: list[Any], name: str) -> _Term:
    """Code a knob so that its coefficients add up to nothing: the first setting is minus all."""
    texts = [tables.plain(setting) for setting in settings]
    places = [texts.index(tables.plain(tables.value(record, path))) for record in records]
    codes = np.vstack([-np.ones(len(texts) - 1), np.eye(len(texts) - 1)])
    return _Term(name, codes[places], texts)


def _seeds(records: Sequence[Record]) -> Floats:
    """Code seeds as blocks, [N, S - 1]."""
    seeds = sorted({record.seed for record in records})
    codes = np.vstack([-np.ones(len(seeds) - 1), np.eye(len(seeds) - 1)])
    return np.asarray(codes[[seeds.index(record.seed) for record in records]], dtype=np.float64)


def _apart(
    base: Floats, mains: list[_Term], pairs: list[_Term]
) -> tuple[list[_Term], dict[str, list[str]]]:
    """Keep the terms that the trials tell apart, and name what each of them is mixed up with."""
    kept: list[_Term] = []
    aliases: dict[str, list[str]] = {}
    design = base
    for term in [*mains, *pairs]:
        if _independent(design, term.columns):
            kept.append(term)
            design = np.column_stack([design, term.columns])
            continue
        twin = next((other for other in kept if _made_of(other.columns, term.columns)), None)
        if twin is not None:
            aliases.setdefault(twin.name, []).append(term.name)
    return kept, aliases


def _independent(design: Floats, columns: Floats) -> bool:
    rank = np.linalg.matrix_rank(design)
    both = np.linalg.matrix_rank(np.column_stack([design, columns]))
    return bool(both == rank + columns.shape[1])


def _made_of(columns: Floats, others: Floats) -> bool:
    """Say whether some columns are combinations of others."""
    found = np.linalg.lstsq(columns, others, rcond=None)[0]
    left = others - columns @ found
    return bool(np.linalg.norm(left) <= SAME * np.linalg.norm(others))
