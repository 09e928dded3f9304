"""From the rows of a published table to the variants of studies that repeat them."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple, get_args

from harness.analysis.reproduce.schema import Repeat, Table, Timed
from harness.config import library
from harness.config.data import COCO2017
from harness.config.offers import offer
from harness.config.yaml_source import StudyError
from harness.released import resolve_auto
from harness.study import Study, load, of_detectors
from harness.study.specification import describe
from harness.study.study import Given

AS_PUBLISHED = Given()


class Asked(NamedTuple):
    """What gives a cell: one variant of a study."""

    study: Study
    overrides: dict[str, Any]

    @property
    def name(self) -> str:
        """Its name, which all its seeds share."""
        return describe(self.overrides)

    @property
    def detector(self) -> str:
        """The name of its detector."""
        return str(self.study.named(self.overrides)["detector"])

    @property
    def evaluated(self) -> bool:
        """Whether released weights are evaluated as they are."""
        named = self.study.named(self.overrides)
        return named["weights"] is not None and named["recipe"] is None

    @property
    def config(self) -> Any:
        """The detector's config, with the knobs that follow from whether it has weights."""
        setup = self.study.setup(self.overrides)
        return resolve_auto(setup, setup.weights is not None or setup.recipe is None).detector


def asked(table: Table, repeat: Repeat, given: Given = AS_PUBLISHED) -> Asked:
    """Return the variant that repeats a row.

    Args:
        table: the table.
        repeat: from `Table.repeat`.
        given: what the command line changes: another data set, and knobs.

    Raises:
        StudyError: no such study, trial, detector or knob.
    """
    if repeat.detector is not None:
        return Asked(_of_detector(table, repeat, given), {"detector": repeat.detector})
    assert table.study is not None
    sets = (*scoring(table), *repeat.sets, *given.sets)
    found = variants(_loaded(table.study, given.data, sets))
    if repeat.trial not in found:
        offered = offer(str(repeat.trial), found)
        raise StudyError(f"{table.id}: study {table.study} has no trial {repeat.trial!r}{offered}")
    return found[repeat.trial]


def variants(study: Study) -> dict[str, Asked]:
    """Return the variants of a study by name; none of a search."""
    if study.search is not None:
        return {}
    return {describe(row): Asked(study, row) for row in study.variants()}


class Rehearsal(NamedTuple):
    """A study whose trials stand in for those of a table's own."""

    name: str
    """Under studies/."""
    study: Study


def rehearsal(table: Table, given: Given = AS_PUBLISHED) -> Rehearsal | None:
    """Return the study that rehearses a table: one that cites it, on other data than COCO.

    Of several, that which has most of the table's trials, then most seeds; None without one.
    """
    wanted = {repeat.trial for repeat in repeats(table) if repeat.trial}
    citing = [name for name in library.names() if _cited(name) == table.id and name != table.study]
    small = [name for name in citing if _loaded(name, None, ()).data != COCO2017]
    found = [Rehearsal(name, _loaded(name, given.data, given.sets)) for name in small]
    best = max(found, key=lambda one: _fit(one.study, wanted), default=None)
    return best if best is not None and _fit(best.study, wanted)[0] else None


def rehearsed(one: Rehearsal, repeat: Repeat, given: Given = AS_PUBLISHED) -> Asked | None:
    """Return the variant of a rehearsal that stands in for a row's; None where it has none.

    What tells the row's trial from those of its own study, such as another detector, is changed in
    the rehearsal, too.
    """
    study = one.study
    if repeat.sets:
        try:
            study = _loaded(one.name, given.data, (*repeat.sets, *given.sets))
        except StudyError:  # a knob that the rehearsal's detector lacks
            return None
    return variants(study).get(str(repeat.trial))


@cache
def _cited(name: str) -> str | None:
    """Return the table that a study cites."""
    return load(name).source


def _fit(study: Study, wanted: set[str]) -> tuple[int, int, str]:
    return len(wanted & variants(study).keys()), len(study.seeds), study.name


@cache
def _loaded(name: str, data: str | None, sets: tuple[str, ...]) -> Study:
    return load(name, data=data, sets=sets)


def scoring(table: Table) -> tuple[str, ...]:
    """Return the knobs of the postprocessing with which the table's accuracy was taken."""
    known = table.scoring.model_dump(exclude_none=True)
    return tuple(f"detector.postprocess.{name}={value}" for name, value in known.items())


def _of_detector(table: Table, repeat: Repeat, given: Given) -> Study:
    """Make the study of all rows that differ from this one by their detector alone."""
    alike = [item for item in repeats(table) if item.detector and _beside(item) == _beside(repeat)]
    measure = ["complexity"]
    if any(column.metric in get_args(Timed) for column in table.columns):
        measure.append("latency")
    if repeat.recipe or repeat.weights:
        measure.append("accuracy")
    return _made(
        table.id.replace("/", "_"),
        tuple(dict.fromkeys(str(item.detector) for item in alike)),
        tuple(measure),
        repeat.recipe,
        repeat.weights,
        given.data or COCO2017,
        (*(scoring(table) if "accuracy" in measure else ()), *repeat.sets, *given.sets),
    )


def repeats(table: Table) -> Iterator[Repeat]:
    """Yield what gives each cell, in order."""
    for row in table.rows:
        for column in table.columns:
            found = None if column.is_label else table.repeat(row, column)
            if found is not None:
                yield found


def _beside(repeat: Repeat) -> tuple[Any, ...]:
    """Return what of a repeat is not its detector."""
    return repeat.recipe, repeat.weights, repeat.sets


@cache
def _made(
    name: str,
    detectors: tuple[str, ...],
    measure: tuple[str, ...],
    recipe: str | None,
    weights: str | None,
    data: str,
    sets: tuple[str, ...],
) -> Study:
    given: Any = weights
    if weights is not None and recipe is None:  # over the classes that both have
        given = {"from": weights, "classes": "by_name"}
    return of_detectors(
        name, detectors, measure, recipe_name=recipe, weights=given, data_name=data, sets=sets
    )
