"""What a driver and those who carry out its trials say to each other.

A driver submits jobs to free slots and reads messages; whoever carries a job out never touches the
study's storage. An executor may carry jobs out in processes of this machine or on a cluster, as
long as the folder of the study is the same everywhere.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeAlias

from harness.records import Failure, Record
from harness.records.progress import Progress
from harness.study.specification import TrialSpec

Stage = Literal["cheap", "epoch"]


@dataclass(frozen=True)
class Job:
    """One attempt at one trial."""

    spec: TrialSpec
    folder: Path  # of the study; the trial's own folder is put there, whole, once it is over
    reference: Path | None = None  # folder of the trial that latencies are compared with
    shelf: Path | None = None  # of trainings, shared by all studies of one --out
    token: str = ""  # of the driver's claim; see `harness.trials.folders`
    judged: bool = False  # whether the driver wants to be asked if the trial is worth going on

    @property
    def trial(self) -> str:
        """Name the job: a trial is not carried out twice at a time."""
        return self.spec.trial


class Advanced(NamedTuple):
    """A job took a step."""

    trial: str
    progress: Progress


class Asked(NamedTuple):
    """A job waits until `answer` says whether it is worth going on."""

    trial: str
    stage: Stage
    metrics: dict[str, float]
    curves: list[dict[str, float]]


class Finished(NamedTuple):
    """A job is over, and its record, of whatever state, stands in its folder."""

    trial: str
    record: Record


class Lost(NamedTuple):
    """A job is over and left no record."""

    trial: str
    failure: Failure  # cause: a `harness.study.study.Cause`, or `stopped` after `stop`


Message: TypeAlias = Advanced | Asked | Finished | Lost


class Speaker(Protocol):
    """The end of whoever carries a job out, to speak to the driver."""

    def begin(self, trial: str) -> None:
        """Begin to speak of a job."""

    def advance(self, progress: Progress) -> None:
        """Tell a step; raises `worker.Interrupted` if the driver wants the job to end."""

    def ask(
        self, stage: Stage, metrics: dict[str, float], curves: list[dict[str, float]]
    ) -> str | None:
        """Ask whether the trial is worth going on with; may raise like `advance`."""


class Executor(Protocol):
    """Carries out jobs, several at a time.

    Every job ends with exactly one `Finished` or `Lost`, unless `kill` or `close` ended it. Jobs
    end when the driver dies, however it dies.
    """

    @property
    def slots(self) -> int:
        """Number of jobs at a time; a cluster's may change."""

    def submit(self, job: Job) -> None:
        """Start a job; called only while fewer than `slots` are under way."""

    def wait(self, timeout: float) -> list[Message]:
        """Return what was said, as soon as something is, or nothing after `timeout` seconds."""

    def answer(self, trial: str, reason: str | None) -> None:
        """Answer `Asked`: go on, or stop for a reason, which the record will give."""

    def stop(self, trial: str) -> None:
        """End a job at its next step; it says `Lost` with cause `stopped`, or `Finished`."""

    def kill(self, trial: str) -> None:
        """End a job at once; nothing more is heard of it."""

    def close(self) -> None:
        """End what is under way, at once, and give back processes, devices and connections."""
