"""What a study's folder says of the study's file: which trials that asked for at the last run.

It stands beside the records, so that whoever has the folder alone can tell the trials of the
present file from those of its earlier versions.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from harness.records.record import write_whole

FILE = "study.json"


class Version(BaseModel):
    """The trials of one version of a study's file."""

    model_config = ConfigDict(extra="forbid")

    version: str
    """Hash of what determines the trials."""
    trials: list[str]
    """Those that are known: racing and searches add some as they go."""


class Snapshot(Version):
    """A study's file at its last run, and the versions before."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    schema_version: Literal[1] = Field(default=1, alias="schema")
    study: str
    question: str = ""
    source: str = ""
    total: int
    """Number of its trials, as far as it was known beforehand."""
    knobs: list[str] = []
    """Paths that it sweeps or searches."""
    objectives: dict[str, str] = {}
    """Of a search: metric to `maximize` or `minimize`."""
    reference: dict[str, float] = {}
    """Of a search: the worst values of interest."""
    limits: dict[str, str] = {}
    """Constraints: metric to a limit."""
    data: str | None = None
    """What the command line put in place of the file's data set."""
    sets: list[str] = []
    """What the command line changed in the file."""
    earlier: list[Version] = []
    """Versions before this one, the oldest first."""

    def version_of(self, trial: str) -> str | None:
        """Return the newest version that has a trial; None for one from before all of them."""
        versions = (self, *reversed(self.earlier))
        return next((item.version for item in versions if trial in item.trials), None)


def load(folder: Path) -> Snapshot | None:
    """Read the snapshot in a study's folder; None if there is none that can be read."""
    try:
        return Snapshot.model_validate_json((folder / FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def update(folder: Path, now: Snapshot) -> Snapshot:
    """Write down what the file says now, and keep what is known of its earlier versions.

    The caller holds the lock of the folder.
    """
    before = load(folder)
    if before is not None:
        now = _after(before, now)
    if now != before:
        write_whole(folder / FILE, now.model_dump_json(indent=1, by_alias=True) + "\n")
    return now


def add(folder: Path, trials: Iterable[str]) -> None:
    """Add trials to the present version, as racing and a search do while they run.

    The caller holds the lock of the folder.
    """
    known = load(folder)
    if known is not None:
        new = [trial for trial in dict.fromkeys(trials) if trial not in known.trials]
        if new:
            update(folder, known.model_copy(update={"trials": known.trials + new}))


def _after(before: Snapshot, now: Snapshot) -> Snapshot:
    versions = [*before.earlier, Version(version=before.version, trials=before.trials)]
    same = [item for item in versions if item.version == now.version]
    trials = list(dict.fromkeys(trial for item in [now, *same] for trial in item.trials))
    others = [item for item in versions if item.version != now.version]
    return now.model_copy(update={"trials": trials, "earlier": others})
