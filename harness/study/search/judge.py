"""The judge of a study's trials: gives up those that break a constraint or cannot win."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal

from harness.config.search import Dominated
from harness.records import METRICS, Record, latencies
from harness.study import constraints
from harness.study.search import objectives, pruning
from harness.study.search.pruning import LEARNT, Verdict
from harness.study.study import Study

if TYPE_CHECKING:
    import optuna


class Judge:
    """Decides whether one trial goes on; called as `harness.records.progress.Judge` describes.

    One is made for each trial, where Optuna's storage is, and sees the records that are finished
    when it is asked, if `records` grows meanwhile.
    """

    def __init__(
        self, study: Study, records: Sequence[Record], trial: optuna.Trial | None = None
    ) -> None:
        """Judge a trial of a study.

        Args:
            study: from `harness.study.load`.
            records: of the study so far.
            trial: Optuna's, for its pruner; None where there is no search.
        """
        self.limits, self.search = study.limits, study.search
        self.records, self.trial = records, trial

    def __call__(
        self,
        stage: Literal["cheap", "epoch"],
        metrics: dict[str, float],
        curves: list[dict[str, float]],
    ) -> str | None:
        """Return why the trial is given up, or None if it goes on."""
        if stage == "cheap":
            return constraints.infeasible(metrics, self._cheap()) or self._surely(metrics)
        return self._by_optuna(metrics, curves) or self._hopeless(metrics, curves)

    def _cheap(self) -> dict[str, str]:
        """Return the constraints that can be held against an untrained variant."""
        return {k: v for k, v in self.limits.items() if k not in METRICS["accuracy"]}

    def _finished(self) -> list[Record]:
        """Return the trials that are done and within the constraints, by figures that are firm."""
        firm = [
            record.model_copy(update={"metrics": latencies.firm(record)})
            for record in self.records
            if record.state == "done" and self.limits.keys().isdisjoint(_rough(record))
        ]
        return [r for r in firm if constraints.infeasible(r.metrics, self.limits) is None]

    def _surely(self, metrics: dict[str, float]) -> str | None:
        if self.search is None:
            return None
        found = pruning.surely_dominated(metrics, self._finished(), self.search.objectives)
        return None if found is None else _reason("dominated", found)

    def _hopeless(self, metrics: dict[str, float], curves: list[dict[str, float]]) -> str | None:
        rule = self.search.pruner if self.search else None
        if self.search is None or not isinstance(rule, Dominated):
            return None
        found = pruning.hopeless(
            metrics,
            curves,
            self._finished(),
            self.search.objectives,
            margin=rule.margin,
            fewest=rule.finished,
        )
        return None if found is None else _reason("its optimistic outcome is dominated", found)

    def _by_optuna(self, metrics: dict[str, float], curves: list[dict[str, float]]) -> str | None:
        """Ask the pruner of a search with one objective."""
        search, trial = self.search, self.trial
        if search is None or trial is None or not curves or len(search.objectives) > 1:
            return None
        value = objectives.values(metrics, search.objectives)
        if value is None or search.pruner is None or isinstance(search.pruner, Dominated):
            return None
        epoch = int(curves[-1]["epoch"])
        trial.report(value[0], epoch)
        if not trial.should_prune():
            return None
        name = next(iter(search.objectives))
        return f"{search.pruner.type} pruner: {name} is {value[0]:.4g} at epoch {epoch}"


def needs_latency(study: Study) -> bool:
    """Say whether the judge of a study's trials has a use for the untrained network's latency."""
    used = set(study.limits)
    search = study.search
    if search and (isinstance(search.pruner, Dominated) or LEARNT.isdisjoint(search.objectives)):
        used |= set(search.objectives)
    return constraints.needs_latency(dict.fromkeys(used))


def _rough(record: Record) -> set[str]:
    """Return the metrics that no constraint can be held against."""
    return record.metrics.keys() - latencies.firm(record).keys()


def _reason(how: str, found: Verdict) -> str:
    outcome = ", ".join(f"{name} {value:.4g}" for name, value in found.outcome.items())
    reached = ", ".join(f"{name} {found.winner.metrics[name]:.4g}" for name in found.outcome)
    return f"{how}: {outcome} by trial {found.winner.trial} with {reached}"
