"""How much each knob of a search mattered for being among the best; records in, shares out.

Optuna's PED-ANOVA compares where the best quarter of the trials lies with where all lie, one knob
at a time. It needs no model of the objective, and does not mind that a sampler tried some settings
more often than others. How much a knob gets by luck alone is found by dealing the values of the
objective out to the trials anew.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from harness.records import Record, goals, variants
from harness.records.goals import Goal
from harness.records.importances import Importance, Importances, Share

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

BEST = 0.25  # of the trials: those whose settings are compared with all
FEWEST_BEST = 5
"""Of these: "it is preferable to include at least 5 trials above target_quantile".

Source: optuna.importance.PedAnovaImportanceEvaluator, Optuna 5.0.
"""
FEWEST = round(FEWEST_BEST / BEST)
DEALS = 40  # of the objective's values, which tell what luck does
SURE = 0.95


def importances(records: Sequence[Record], goal: Goal) -> Importances:
    """Work out how much each knob mattered for each objective of a search.

    Args:
        records: of the search, figures that may not be ranked left out.
        goal: of the search; trials beyond its constraints count, too.

    Source: Watanabe, Bansal and Hutter, PED-ANOVA (2023), arXiv:2304.10255.
    """
    done = [record for record in records if record.state == "done"]
    found, reasons = [], []
    for metric, way in goal.objectives.items():
        having = [record for record in done if metric in record.metrics]
        costs = goals.gains_of(having, Goal({metric: way}))[:, 0] * -1
        why = _why_not(having, costs, metric)
        if why:
            reasons.append(why)
        else:
            found.append(_importance(having, costs.tolist(), metric))
    return Importances(found, " ".join(dict.fromkeys(reasons)))


def _why_not(having: Sequence[Record], costs: Any, metric: str) -> str:
    """Say why nothing can be told; nothing where it can."""
    if len(having) < FEWEST:
        have = "1 trial has" if len(having) == 1 else f"{len(having)} trials have"
        return (
            f"Which knobs matter for {metric} is not told: {have} it, and at least {FEWEST} are"
            f" needed for {FEWEST_BEST} in the best quarter."
        )
    if not variants.swept(having):
        return f"Which knobs matter for {metric} is not told: no knob varies."
    if np.ptp(costs) == 0:
        return f"Which knobs matter for {metric} is not told: all trials have the same."
    return ""


def _importance(having: Sequence[Record], costs: list[float], metric: str) -> Importance:
    """Give each knob its share, and the share that luck gives it."""
    names = variants.knobs(having)
    tried = {names[path]: _tried(having, path) for path in variants.swept(having)}
    shares, draw = _shares(tried, costs), random.Random(0)
    dealt = [_shares(tried, draw.sample(costs, len(costs))) for _ in range(DEALS)]
    rows = [
        Share(name, shares[name], float(np.quantile([one[name] for one in dealt], SURE)))
        for name in tried
    ]
    return Importance(metric, sorted(rows, key=lambda row: -row.share), len(having))


def _tried(having: Sequence[Record], path: str) -> list[float] | list[str]:
    """Return a knob's settings, numbers by their place among all that were tried, in [0, 1].

    So it does not matter whether a knob was searched by its logarithm.
    """
    settings = [variants.value(record, path) for record in having]
    if not all(map(variants.is_number, settings)):
        return [variants.plain(setting) for setting in settings]
    order = sorted(set(settings))
    return [order.index(setting) / (len(order) - 1) for setting in settings]


def _shares(
    tried: Mapping[str, list[float] | list[str]], costs: Sequence[float]
) -> dict[str, float]:
    """Ask Optuna; knobs that nothing tells apart share alike."""
    import optuna  # slow to import, and only searches need it
    from optuna import importance  # likewise
    from optuna.trial import create_trial  # likewise

    distributions = {name: _distribution(settings) for name, settings in tried.items()}
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study()
    for place, cost in enumerate(costs):
        params = {name: settings[place] for name, settings in tried.items()}
        trial = create_trial(params=params, distributions=distributions, value=cost)
        study.add_trial(trial)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        judge = importance.PedAnovaImportanceEvaluator(target_quantile=BEST)
        found = importance.get_param_importances(study, evaluator=judge, normalize=False)
    total = sum(map(float, found.values()))
    return {
        name: float(found[name]) / total if total > 0 else 1 / len(tried) for name in distributions
    }


def _distribution(settings: list[float] | list[str]) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution  # slow to import

    if isinstance(settings[0], str):
        return CategoricalDistribution(list(dict.fromkeys(settings)))
    return FloatDistribution(0.0, 1.0)
