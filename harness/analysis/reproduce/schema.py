"""What a published table is: its columns, its rows, and what repeats them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal, get_args

from pydantic import Field, model_validator

from harness.config.offers import offer
from harness.config.settings import Settings

Counted = Literal["params", "flops", "backbone_share", "neck_share"]
"""What the architecture determines."""
Timed = Literal["latency_ms", "network_ms", "nms_ms", "fps", "network_fps", "training_ms"]
"""What belongs to a device: compared as ratios to the table's first row."""
Accuracy = Literal["mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l", "prop_cls", "prop_both"]
Metric = Literal[Counted, Timed, Accuracy, "candidates"]
"""What of ours a column is compared with: names of a record's metrics, and

- `flops`: operations, counted as one of the column's `conventions`;
- `backbone_share`, `neck_share`: of the parameters;
- `fps`, `network_fps`: 1000 over the `latency_ms`, or the `network_ms`, of one image;
- `candidates`: boxes that go into NMS, per image;
- `training_ms`: 1000 over the `images_per_second` of the training."""
Unit = Literal["M", "G", "%", "ms", "images/s", "images", "px", "epochs", "GB", "count"]
SCALE: dict[Unit | None, float] = {"M": 1e6, "G": 1e9, "%": 0.01}
"""What one of a unit is in the units of a record's metrics; 1 where it is not named."""
Convention = Literal["macs", "flops", "mmengine", "ptflops", "paddle"]
"""How operations were counted: `macs` and `flops` as here, the latter twice the former, else as
`harness.measure.complexity.conventions` says."""


class Scoring(Settings):
    """Knobs of the postprocessing with which the published accuracy was taken, where known."""

    score_threshold: float | None = None
    iou_threshold: float | None = None
    max_candidates: int | None = None
    max_detections: int | None = None


class Setting(Settings):
    """What the table says of how its figures came about, in words."""

    model: str | None = None
    backbone: str | None = None
    data: str | None = None
    input: str | None = None
    """Pixels."""
    epochs: str | None = None
    batch: str | None = None
    hardware: str | None = None
    """That training ran on."""
    augmentation: str | None = None
    pretraining: str | None = None
    other: str | None = None


class Column(Settings):
    """What the cells of a column are."""

    name: str
    unit: Unit | None = None
    metric: Metric | None = None
    """What of ours its cells are compared with; None for a label, or with `outside`."""
    conventions: tuple[Convention, ...] = ()
    """Of `flops`: those that the printed figures are held to; one that gives it is enough."""
    cut: bool = False
    """Whether digits were cut off instead of rounded."""
    device: str | None = None
    runtime: str | None = None
    precision: Literal["fp32", "fp16", "int8"] | None = None
    conditions: str | None = None
    """What else a time depends on: what was timed, and what was left out."""
    sets: tuple[str, ...] = Field((), alias="set")
    """`PATH=VALUE` that tell the column's trials from those of the study."""
    outside: str | None = None
    """Why the tool cannot repeat it."""

    @property
    def is_label(self) -> bool:
        """Say whether its cells only tell one row from another."""
        return self.metric is None and self.outside is None

    @model_validator(mode="after")
    def _fits(self) -> Column:
        if self.metric is not None and self.outside is not None:
            raise ValueError(f"column {self.name}: has a metric and is outside; name one")
        if bool(self.conventions) != (self.metric == "flops"):
            raise ValueError(f"column {self.name}: flops need their conventions, and they alone")
        if bool(self.device) != (self.metric in get_args(Timed)):
            raise ValueError(f"column {self.name}: a time needs its device, and it alone")
        return self


class Repeat(Settings):
    """What repeats a row, or a cell: a trial of the table's study, or a detector by itself."""

    trial: str | None = None
    """Its name within the study."""
    sets: tuple[str, ...] = Field((), alias="set")
    """Further `PATH=VALUE` for the study or the detector."""
    detector: str | None = None
    recipe: str | None = None
    weights: str | None = None
    """Name of a release; a detector with neither these nor a recipe is only counted and timed."""

    @model_validator(mode="after")
    def _names_one(self) -> Repeat:
        if (self.trial is None) == (self.detector is None):
            raise ValueError("name either a trial of the table's study or a detector")
        if self.trial is not None and (self.recipe or self.weights):
            raise ValueError("a trial has its study's recipe and weights; change them with `set`")
        return self


class Known(Settings):
    """A cell that our count does not give, though it is the same detector."""

    counted: str
    """Ours, to as many digits as are printed."""
    reason: str


