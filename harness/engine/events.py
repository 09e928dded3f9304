"""What a driver tells whoever watches it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from harness.records import Failure, Record
from harness.records.progress import Progress
from harness.study.specification import TrialSpec


class Event(NamedTuple):
    """Something that happened to a trial."""

    kind: Literal["skipped", "started", "progress", "finished", "retried", "taken_over"]
    trial: str
    spec: TrialSpec | None = None  # known unless skipped
    progress: Progress | None = None
    record: Record | None = None  # of a trial that is over
    failure: Failure | None = None  # of an attempt that is followed by another


OnEvent = Callable[[Event], None]


class Summary(NamedTuple):
    """How a study went."""

    records: list[Record]  # in the order of the trials; those that others run are missing
    skipped: int  # trials whose records stood before
    elsewhere: int = 0  # trials that other drivers run
    halted: str | None = None  # why nothing more was begun, if something was left
    earlier: int = 0  # records in the folder of trials that an earlier version of the study had

    @property
    def failed(self) -> list[Record]:
        """Trials that are neither done nor pruned."""
        return [item for item in self.records if item.state == "failed"]
