"""What would run the trials that a published table lacks, and what that takes."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from harness import data
from harness.analysis.reproduce.cells import Missed
from harness.analysis.reproduce.schema import Table
from harness.analysis.reproduce.trials import Asked, Rehearsal
from harness.config.data import COCO2017, DataConfig, DataError, coco2017_folder
from harness.data import DataSet, stand_in
from harness.machine import environment
from harness.released.coco import ARCHIVES
from harness.study import Study, expand
from harness.study.study import Given
from harness.trials import plan

HOUR, GB = 3600.0, 1e9


class Expenses:
    """Finds commands and costs, those of a study once."""

    def __init__(self, runs: Path, given: Given, rehearsal: Rehearsal | None) -> None:
        """Remember where records stand and what the command line changes.

        Args:
            runs: holds a folder a study; its records tell paces.
            given: data set and knobs of the command line.
            rehearsal: the study that stands in for the table's own.
        """
        self.runs, self.given, self.rehearsal = runs, given, rehearsal
        self._costs: dict[int, str] = {}

    def __call__(self, table: Table, asked: Asked) -> Missed:
        """Return what would run a variant, and what its whole study takes."""
        key = id(asked.study)
        if key not in self._costs:
            self._costs[key] = _evaluation() if asked.evaluated else self._training(asked.study)
        return Missed(self.command(table, asked.study), self._costs[key])

    def command(self, table: Table, study: Study) -> str:
        """Return the command of the study, or of the table where nobody wrote that study."""
        given = ["--data", self.given.data] if self.given.data is not None else []
        name = self.rehearsal.name if self.rehearsal is not None else table.study
        if name is None:
            sets, words = self.given.sets, ["reproduce", table.id, "--run"]
        else:
            sets, words = study.given.sets, ["run", name]
        options = [word for text in sets for word in ("--set", text)]
        return shlex.join(["detbench", *words, *given, *options])

    def _training(self, study: Study) -> str:
        """Say what the trainings of a study that are left will take."""
        try:
            planned = plan.plan(expand(study, _here_or_not), self.runs, study.limits)
        except DataError as error:
            return f"hours unknown: {error}"
        left, disk = plan.trainings_left(planned), plan.disk(planned, self.runs)
        if not left:
            return f"{len(planned)} trials, no training"
        cost = plan.cost(planned, self.runs, environment.capture("cpu"))
        hours = f"hours {cost.basis}"
        if cost.seconds is not None:
            hours = f"about {cost.seconds / HOUR:.1f} hours here"
        macs = sum(item.training_macs for item in left)
        trainings = "1 training" if len(left) == 1 else f"{len(left)} trainings"
        gigabytes = (disk.weights + disk.checkpoint) / GB
        parts = [f"{trainings}, {macs:.1e} MACs", hours, f"{gigabytes:.1f} GB of weights"]
        return "; ".join([*parts, *_data(study)])


def _evaluation() -> str:
    parts = [f"an evaluation of {stand_in.COCO_VAL_IMAGES} images, and the weights' download"]
    return "; ".join([*parts, *_coco()])


def _data(study: Study) -> Sequence[str]:
    return _coco() if study.data == COCO2017 else []


def _coco() -> Sequence[str]:
    """Say what COCO takes where it is not here."""
    try:
        coco2017_folder()
    except DataError:
        size = sum(part.size for part in ARCHIVES.values()) / GB
        return [f"COCO 2017, which is not here, takes {size:.0f} GB: detbench data get {COCO2017}"]
    return []


def _here_or_not(config: DataConfig) -> DataSet:
    """Open a data set; COCO, where it is not here, as far as a plan needs it."""
    try:
        return data.load(config)
    except DataError:
        if config.source == COCO2017:
            return stand_in.coco2017()
        raise
