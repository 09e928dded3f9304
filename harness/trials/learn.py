"""The training of a trial: followed by its validations, and given up when the judge says so."""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import TypeAdapter

import detectors
from detectors import weights
from detectors.config import canonical, flatten
from detectors.interface import Detector
from harness.data import DataSet, Split, fingerprint, loading_processes
from harness.data.fingerprint import DataChangedError
from harness.measure.accuracy import queries
from harness.measure.accuracy.evaluate import Evaluation, evaluate
from harness.measure.accuracy.queries import Queries
from harness.records import record
from harness.records.progress import Judge, OnProgress, Progress
from harness.study import code as codes
from harness.study.specification import TrialSpec
from harness.study.start import seen_by, take
from harness.training import processes
from harness.training.train import CheckpointError, train
from harness.trials import trainings
from harness.trials.speed import AT_A_TIME
from harness.trials.trainings import Stored, Story

VALIDATIONS_FILE = "validations.json"
VALIDATES = ("postprocess", "evaluation")  # parts of the code that only a validation needs
_ROWS = TypeAdapter(list[dict[str, float]])


class Stopped(Exception):
    """The judge gave a trial up; the message is the reason."""


def build(spec: TrialSpec, config: Any) -> Detector:
    """Build the detector of a trial with the weights that it starts from, if there are any.

    Args:
        spec: the trial.
        config: its detector's, or that with other inference-only knobs.

    Raises:
        WeightsError: they do not fit, or are others than when the trial was written down.
    """
    detector = detectors.create(config)
    if spec.start is not None and not spec.start.brought and spec.goes_on is None:
        take(detector, spec.start)
    return detector


@dataclass
class Learner:
    """Trains for a trial.

    A training that several trials share is validated with inference-only knobs of its own, the
    declared defaults, whichever of the trials makes it: each trial evaluates the weights with its
    own knobs afterwards.
    """

    spec: TrialSpec
    dataset: DataSet
    device: str
    on_progress: OnProgress
    judge: Judge | None = None
    measured: Mapping[str, float] = field(default_factory=dict)  # before training, for the judge
    environment: Mapping[str, Any] = field(default_factory=dict)
    evaluation: Evaluation | None = None  # the last
    share: int = 1  # number of trials that run at a time, and share the cores

    def learn(self, folder: Path) -> Story:
        """Train, and save the weights into a folder; what an earlier attempt left there helps.

        Raises:
            Stopped: the judge gave the trial up.
        DataChangedError: the data set did, meanwhile.
            NotFiniteError: as `train` does; its checkpoint stays, and the state that it names.
        """
        checkpoint = folder / trainings.CHECKPOINT
        try:
            return self._learn(folder, checkpoint)
        except CheckpointError:  # of another kind of device: it cannot be gone on from here
            shutil.rmtree(checkpoint, ignore_errors=True)
            return self._learn(folder, checkpoint)
        except DataChangedError:  # what was learnt so far may be of other images
            shutil.rmtree(checkpoint, ignore_errors=True)
            raise
        except Stopped:  # whoever needs it anyway has to begin anew, and most often nobody does
            shutil.rmtree(checkpoint, ignore_errors=True)
            raise

    def _learn(self, folder: Path, checkpoint: Path) -> Story:
        spec, recipe = self.spec, self.spec.recipe
        if recipe is None:
            raise ValueError("accuracy needs a recipe")
        detector = build(spec, canonical(spec.setup.detector))
        follower = _Follower(self, folder / VALIDATIONS_FILE)
        follower.ask()  # what stopped this training before need not be trained again
        training = train(
            detector,
            self.dataset,
            recipe,
            seed=spec.seed,
            device=self.device,
            on_progress=follower.show,
            validate=follower.validate,
            checkpoint=checkpoint,
            share=self.share,
            from_weights=spec.start is not None,
        )
        if processes.is_first():
            fingerprint.check_unchanged(self.dataset)
            weights.save(detector, folder, spec.detector, spec.dataset["classes"])
        return Story(
            training=spec.training,
            made_by=f"{spec.study}/{spec.trial}",
            curves=training.curves,
            seconds=training.seconds,
            finished=time.time(),
            details={**training.details, AT_A_TIME: self.share},
            environment=dict(self.environment),
            code=spec.code,
        )

    def look(self, detector: Detector) -> Evaluation:
        """Evaluate on the validation split."""
        return evaluate(
            detector,
            self._split(),
            device=self.device,
            workers=self._workers(),
            on_progress=self.on_progress,
        )

    def look_at_queries(self, detector: Detector) -> Queries | None:
        """Look at what the detector selects on the validation split; None where it selects none."""
        return queries.measure(
            detector,
            self._split(),
            device=self.device,
            workers=self._workers(),
            on_progress=self.on_progress,
        )

    def _split(self) -> Split:
        split, start = self.dataset.val, self.spec.start
        return seen_by(split, start) if start is not None and start.evaluated else split

    def _workers(self) -> int:
        wanted = self.spec.recipe.workers if self.spec.recipe else 0
        return loading_processes(wanted, self.device, self.share)


