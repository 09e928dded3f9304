"""Finished trials of other code, or of other libraries, than those of now."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import detectors
from detectors.config import describe
from harness.config.recipe import LEAVES_RESULT
from harness.machine import environment
from harness.records import Record, RecordError, digest, record
from harness.study import Specs, Study, StudyError, expand
from harness.study import code as codes
from harness.study.specification import TrialSpec
from harness.trials.folders import OTHER_CODE

UNKNOWN = "code unknown"
OTHER = "of other code"
NOT_RESULT = {f"recipe.{name}" for name in LEAVES_RESULT}
NEWER = ("recipe.frozen",)  # which older records lack; empty, it is as if it were not there
MOST = 3  # files that a line names


class Stale(NamedTuple):
    """A finished trial that would be run again, since its code has changed."""

    spec: TrialSpec  # as it would be run
    record: Record
    files: list[str]  # that changed; none if its code is unknown

    @property
    def reason(self) -> str:
        """Name what changed."""
        return changed(self.files)

    def told(self) -> dict[str, Any]:
        """Return what is told of it, in JSON values."""
        return {"trial": self.spec.trial, "record": self.record.trial, "files": self.files}

    def stand_in(self) -> Record:
        """Return the record as it may stand in for the trial, marked on every metric."""
        found = self.record.model_copy(deep=True)
        text = f"{OTHER}: {self.reason}"
        found.caveats = {
            name: "; ".join(filter(None, [text, found.caveats.get(name)])) for name in found.metrics
        }
        found.details[OTHER_CODE] = self.files or [UNKNOWN]
        return found


class Stock:
    """The finished trials of a study's folder, by everything but their code."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def records(self) -> dict[str, list[Record]]:
        """The records, read when they are first asked for."""
        found: dict[str, list[Record]] = {}
        for item in _records(self.folder):
            if item.state == "done":
                found.setdefault(_key(item), []).append(item)
        return found

    def stand_in(self, spec: TrialSpec | None) -> Record | None:
        """Return a finished trial of other code for one that would be run, marked as such."""
        found = None if spec is None else self.find(spec)
        return found and found.stand_in()

    def find(self, spec: TrialSpec) -> Stale | None:
        """Return the latest finished trial that differs from another by its code alone."""
        alike = self.records.get(_key(spec), [])
        if not alike or any(item.trial == spec.trial for item in alike):
            return None
        found = max(alike, key=lambda item: item.timings.get("finished", 0.0))
        return Stale(spec, found, codes.differing(found.code, spec.code) if found.code else [])


def find(specs: Iterable[TrialSpec], folder: Path) -> list[Stale]:
    """Return the finished trials that would be run again, since their code has changed."""
    stock = Stock(folder)
    return [found for spec in specs if (found := stock.find(spec)) is not None]


def asked(study: Study, folder: Path) -> list[TrialSpec]:
    """Return the trials that a study asks for; of a search, those that it found so far.

    Raises:
        StudyError: a sweep that cannot be run.
        DataError: a data set that cannot be used.
    """
    if study.search is None:
        return expand(study)
    make, found = Specs(study), dict[str, TrialSpec]()
    for item in _records(folder):
        with suppress(StudyError):  # a configuration that there is no more
            spec = make(item.overrides, item.seed)
            found[spec.trial] = spec
    return list(found.values())


def lines(told: Sequence[Mapping[str, Any]]) -> list[str]:
    """Say how many finished trials are of other code, a line for each set of files.

    Args:
        told: from `Stale.told`.
    """
    reasons = [changed(item["files"]) for item in told]
    return [
        f"{_count(reasons.count(reason))} of other code ({reason}) and will be run again;"
        " --keep-stale uses what there is"
        for reason in dict.fromkeys(reasons)
    ]


def changed(files: Sequence[str]) -> str:
    """Name files that changed, the first of them if there are many."""
    if not files:
        return UNKNOWN
    more = f" and {len(files) - MOST} more" if len(files) > MOST else ""
    return f"{', '.join(files[:MOST])}{more} changed"


def other_versions(result: Record) -> list[str]:
    """Name the libraries that computed a trial or its training in another version than now's."""
    trained = result.details.get("training", {}).get("versions", {})
    before = environment.versions(result.environment)
    found = (environment.other_versions(item) for item in (before, trained))
    return list(dict.fromkeys(itertools.chain(*found)))


def versions_lines(records: Iterable[Record]) -> list[str]:
    """Say how many finished trials are of other versions, a line for each set of them."""
    found = ["; ".join(other_versions(item)) for item in records]
    return [
        f"{_count(found.count(text))} of other versions ({text}); --fresh runs again"
        for text in dict.fromkeys(filter(None, found))
    ]


def _count(number: int) -> str:
    return "1 finished trial is" if number == 1 else f"{number} finished trials are"


def _records(folder: Path) -> list[Record]:
    try:
        return record.read_all(folder)
    except RecordError:
        return []


def _key(trial: TrialSpec | Record) -> str:
    """Hash what determines a trial's result, but for its code."""
    data = trial.dataset if isinstance(trial, TrialSpec) else trial.data
    key = {
        "detector": trial.detector,
        "config": {path: value for path, value in trial.config.items() if _counts(path, value)},
        "protocol": trial.protocol,
        "data": data.get("fingerprint"),
        "seed": trial.seed,
    }
    if isinstance(trial, TrialSpec):
        weights = None if trial.start is None else trial.start.digest
    else:
        weights = trial.details.get("start", {}).get("digest")
    return digest(key if weights is None else {**key, "weights": weights})


@cache
def _newer() -> set[tuple[str, str]]:
    """Return the knobs of detectors that older records lack, each at its default."""
    knobs = itertools.chain.from_iterable(map(describe, detectors.CONFIGS.values()))
    return {(f"detector.{knob.path}", repr(knob.value)) for knob in knobs if knob.unsaid}


def _counts(path: str, value: Any) -> bool:
    """Say whether a knob determines a result; of data and latency, fingerprint and protocol do."""
    if (path in NEWER and not value) or (path, repr(value)) in _newer():
        return False
    return path not in NOT_RESULT and not path.startswith(("data.", "latency."))
