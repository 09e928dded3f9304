"""The trials of a study as its file is now, told from those of its earlier versions.

A record in a study's folder is of the present file if the file, written down anew, names its trial:
a sweep lists its trials; racing adds seeds to its variants, and a search finds points of its space.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from harness import data
from harness.config.data import DataError
from harness.config.yaml_source import StudyError
from harness.records import digest
from harness.records.snapshot import Snapshot
from harness.study.designs import racing
from harness.study.expansion import OpenData, Specs, expand
from harness.study.search import space
from harness.study.specification import TrialSpec
from harness.study.study import Study


class Named(Protocol):
    """A trial as a record, a specification or a storage names it."""

    @property
    def trial(self) -> str:
        """Its hash."""

    @property
    def overrides(self) -> dict[str, Any]:
        """What it changes against the study."""

    @property
    def seed(self) -> int:
        """Its seed."""


class Present:
    """The trials that a study's file asks for now."""

    def __init__(
        self,
        study: Study,
        specs: Sequence[TrialSpec] | None = None,
        open_data: OpenData = data.load,
    ) -> None:
        """Write a study down.

        Args:
            study: from `load`.
            specs: its expansion, if that is known already.
            open_data: opens a data set.

        Raises:
            StudyError: as `expand` does.
            DataError: a data set that cannot be used.
        """
        self.study, self._write = study, Specs(study, open_data)
        if study.search is not None:
            self.specs: list[TrialSpec] = []
        else:
            self.specs = expand(study, open_data) if specs is None else list(specs)
        self._found = {spec.trial: True for spec in self.specs}
        self._variants = {digest(spec.overrides) for spec in self.specs}

    def holds(self, one: Named) -> bool:
        """Say whether a trial is one of these, those that came in as it ran included."""
        if one.trial not in self._found:
            self._found[one.trial] = self._may_be_added(one) and self._is_same(one)
        return self._found[one.trial]

    def snapshot(self) -> Snapshot:
        """Return what the study's folder keeps of the file."""
        study, search = self.study, self.study.search
        return Snapshot(
            study=study.name,
            question=study.question,
            source=study.source or "",
            total=search.trials if search else len(self.specs),
            knobs=[*study.sweep, *(search.space if search else ())],
            objectives=dict(search.objectives) if search else {},
            reference=search.reference if search else {},
            limits=study.limits,
            data=study.given.data,
            sets=list(study.given.sets),
            version=self._version(),
            trials=[spec.trial for spec in self.specs],
        )

    def _may_be_added(self, one: Named) -> bool:
        """Say whether racing or the search could come to a trial."""
        study = self.study
        if study.search is not None:
            return one.seed == study.seeds[0] and space.contains(study.search.space, one.overrides)
        if study.racing is None or digest(one.overrides) not in self._variants:
            return False
        return one.seed in racing.order(study.racing, study.seeds)

    def _is_same(self, one: Named) -> bool:
        """Say whether the file gives a trial the same hash."""
        try:
            return self._write(one.overrides, one.seed).trial == one.trial
        except (StudyError, DataError):  # it cannot be built any more
            return False

    def _version(self) -> str:
        """Hash what determines the trials."""
        if self.study.search is None:
            return digest(sorted(spec.trial for spec in self.specs), length=8)
        try:
            own: Any = self._write({}, self.study.seeds[0]).trial
        except StudyError:  # the search replaces what cannot be built as it is
            detector, measure = self.study.named({})["detector"], sorted(self.study.measure)
            own = [detector, self.study.setup().flat(), measure]
        axes = self.study.search.model_dump(mode="json", include={"space"})
        return digest([own, axes], length=8)