class Row(Settings):
    """A printed row."""

    cells: dict[str, str | None]
    """Column to what is printed there, letter by letter; None where nothing is."""
    repeat: Repeat | None = None
    """What gives the whole row."""
    repeats: dict[str, Repeat] = {}
    """Column to what gives its cell, where that is another."""
    outside: str | None = None
    """Why nothing here repeats the row."""
    without: dict[str, str] = {}
    """Column to why its cell cannot be repeated, though the row is."""
    differs: dict[str, Known] = {}

    @model_validator(mode="before")
    @classmethod
    def _cells_apart(cls, given: Any) -> Any:
        """Tell the cells from what stands beside them."""
        if not isinstance(given, Mapping):
            return given
        own = {key: value for key, value in given.items() if key in RESERVED}
        return {"cells": {key: value for key, value in given.items() if key not in own}, **own}


RESERVED = ("repeat", "repeats", "outside", "without", "differs")
"""Keys of a row that are no columns."""


class Table(Settings):
    """A published table."""

    id: str
    title: str
    paper_table: str | None = None
    """Its number in the paper; None where it is of a repository."""
    varied: str
    setting: Setting = Setting()
    scoring: Scoring = Scoring()
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    study: str | None = None
    """Name of the study whose trials repeat it."""
    other_setting: str | None = None
    """How what repeats it differs from the published setting, where accuracy depends on that."""
    outside: str | None = None
    """Why nothing here repeats it."""
    status: str
    """How far the figures are known to be those that were printed."""
    missing: str | None = None
    """Cells that no source has that was read."""
    source: tuple[str, ...]
    notes: str | None = None

    def column(self, name: str) -> Column:
        """Return a column by name."""
        return next(column for column in self.columns if column.name == name)

    def repeat(self, row: Row, column: Column) -> Repeat | None:
        """Return what gives a cell, the column's own `set` included; None where nothing does."""
        found = row.repeats.get(column.name, row.repeat)
        if found is None or self.why_outside(row, column) is not None:
            return None
        return found.model_copy(update={"sets": (*found.sets, *column.sets)})

    def why_outside(self, row: Row, column: Column) -> str | None:
        """Return why nothing here repeats a cell; None where something does."""
        return self.outside or row.outside or column.outside or row.without.get(column.name)

    @model_validator(mode="after")
    def _fits(self) -> Table:
        names = [column.name for column in self.columns]
        if len({*names}) < len(names):
            raise ValueError("two columns have one name")
        if self.study and self.outside:
            raise ValueError("one of `study` and `outside` says how it is repeated")
        for number, row in enumerate(self.rows, 1):
            for problem in self._problems(row, names):
                raise ValueError(f"row {number}: {problem}")
        return self

    def _problems(self, row: Row, names: list[str]) -> Iterator[str]:
        """Yield what is wrong with a row."""
        for name in row.cells:
            if name not in names:
                yield f"no column {name!r}{offer(name, names)}"
        for name in names:
            if name not in row.cells:
                yield f"column {name} is missing; write null where nothing is printed"
        for name in (*row.repeats, *row.without, *row.differs):
            if name not in names or self.column(name).metric is None:
                yield f"{name!r} is no column that is compared"
        repeats = [*row.repeats.values(), *([row.repeat] if row.repeat else [])]
        reasons = [*filter(None, (self.outside, row.outside))]
        if len(reasons) + bool(repeats) != 1:
            yield "needs `repeat`, or `outside` with the reason, here or for the whole table"
        if self.study is None and any(repeat.trial for repeat in repeats):
            yield "names a trial, and the table no study"


class Meta(Settings):
    """Where a paper's figures are from."""

    paper: str
    arxiv: str | None = None
    version_of_tables: str | None = None
    conventions: tuple[str, ...] = ()
    """What holds for all of its tables."""
    status_words: str | None = None
    zoo: str | None = None
    """The table whose figures are those of the detectors as they are released."""


class Paper(Settings):
    """The published tables of a paper, or of a repository."""

    meta: Meta
    tables: tuple[Table, ...]

    @model_validator(mode="after")
    def _fits(self) -> Paper:
        ids = [table.id for table in self.tables]
        twice = [name for number, name in enumerate(ids) if name in ids[:number]]
        if twice:
            raise ValueError(f"table {twice[0]} stands here a second time")
        if self.meta.zoo is not None and self.meta.zoo not in ids:
            raise ValueError(f"meta.zoo: no table {self.meta.zoo}")
        return self