class _Follower:
    """Watches a training: remembers its validations, and asks the judge after each."""

    def __init__(self, learner: Learner, file: Path) -> None:
        self.learner, self.file, self.rows = learner, file, _read(file)
        self.latest = Progress("train", 0, 1, {})

    def show(self, progress: Progress) -> None:
        """Pass progress on, with the best mAP so far."""
        self.latest = progress
        best = [row["mAP"] for row in self.rows if "mAP" in row]
        values = {**progress.values, **({"mAP": max(best)} if best else {})}
        self.learner.on_progress(progress._replace(values=values))

    def validate(self, detector: Detector) -> dict[str, float]:
        """Evaluate what would be kept, and ask whether to go on."""
        self.learner.evaluation = found = self.learner.look(detector)
        step, steps = self.latest.done, self.latest.total
        epochs = self.learner.spec.recipe.epochs if self.learner.spec.recipe else 0
        row = {"epoch": round(epochs * step / steps), "step": step, "time": time.time()}
        self.rows = [old for old in self.rows if old["step"] < step] + [row | found.metrics]
        if processes.is_first():
            record.write_whole(self.file, json.dumps(self.rows))
        if step < steps:  # nothing is saved by giving up at the end
            self.ask()
        return found.metrics

    def ask(self) -> None:
        """Ask the judge about the validations so far, if there were any."""
        if not self.rows or self.learner.judge is None:
            return
        times = ("epoch", "step", "time")
        latest = {key: value for key, value in self.rows[-1].items() if key not in times}
        reason = self.learner.judge("epoch", {**self.learner.measured, **latest}, self.rows)
        if reason is not None:
            raise Stopped(reason)


def validated_with(spec: TrialSpec, stored: Stored) -> dict[str, Any]:
    """Return the knobs whose values in a training's curves are not the trial's own."""
    text = (stored.folder / weights.CONFIG_FILE).read_text(encoding="utf-8")
    own = json.loads(json.dumps(flatten(spec.setup.detector)))
    shared: dict[str, Any] = json.loads(text)["knobs"]
    return {path: value for path, value in shared.items() if own.get(path) != value}


def validated_by(spec: TrialSpec, stored: Stored) -> list[str]:
    """Name the files that a training was validated by, and that have changed since."""
    codes_of = (stored.story.code, spec.code)
    then, now = ({part: code.get(part, {}) for part in VALIDATES} for code in codes_of)
    return codes.differing(then, now)


def seed_all(seed: int) -> None:
    """Seed every generator that a trial draws from."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _read(file: Path) -> list[dict[str, float]]:
    with suppress(OSError, ValueError):  # whatever else it holds was not written here
        rows = _ROWS.validate_json(file.read_bytes())
        return rows if all("step" in row for row in rows) else []
    return []
