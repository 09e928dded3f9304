"""Which trials had better wait: those that need a training which somebody makes already."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from harness.study.specification import TrialSpec
from harness.trials import trainings


class Turns:
    """Knows the trainings of the trials of a study.

    Args:
        shelf: of trainings.
    """

    def __init__(self, shelf: Path) -> None:
        self.shelf = shelf
        self.trained_by: dict[str, str | None] = {}

    def comes_later(self, spec: TrialSpec, running: Iterable[TrialSpec]) -> bool:
        """Say whether a trial would only wait for a training that is under way.

        Args:
            spec: the trial.
            running: the trials that run here.
        """
        training = self._training(spec)
        if training is None:
            return False
        begun = any(self._training(other) == training for other in running)
        if begun and trainings.find(self.shelf, training) is None:
            return True
        return trainings.is_being_made(self.shelf, training)

    def _training(self, spec: TrialSpec) -> str | None:
        """Return the hash of the training that a trial needs, if it needs one."""
        if spec.trial not in self.trained_by:
            self.trained_by[spec.trial] = spec.training if "accuracy" in spec.measure else None
        return self.trained_by[spec.trial]
