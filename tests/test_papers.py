"""The published tables: what architecture determines is counted as printed, and all is repeated."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any, NamedTuple, get_args
from unittest import mock

import pytest

from detectors import RELEASES
from harness.analysis.reproduce import tables
from harness.analysis.reproduce.counts import FACTOR, Counts
from harness.analysis.reproduce.schema import Column, Convention, Counted, Repeat, Row, Table
from harness.analysis.reproduce.trials import asked, rehearsal, variants
from harness.config import library, recipe
from harness.config.data import COCO2017
from harness.config.yaml_source import StudyError
from harness.measure.complexity.conventions import CONVENTIONS
from harness.study import load as load_study

ALL = tables.tables()
BY_STUDY = sorted({table.study for table in ALL if table.study})
CITING = [name for name in library.names() if load_study(name).source]
MMENGINE = {
    "rtmdet_tiny": 8089002240,
    "rtmdet_s": 14834933760,
    "rtmdet_m": 39205493760,
    "rtmdet_l": 80120995840,
    "rtmdet_x": 141513600000,
}
"""What mmengine counts of the reference, which takes long; tests of complexity count it here."""


class Cell(NamedTuple):
    """A printed figure and what repeats it."""

    table: Table
    row: Row
    column: Column
    repeat: Repeat
    printed: str

    def __str__(self) -> str:
        labels = [self.row.cells[c.name] for c in self.table.columns if c.is_label]
        return f"{self.table.id}, {'/'.join(map(str, labels[:2]))}, {self.column.name}"


def cells(*metrics: str) -> Iterator[Cell]:
    """Yield the printed figures that something here repeats, of some metrics or of all."""
    for table in ALL:
        for row in table.rows:
            for column in table.columns:
                repeat = None if column.is_label else table.repeat(row, column)
                printed = row.cells[column.name]
                if repeat and printed and (not metrics or column.metric in metrics):
                    yield Cell(table, row, column, repeat, printed)


@cache
def counts(config: Any) -> Counts:
    return Counts(config)


@pytest.mark.parametrize("table", ALL, ids=lambda table: table.id)
def test_what_architecture_determines_is_counted_as_printed(table: Table) -> None:
    wrong = []
    for cell in (each for each in cells(*get_args(Counted)) if each.table is table):
        config = asked(cell.table, cell.repeat).config
        assert config.input.size == (640, 640), cell
        known = cell.row.differs.get(cell.column.name)
        mmengine = MMENGINE.get(str(cell.repeat.detector))
        with mock.patch.object(Counts, "mmengine", mmengine):
            found = counts(config).judge(cell.column, cell.printed, known=known)
        if known is None and found.verdict != "reproduced":
            wrong.append(f"{cell}: {cell.printed}, counted {found.shown}")
        if known is not None and (found.verdict, found.reason) != ("differs", known.reason):
            wrong.append(f"{cell}: {cell.printed}, a stale exception: {found.reason}")
    assert not wrong, "\n".join(wrong)


def test_exceptions_are_of_cells_that_are_counted() -> None:
    counted = {(cell.table.id, str(cell)) for cell in cells(*get_args(Counted))}
    named = [(cell.table.id, str(cell)) for cell in cells() if cell.column.name in cell.row.differs]
    assert set(named) <= counted
    assert len(named) == sum(len(row.differs) for table in ALL for row in table.rows)


def test_the_known_conventions_are_those_that_are_counted() -> None:
    counters = {*CONVENTIONS, "mmengine", "macs", "flops"}
    assert set(get_args(Convention)) == counters
    assert set(FACTOR) <= counters


@pytest.mark.parametrize("table", ALL, ids=lambda table: table.id)
def test_what_a_row_names_is_there(table: Table) -> None:
    for cell in (each for each in cells() if each.table is table):
        repeat = cell.repeat
        assert asked(table, repeat).study.named(asked(table, repeat).overrides)
        if repeat.weights is not None:
            assert repeat.detector in RELEASES[repeat.weights], cell
        assert repeat.recipe in (None, *recipe.names()), cell


def test_a_row_with_a_trial_that_the_study_lacks_is_refused() -> None:
    table = tables.load("rtmdet/table5a_kernel")
    with pytest.raises(StudyError, match="has no trial 'kernel=3'.*There is backbone"):
        asked(table, Repeat(trial="kernel=3"))


@pytest.mark.parametrize(
    ("table", "study"),
    [
        ("rtmdet/table5c_balance", "rehearsals/expand_ratio"),
        ("rtmdet/table6a_cost", "rehearsals/assigner_cost"),
        ("rtdetr/table1a", "rehearsals/nms_iou_threshold"),
        ("rtdetr/table5", "rehearsals/decoder_layers"),  # whose cells have a trial each
        ("rtdetr/table2", None),
    ],
)
def test_the_rehearsal_of_a_table_is_that_with_most_of_its_trials(
    table: str, study: str | None
) -> None:
    found = rehearsal(tables.load(table))
    assert (found and found.name) == study


@pytest.mark.parametrize("name", CITING)
def test_a_study_cites_a_table_that_it_repeats_or_rehearses(name: str) -> None:
    study = load_study(name)
    table = tables.load(str(study.source))
    assert table.study is not None
    assert table.study == name or study.data != COCO2017


@pytest.mark.parametrize("name", BY_STUDY)
def test_a_study_tells_the_tables_that_name_it(name: str) -> None:
    mine = [table for table in ALL if table.study == name]
    text = library.find(name).read_text(encoding="utf-8")
    assert load_study(name).source in [table.id for table in mine]
    assert all(table.id.rpartition("/")[2] in text for table in mine)


@pytest.mark.parametrize("name", BY_STUDY)
def test_a_trial_of_no_row_is_accounted_for(name: str) -> None:
    named = {cell.repeat.trial for cell in cells() if cell.table.study == name}
    left = set(variants(load_study(name))) - named - {None}
    assert left == BESIDE.get(name, set())


BESIDE = {
    "rtdetr/nms_score_threshold": {"postprocess.score_threshold=0.25"},  # only a figure has it
    "rtmdet/expand_ratio": {
        "backbone.expand_ratio=0.5, neck.expand_ratio=0.25",
        "backbone.expand_ratio=0.75, neck.expand_ratio=0.5",
    },
    "rtmdet/assigners": {"assigner=MaxIoU", "assigner=FCOSCenter", "assigner=Hungarian"},
    "rtmdet/optimizer": {
        "recipe.optimizer=sgd, recipe.lr=0.04, recipe.weight_decay=0.0005, "
        "recipe.schedule=cosine, recipe.no_decay=none"  # its cell is empty
    },
}
"""Trials that studies have beside those of the tables."""


def test_the_zoos_are_there_with_the_reason_why_not() -> None:
    for paper, zoo in (
        ("yolox", "YOLOX"),
        ("ppyoloe", "PP-YOLOE+"),
        ("torchvision", "torchvision"),
    ):
        for table in tables.tables(paper):
            assert zoo in str(table.outside)
            assert any("@" in source for source in table.source)
