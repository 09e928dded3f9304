"""What an engine is asked to do: trials known beforehand, and rules for further ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from harness.config.axes import short
from harness.config.search import Direction
from harness.records import Record
from harness.records.progress import Judge
from harness.records.snapshot import Snapshot
from harness.study import Present, Specs, Study, constraints
from harness.study.search import judge
from harness.study.specification import TrialSpec

if TYPE_CHECKING:
    import optuna
    from optuna import Trial
    from optuna.distributions import BaseDistribution

Scalar: TypeAlias = str | int | float | bool | None
Directions: TypeAlias = Mapping[str, Direction]  # by metric
OBJECTIVES: dict[str, tuple[str, Direction]] = {
    "accuracy": ("mAP", "maximize"),
    "latency": ("latency_ms", "minimize"),
    "complexity": ("macs", "minimize"),
}
"""What a sweep tells Optuna, by what it measures; for its dashboard, nothing follows from it."""


class Params(NamedTuple):
    """Overrides as Optuna holds them."""

    values: dict[str, Scalar]
    distributions: dict[str, BaseDistribution]


@dataclass(frozen=True)
class Search:
    """How the trials of a search are found."""

    trials: int  # in all; suggestions that lead to one configuration count once
    prepare: Callable[[optuna.Study, int], None]  # with the number of trials there are already
    suggest: Callable[[Trial], TrialSpec]  # asked twice about one trial, it says the same
    tell: Callable[[optuna.Study, Trial, Record | None, Sequence[Record]], None]


@dataclass(frozen=True)
class Agenda:
    """The trials of a study, and what is decided about them."""

    study: str
    specs: Sequence[TrialSpec]  # in the order they are run; none for a search
    directions: Directions  # of the objectives, by metric
    space: Any  # JSON: what `params` depends on; another space is another study
    params: Callable[[Mapping[str, Any]], Params]  # of overrides; a ValueError if none of its own
    search: Search | None = None
    more: Callable[[Sequence[Record]], Sequence[TrialSpec]] = lambda records: ()
    """Further trials, asked for once all are over."""
    judge: Callable[[Sequence[Record], Trial | None], Judge] | None = None
    retries: Mapping[str, int] = field(default_factory=dict)  # by cause
    timeout: float | None = None  # seconds an attempt
    outdated: Callable[[Record], bool] = lambda record: False
    """Whether a trial was given up for a reason that the study has no more."""
    keep_stale: bool = False
    """Whether finished trials of other code stand in for those that would be run."""
    fresh: bool = False
    """Whether what other versions of libraries computed is run again."""
    holds: Callable[[Record], bool] = lambda record: True
    """Whether a record is of a trial of the study's file as it is now."""
    snapshot: Snapshot | None = None
    """What is kept of the file beside the records."""

    @property
    def total(self) -> int:
        """Number of trials, as far as it is known."""
        return self.search.trials if self.search else len(self.specs)


def of(study: Study) -> Agenda:
    """Make the agenda of a study.

    Raises:
        StudyError: a sweep that cannot be run.
        DataError: a data set that cannot be used.
    """
    from harness.study.search import plan  # imports optuna, which is slow

    present = Present(study)
    made = _of_search(study) if study.search else of_sweep(study, present.specs)
    made = replace(made, holds=present.holds, snapshot=present.snapshot())
    if not plan.is_judged(study):
        return made
    return replace(made, judge=lambda records, trial: judge.Judge(study, records, trial))


def of_sweep(study: Study, specs: Sequence[TrialSpec]) -> Agenda:
    """Make the agenda of a study whose trials are known, but for those that racing adds."""
    from harness.study.search import plan  # imports optuna, which is slow

    directions = dict(OBJECTIVES[part] for part in OBJECTIVES if part in study.measure)
    choices, write = _choices(specs), Specs(study)

    def params(overrides: Mapping[str, Any]) -> Params:
        from optuna.distributions import CategoricalDistribution  # slow to import

        values = {path: readable(value) for path, value in overrides.items()}
        return Params(values, {path: CategoricalDistribution(choices[path]) for path in values})

    def more(records: Sequence[Record]) -> Sequence[TrialSpec]:
        return [write(run.overrides, run.seed) for run in plan.follow_ups(study, records)]

    return Agenda(study.name, specs, directions, choices, params, more=more, **_rules(study))


def _of_search(study: Study) -> Agenda:
    """Make the agenda of a study that Optuna finds the trials of."""
    from optuna.trial import FixedTrial  # slow to import

    from harness.study.search import plan  # imports optuna, which is slow

    search, write = study.search, Specs(study)
    assert search is not None
    write.check_weights()

    def suggest(trial: Trial) -> TrialSpec:
        run = plan.ask(study, trial)
        return write(run.overrides, run.seed)

    def params(overrides: Mapping[str, Any]) -> Params:
        fixed = FixedTrial({path: readable(value) for path, value in overrides.items()})
        plan.ask(study, fixed)
        return Params(fixed.params, fixed.distributions)

    def prepare(optuna_study: optuna.Study, asked: int) -> None:
        optuna_study.sampler, optuna_study.pruner = plan.sampler(study, asked), plan.pruner(study)

    def tell(
        optuna_study: optuna.Study, trial: Trial, record: Record | None, records: Sequence[Record]
    ) -> None:
        plan.tell(study, optuna_study, trial, record, records)

    space = search.model_dump(mode="json", include={"space"})
    rules = Search(search.trials, prepare, suggest, tell)
    directions = dict(search.objectives)
    return Agenda(study.name, [], directions, space, params, rules, **_rules(study))


def _rules(study: Study) -> dict[str, Any]:
    hours = study.timeout_hours
    return {
        "retries": study.retries,
        "timeout": None if hours is None else 3600 * hours,
        "outdated": lambda record: constraints.is_lifted(record, study.limits),
    }


def _choices(specs: Sequence[TrialSpec]) -> dict[str, list[Scalar]]:
    """List the values that trials give to every knob, as they can be read."""
    choices: dict[str, list[Scalar]] = {}
    for spec in specs:
        for path, value in spec.overrides.items():
            values = choices.setdefault(path, [])
            if readable(value) not in values:
                values.append(readable(value))
    return choices


def readable(value: Any) -> Scalar:
    """Return a knob's value as it is, or as compact text where it has parts."""
    return value if value is None or isinstance(value, str | int | float | bool) else short(value)
