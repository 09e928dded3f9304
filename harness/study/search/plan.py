"""What a driver asks a study for: which trials to run, when one is given up, what Optuna is told.

A design (`sweep:`) has a list of trials, and perhaps more seeds as their results come in:

    trials = expand(study)
    while more := plan.follow_ups(study, records): ...          # racing; empty without it

A search (`search:`) asks Optuna for one trial after the other:

    optuna_study = optuna.create_study(directions=[...], storage=..., ...)
    optuna_study.sampler = plan.sampler(study, trials_asked_before, driver_number)
    optuna_study.pruner = plan.pruner(study)
    trial = optuna_study.ask()
    run = plan.ask(study, trial)                                 # overrides and seed
    spec = specs(run.overrides, run.seed)                        # StudyError: cannot be built
    judge = Judge(study, records, trial)                         # for the executor's questions
    plan.tell(study, optuna_study, trial, record, records)       # whatever became of it

`spec.trial` is a hash of the configuration: when its record stands, or the trial is under way, it
is not run again; tell the record that is known, once there is one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import optuna
from optuna.trial import TrialState

from harness.config.search import Search
from harness.records import Record
from harness.study.designs import racing
from harness.study.designs.racing import Run
from harness.study.search import objectives, samplers, space
from harness.study.study import Study

STATES = {
    "complete": TrialState.COMPLETE,
    "pruned": TrialState.PRUNED,
    "failed": TrialState.FAIL,
}


def follow_ups(study: Study, records: Sequence[Record]) -> list[Run]:
    """List the trials that racing adds to those that are over; empty when the verdict is closed.

    Args:
        study: of a design.
        records: of all its trials, whatever their state.
    """
    if study.racing is None:
        return []
    return racing.next_runs(records, study.racing, study.seeds)


def sampler(study: Study, *streams: int) -> optuna.samplers.BaseSampler:
    """Make the search's sampler; see `samplers.sampler` for what `streams` are."""
    return samplers.sampler(_search(study), *streams)


def pruner(study: Study) -> optuna.pruners.BasePruner:
    """Make the search's pruner, which `Judge` asks; it stops nothing with several objectives."""
    search = _search(study)
    axis = search.space.get("recipe")
    named = [{"recipe": name} for name in (axis.choices or ())] if axis else [{}]
    recipes = [setup.recipe for setup in map(study.setup, named) if setup.recipe is not None]
    return samplers.pruner(search, max((recipe.epochs for recipe in recipes), default=None))


def ask(study: Study, trial: optuna.trial.BaseTrial) -> Run:
    """Let a trial of Optuna choose what to run."""
    return Run(space.suggest(trial, _search(study).space), study.seeds[0])


def is_judged(study: Study) -> bool:
    """Say whether a study's judge can give up any trial."""
    return bool(study.limits) or study.search is not None


def tell(
    study: Study,
    optuna_study: optuna.Study,
    trial: optuna.Trial,
    record: Record | None,
    records: Iterable[Record],
) -> None:
    """Tell Optuna what became of a trial: its values, or that it was pruned or failed.

    Args:
        study: of a search.
        optuna_study: that the trial is of.
        trial: as Optuna's `ask` returned it.
        record: of the trial; None for one that could not be built.
        records: of the study so far.
    """
    search = _search(study)
    if record is None:
        optuna_study.tell(trial, state=TrialState.FAIL)
        return
    imputed = samplers.hears_complete_only(search)
    found = objectives.told(record, search.objectives, study.limits, records, imputed=imputed)
    for name, excess in found.excess.items():
        trial.set_constraint(name, excess)
    optuna_study.tell(trial, found.values, state=STATES[found.state])


def _search(study: Study) -> Search:
    if study.search is None:
        raise ValueError(f"study {study.name} is a design, not a search")
    return study.search
