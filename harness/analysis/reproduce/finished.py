"""The finished trials of the variants that repeat a table, all their seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.analysis.compare.runs import same_but_seed
from harness.analysis.reproduce.trials import Asked
from harness.config.data import DataError
from harness.records import Record, record
from harness.study import Study, changes, expand

OTHERS = (
    "its finished trials have other knobs, data or code than the table asks for; name the --data"
    " and --set of their run, or take them as they are with --keep-stale"
)
AS_THEY_ARE = "records are taken as they are, whatever code computed them"


class Finished:
    """The records of a folder of runs, as tables ask for them."""

    def __init__(self, runs: Path, *, keep_stale: bool = False) -> None:
        """Look into a folder.

        Args:
            runs: holds a folder a study.
            keep_stale: whether records count by their names, whatever code computed them.
        """
        self.runs, self.keep_stale = runs, keep_stale
        self.notes: dict[str, None] = {}
        self._records: dict[Path, list[Record]] = {}
        self._trials: dict[int, dict[str, set[str]] | None] = {}

    def of(self, asked: Asked) -> list[Record]:
        """Return the finished records of a variant, one a seed, by rising seed.

        These are those that `run` would not run again, and their other seeds. Where the data set is
        not here, nothing tells which they are, so all of that name are, and a note says so.

        Raises:
            RecordError: a record that cannot be read.
            StudyError: trials that cannot be.
        """
        there = [item for item in self._read(asked.study) if item.state == "done"]
        if not there:
            return []
        trials = self._present(asked.study)
        if trials is None:
            sets = asked.study.given.sets
            found = [item for item in there if is_of(item, asked.name, asked.detector, sets)]
            return _seeds(_measured_alike(found))
        if not any(item.trial in wanted for wanted in trials.values() for item in there):
            self.notes.setdefault(f"{self.runs / asked.study.name}: {OTHERS}")
        own = [item for item in there if item.trial in trials.get(asked.name, ())]
        others = [item for item in there if any(same_but_seed(one, item) for one in own)]
        return _seeds([*others, *own])

    def _read(self, study: Study) -> list[Record]:
        folder = self.runs / study.name
        if folder not in self._records:
            self._records[folder] = record.read_all(folder) if folder.is_dir() else []
        return self._records[folder]

    def _present(self, study: Study) -> dict[str, set[str]] | None:
        """Return the trials that a study asks for, by name; None where nothing tells."""
        if self.keep_stale:
            self.notes.setdefault(AS_THEY_ARE)
            return None
        if id(study) not in self._trials:
            self._trials[id(study)] = self._expanded(study)
        return self._trials[id(study)]

    def _expanded(self, study: Study) -> dict[str, set[str]] | None:
        try:
            specs = expand(study)
        except DataError as error:
            self.notes.setdefault(f"{study.name}: {AS_THEY_ARE}, as its data is not here: {error}")
            return None
        found: dict[str, set[str]] = {}
        for spec in specs:
            found.setdefault(spec.name, set()).add(spec.trial)
        return found


def is_of(item: Record, name: str, detector: str | None, sets: Sequence[str]) -> bool:
    """Say whether a record is of a variant.

    Args:
        item: the record.
        name: of the variant.
        detector: its name; None for any.
        sets: `PATH=VALUE` that hold for all trials; what is no knob does not matter.
    """
    wanted = changes([text for text in sets if _is_knob(text)])
    return (
        item.name == name
        and detector in (None, item.detector)
        and all(item.config.get(path) == value for path, value in wanted.items())
    )


def _is_knob(text: str) -> bool:
    return "." in text.partition("=")[0] and not text.startswith(("sweep.", "search.", "racing."))


def _measured_alike(records: Sequence[Record]) -> list[Record]:
    """Return the records that were measured on the data and by the protocol of the latest."""
    if not records:
        return []
    last = max(records, key=lambda item: item.timings.get("finished", 0.0))
    return [item for item in records if item.protocol_hash == last.protocol_hash]


def _seeds(records: Sequence[Record]) -> list[Record]:
    """Return one record a seed, the latest."""
    latest = sorted(records, key=lambda item: item.timings.get("finished", 0.0))
    found = {item.seed: item for item in latest}
    return [found[seed] for seed in sorted(found)]
