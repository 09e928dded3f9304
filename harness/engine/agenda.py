"""What an engine is asked to do: trials known beforehand, and rules for further ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

from harness.engine.executor import Stage
from harness.record import Record
from harness.specification import TrialSpec, describe

if TYPE_CHECKING:
    from optuna import Trial
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler

    from harness.study import Study

Direction = Literal["maximize", "minimize"]
Scalar: TypeAlias = str | int | float | bool | None
OBJECTIVES: dict[str, tuple[str, Direction]] = {
    "accuracy": ("mAP", "maximize"),
    "latency": ("latency_ms", "minimize"),
    "complexity": ("macs", "minimize"),
}
"""What a sweep tells Optuna, by what it measures; for the dashboard, nothing follows from it."""


class Params(NamedTuple):
    """Overrides as Optuna holds them."""

    values: dict[str, Scalar]
    distributions: dict[str, BaseDistribution]


class Question(NamedTuple):
    """What is known of a running trial when it is asked whether it is worth going on."""

    spec: TrialSpec
    stage: Stage
    metrics: dict[str, float]
    curves: list[dict[str, float]]


@dataclass(frozen=True)
class Search:
    """How further trials are found."""

    trials: int  # in all; those that lead to the same configuration count once
    suggest: Callable[[Trial], TrialSpec]  # asked twice about one trial, it says the same
    sampler: BaseSampler


@dataclass(frozen=True)
class Agenda:
    """The trials of a study, and what is decided about them."""

    study: str
    specs: Sequence[TrialSpec]  # in the order they are run; none for a search
    directions: Mapping[str, Direction]  # of the objectives, by metric
    space: Mapping[str, Any]  # JSON: what `params` depends on; another space is another study
    params: Callable[[Mapping[str, Any]], Params]  # of overrides; a ValueError if none of its own
    search: Search | None = None
    more: Callable[[Sequence[Record]], Sequence[TrialSpec]] = lambda records: ()
    judge: Callable[[Question, Sequence[Record]], str | None] | None = None
    attributes: Callable[[Record], Mapping[str, Any]] = lambda record: {}
    """What Optuna is told of a record beside its objectives, e.g. by how much a limit is missed."""
    retries: Mapping[str, int] = field(default_factory=dict)  # by cause
    timeout: float | None = None  # seconds an attempt

    @property
    def total(self) -> int:
        """Number of trials, as far as it is known."""
        return self.search.trials if self.search else len(self.specs)


def of_sweep(study: Study, specs: Sequence[TrialSpec], **rules: Any) -> Agenda:
    """Make the agenda of a study whose trials are all known.

    Args:
        study: from `harness.study.load`.
        specs: its trials.
        rules: `more`, `judge`, `attributes`, `retries` and `timeout` of an agenda.
    """
    directions = dict(OBJECTIVES[part] for part in OBJECTIVES if part in study.measure)
    choices = _choices(specs)

    def params(overrides: Mapping[str, Any]) -> Params:
        from optuna.distributions import CategoricalDistribution

        values = {path: readable(value) for path, value in overrides.items()}
        return Params(values, {path: CategoricalDistribution(choices[path]) for path in values})

    return Agenda(study.name, specs, directions, choices, params, **rules)


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
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return describe({"": value}).removeprefix("=")
