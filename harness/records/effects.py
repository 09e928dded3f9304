"""Effects: what each swept knob does on average, and how sure that is; records in, numbers out.

A linear model is fitted by least squares: a block for each seed, the main effect of every knob, and
the interaction of every two knobs of two settings as far as the trials tell it from the rest.

An effect is significant only if repeated seeds say so: the scatter of its interval is that between
seeds of the same settings, and the intervals of all effects on a page hold together at 95 %. Where
every cell has a single training, the scatter is what the model leaves over; it tells no training's
luck from an interaction, so that nothing is called significant whatever its interval. A latency
scatters over seeds as its trainings do, whose scores decide on the time for NMS, and as its timing
does. Rounds within one timing are repeated, too, but not the training, and do not count as seeds.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from harness.records import least_squares, variants
from harness.records.cells import Scatter, cells
from harness.records.least_squares import Fit
from harness.records.ranking import PLAIN, Ranking
from harness.records.record import Record
from harness.records.units import METRICS

Floats = NDArray[np.float64]
MOST_SETTINGS = 6  # of a knob; more are a search, not a design
LEVEL = 0.95
SAME = 1e-9  # length, relative to its own, of what is left of a column that others make up
TIMES = " × "


class Effect(NamedTuple):
    """A difference that a knob makes, averaged over the settings of the others."""

    label: str  # "expand_ratio: 0.25 to 0.5", or "expand_ratio × kernel_size"
    estimate: float
    low: float | None  # of the interval; None where nothing tells the scatter
    high: float | None
    aliases: tuple[str, ...] = ()  # what else the same trials would show as this effect
    interaction: bool = False  # of two knobs


class Effects(NamedTuple):
    """All effects on one metric; the intervals of a whole page hold together at `LEVEL`."""

    metric: str
    effects: list[Effect]
    trials: int
    freedom: int  # degrees, of the scatter
    scatter: Scatter  # what the intervals rest on; without seeds, on what the model leaves over
    family: int  # effects on the page, which share what may go wrong (Bonferroni)


class _Term(NamedTuple):
    """Columns of the model that stand for one knob, or for two together."""

    name: str
    columns: Floats  # [N, L - 1], of a knob's settings against their average
    settings: list[str]


class _Model(NamedTuple):
    """A fitted model of one metric."""

    fit: Fit  # with the scatter that intervals are made of
    contrasts: list[tuple[str, Floats, tuple[str, ...], bool]]
    """Label, [P] of coefficients, aliases, whether it is an interaction."""
    trials: int
    scatter: Scatter


def by_metric(ranking: Ranking) -> dict[str, Effects]:
    """Estimate effects on accuracy and latency; empty where there is no design to tell from.

    Returns:
        By key of the records' metrics. All effects are one family.
    """
    models = {key: _model(ranking.records, key) for key in ("mAP", PLAIN)}
    found = {key: model for key, model in models.items() if model is not None}
    family = sum(len(model.contrasts) for model in found.values())
    named = {"mAP": "mAP", PLAIN: ranking.metric or PLAIN}
    return {key: _effects(named[key], model, family) for key, model in found.items()}


def effects(records: Sequence[Record], metric: str) -> Effects | None:
    """Estimate main effects, and interactions of two knobs, on a metric.

    The effect of a setting is the mean over all combinations with it, less that with the knob's
    first setting. The interaction of two knobs is half of what the second setting of one adds to
    the effect of the other.

    Args:
        records: of one study; those that are done and have the metric count.
        metric: a key of `units.METRICS`, whose scale and unit the estimates take.

    Returns:
        None where there is nothing to estimate: nothing or too much is swept, or one knob without
        repetitions, of which the trials themselves say it all.

    Source: Miller, Simultaneous Statistical Inference (1981), sec. 2.2, on Bonferroni intervals.
    """
    model = _model(records, metric)
    return None if model is None else _effects(metric, model, len(model.contrasts))


def _effects(metric: str, model: _Model, family: int) -> Effects:
    """Give every effect its interval, one of so many."""
    level = 1 - (1 - LEVEL) / family
    rows = []
    for label, contrast, aliases, interaction in model.contrasts:
        estimate = float(contrast @ model.fit.coefficients)
        half = model.fit.half(contrast, level)
        low, high = (None, None) if half is None else (estimate - half, estimate + half)
        rows.append(Effect(label, estimate, low, high, aliases, interaction))
    return Effects(metric, rows, model.trials, model.fit.freedom, model.scatter, family)


def _model(records: Sequence[Record], metric: str) -> _Model | None:
    """Fit a metric's model; None where there is nothing to estimate."""
    done = [r for r in records if r.state == "done" and metric in r.metrics]
    paths = variants.swept(done)
    settings = {path: variants.settings(done, path) for path in paths}
    if not paths or any(len(known) > MOST_SETTINGS for known in settings.values()):
        return None
    y = np.array([r.metrics[metric] for r in done]) * METRICS[metric].scale
    base = np.column_stack([np.ones(len(done)), _seeds(done)])
    names = variants.knobs(done)
    mains = [_main(done, path, settings[path], names[path]) for path in paths]
    pairs = [
        _Term(f"{a.name}{TIMES}{b.name}", a.columns * b.columns, [])
        for a, b in itertools.combinations(mains, 2)
        if len(a.settings) == len(b.settings) == 2
    ]
    terms, aliases = _apart(base, mains, pairs)
    fitted = _fit(y, base, terms) if terms else None
    if fitted is None:
        return None
    fit, shown = fitted
    repeated = cells(done, y)
    if repeated.scatter == "seeds":
        fit = fit._replace(variance=repeated.fit.variance, freedom=repeated.fit.freedom)
    if len(paths) == 1 and not fit.freedom:
        return None
    contrasts, start = [], base.shape[1]
    for term in shown:
        for label, weights in _contrasts(term):
            contrast = np.zeros(len(fit.coefficients))
            contrast[start : start + len(weights)] = weights
            others = tuple(aliases.get(term.name, ()))
            contrasts.append((label, contrast, others, not term.settings))
        start += term.columns.shape[1]
    return _Model(fit, contrasts, len(y), repeated.scatter)


def _fit(y: Floats, base: Floats, terms: list[_Term]) -> tuple[Fit, list[_Term]] | None:
    """Fit all terms; without the interactions, where those would leave nothing to tell scatter."""
    mains = [term for term in terms if term.settings]
    width = base.shape[1] + sum(term.columns.shape[1] for term in terms)
    shown = mains if width >= len(y) and len(mains) < len(terms) else terms
    fit = least_squares.fit(np.column_stack([base, *(term.columns for term in shown)]), y)
    return None if len(fit.coefficients) > len(y) else (fit, shown)


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
    texts = [variants.plain(setting) for setting in settings]
    places = [texts.index(variants.plain(variants.value(record, path))) for record in records]
    codes = np.vstack([-np.ones(len(texts) - 1), np.eye(len(texts) - 1)])
    return _Term(name, codes[places], [variants.worded(setting) for setting in settings])


def _seeds(records: Sequence[Record]) -> Floats:
    """Code seeds as blocks, [N, S - 1]."""
    seeds = sorted({record.seed for record in records})
    codes = np.vstack([-np.ones(len(seeds) - 1), np.eye(len(seeds) - 1)])
    return np.asarray(codes[[seeds.index(record.seed) for record in records]], dtype=np.float64)


def _apart(
    base: Floats, mains: list[_Term], pairs: list[_Term]
) -> tuple[list[_Term], dict[str, list[str]]]:
    """Keep the terms that the trials tell apart, and name what each of them is confounded with."""
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
