"""The trials of a study as its file is now, told from those of its earlier versions.

A record in a study's folder is of the present file if the file, written down anew, names its trial:
a sweep lists its trials; racing adds seeds to its variants, and a search finds points of its space.
"""

from __future__ import annotations

from collections.abc import Sequence

from harness import data
from harness.config.data import DataError
from harness.config.yaml_source import StudyError
from harness.records import Record, digest
from harness.records.snapshot import Snapshot
from harness.study.designs import racing
from harness.study.expand import OpenData, Specs, expand
from harness.study.search import space
from harness.study.specification import TrialSpec
from harness.study.study import Study


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

    def holds(self, record: Record) -> bool:
        """Say whether a record is of one of the trials, those that came in as it ran included."""
        if record.trial not in self._found:
            self._found[record.trial] = self._may_be_added(record) and self._is_same(record)
        return self._found[record.trial]

    def snapshot(self) -> Snapshot:
        """Return what the study's folder keeps of the file."""
        study, search = self.study, self.study.search
        return Snapshot(
            study=study.name,
            question=study.question,
            source=study.source or "",
            knobs=[*study.sweep, *(search.space if search else ())],
            objectives=dict(search.objectives) if search else {},
            reference=search.reference if search else {},
            limits=study.limits,
            data=study.given.data,
            sets=list(study.given.sets),
            version=self._version(),
            trials=[spec.trial for spec in self.specs],
        )

    def _may_be_added(self, record: Record) -> bool:
        """Say whether racing or the search could come to a trial."""
        study = self.study
        if study.search is not None:
            return record.seed == study.seeds[0] and space.contains(
                study.search.space, record.overrides
            )
        if study.racing is None or digest(record.overrides) not in self._variants:
            return False
        return record.seed in racing.order(study.racing, study.seeds)

    def _is_same(self, record: Record) -> bool:
        """Say whether the file gives a trial the same hash."""
        try:
            return self._write(record.overrides, record.seed).trial == record.trial
        except (StudyError, DataError):  # it cannot be built any more
            return False

    def _version(self) -> str:
        """Hash what determines the trials."""
        if self.study.search is None:
            return digest(sorted(spec.trial for spec in self.specs), length=8)
        try:
            own: object = self._write({}, self.study.seeds[0]).trial
        except StudyError:  # the search replaces what cannot be built as it is
            own = [self.study.detector, self.study.setup().flat(), sorted(self.study.measure)]
        axes = self.study.search.model_dump(mode="json", include={"space"})
        return digest([own, axes], length=8)
