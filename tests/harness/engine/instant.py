"""Jobs that take milliseconds: a record without a detector, the same whenever it is made."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from harness.engine.executor import Finished, Job, Lost, Message
from harness.records import Failure, Record
from harness.records.progress import Judge, OnProgress, Progress
from harness.study.specification import TrialSpec
from harness.trials.folders import partial_folder, place

STEPS = 5
RAN, PIDS = "ran", "pids"


def perform(
    job: Job,
    *,
    device: str,
    share: int,
    on_progress: OnProgress,
    judge: Judge,
    seconds: float = 0.0,
) -> Record:
    """Pretend to work; note in files who did what."""
    note(job.folder, PIDS, str(os.getpid()))
    partial = partial_folder(job.folder, job.trial, job.token)
    partial.mkdir(parents=True, exist_ok=True)
    started = time.time()
    for step in range(STEPS):
        on_progress(Progress("train", step, STEPS, {}))
        time.sleep(seconds / STEPS)
    result = made(job.spec, started)
    if job.judged:
        result.stopped = judge("cheap", dict(result.metrics), [])
        result.state = "pruned" if result.stopped else "done"
    result.write(partial)
    note(job.folder, RAN, job.trial)
    place(partial, job.folder / job.trial, job.token)
    return result


def made(spec: TrialSpec, started: float = 0.0) -> Record:
    """Return the record of a trial, whose metrics follow from its width and seed."""
    width = spec.knobs["width"]
    return Record(
        study=spec.study,
        trial=spec.trial,
        name=spec.name,
        detector=spec.detector,
        overrides=spec.overrides,
        config={},
        seed=spec.seed,
        state="done",
        metrics={"mAP": 1 - 1 / (width + 0.1 * spec.seed), "macs": 1000.0 * width, "params": width},
        timings={"started": started, "finished": time.time()},
    )


def note(folder: Path, name: str, text: str) -> None:
    """Add a line to a file that all processes write to."""
    with (folder / name).open("a", encoding="utf-8") as file:
        file.write(f"{text}\n")


def noted(folder: Path, name: str) -> Counter[str]:
    """Count the lines of such a file."""
    file = folder / name
    return Counter(file.read_text(encoding="utf-8").split()) if file.exists() else Counter()


class Inline:
    """An executor that carries out jobs in the driver's own process, one at a time.

    Args:
        work: what comes of a job: a record that is put in place, or a failure without one.
    """

    slots = 1

    def __init__(self, work: Callable[[Job], Record | Failure]) -> None:
        self.work = work
        self.messages: list[Message] = []
        self.jobs: list[Job] = []
        self.killed: list[str] = []

    def submit(self, job: Job) -> None:
        """Carry it out at once."""
        self.jobs.append(job)
        result = self.work(job)
        if isinstance(result, Failure):
            self.messages.append(Lost(job.trial, result))
            return
        result.write(job.folder / job.trial)
        self.messages.append(Finished(job.trial, result))

    def wait(self, timeout: float) -> list[Message]:
        """Return what came of it."""
        said, self.messages = self.messages, []
        return said

    def answer(self, trial: str, reason: str | None) -> None:
        """Nobody asked."""

    def stop(self, trial: str) -> None:
        """Nothing is under way."""

    def kill(self, trial: str) -> None:
        """Note it."""
        self.killed.append(trial)

    def close(self) -> None:
        """Nothing is open."""
