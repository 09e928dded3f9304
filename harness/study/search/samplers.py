"""Optuna's samplers and pruners, made from what a study says about them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner
from optuna.samplers import BaseSampler

from harness.config.search import Dominated, Gp, Halving, Hyperband, Nsga2, Qmc, Random, Search, Tpe


def sampler(search: Search, *streams: int) -> BaseSampler:
    """Make a search's sampler.

    Args:
        search: of the study.
        streams: numbers that set this sampler apart from others of the same search, such as how
            many trials were asked for before it: a driver that starts again, or a second one beside
            it, must not draw the first trials once more.
    """
    seed = _seed(search.seed, *streams)
    options = search.sampler.model_dump(exclude={"type"}, exclude_none=True)
    with _quiet():
        match search.sampler:
            case Tpe():
                return optuna.samplers.TPESampler(seed=seed, group=_grouped(search), **options)
            case Nsga2():
                return optuna.samplers.NSGAIISampler(seed=seed, **options)
            case Gp():
                return optuna.samplers.GPSampler(
                    seed=seed, warn_independent_sampling=False, **options
                )
            case Random():
                return optuna.samplers.RandomSampler(seed=seed)
            case Qmc():
                return optuna.samplers.QMCSampler(
                    seed=search.seed,  # of the sequence itself, which all drivers share
                    scramble=True,
                    independent_sampler=optuna.samplers.RandomSampler(seed=seed),
                    warn_independent_sampling=False,
                    warn_asynchronous_seeding=False,
                    **options,
                )


def pruner(search: Search, epochs: int | None) -> BasePruner:
    """Make a search's pruner; one that stops nothing where the study has none, or its own rule.

    Args:
        search: of the study.
        epochs: of the recipe; None when nothing is trained.
    """
    options = search.pruner.model_dump(exclude={"type"}) if search.pruner else {}
    match search.pruner:
        case None | Dominated():
            return optuna.pruners.NopPruner()
        case Hyperband():
            return optuna.pruners.HyperbandPruner(max_resource=epochs or "auto", **options)
        case Halving():
            return optuna.pruners.SuccessiveHalvingPruner(**options)
        case _:
            return optuna.pruners.MedianPruner(**options)


def hears_complete_only(search: Search) -> bool:
    """Say whether a search's sampler learns from complete trials only."""
    return isinstance(search.sampler, Nsga2 | Gp)


def _grouped(search: Search) -> bool:
    """Say whether TPE is to model conditional knobs in groups of their own."""
    together = search.sampler.multivariate if isinstance(search.sampler, Tpe) else False
    return bool(together) and any(axis.when for axis in search.space.values())


def _seed(*numbers: int) -> int:
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide that parts of Optuna are called experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        yield
