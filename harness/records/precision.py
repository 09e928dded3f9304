"""Precision against recall, and which classes are taken for which: a file beside the record."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from harness.records.record import Record, RecordError, artifact, write_whole

ARTIFACT = "precision"
FILE = "precision.json"
RECALLS = 101  # from 0 to 1, at which precision is given
LARGEST = 1 << 26  # bytes of a file that is read

Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


class Counts(NamedTuple):
    """Detections of at least a score, and what they find."""

    score: float
    right: int  # detections that find an object of their class
    found: int  # detections
    objects: int  # what is to be found

    @property
    def precision(self) -> float:
        """Share of the detections that find an object; 0 without a detection."""
        return self.right / self.found if self.found else 0.0

    @property
    def recall(self) -> float:
        """Share of the objects that are found; 0 without an object."""
        return self.right / self.objects if self.objects else 0.0

    @property
    def f1(self) -> float:
        """The harmonic mean of both."""
        total = self.found + self.objects
        return 2 * self.right / total if total else 0.0


class Precision(BaseModel):
    """How precise a trial's detections are, and what they are taken for."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True, frozen=True)

    schema_version: Literal[1] = Field(default=1, alias="schema")
    classes: list[str]
    """By rising id in the data set; C of them."""
    ious: list[Share]
    """Overlaps from which on an object counts as found; the first is that of all counts below."""
    curves: list[list[list[Share]]]
    """By overlap and class: the interpolated precision at each of `RECALLS`, of four digits; empty
    where a class has no object. Its mean is the class's AP."""
    score: float
    """From which on detections are counted below: F1 over all classes is greatest there."""
    right: Count
    """Detections that find an object of their class."""
    found: Count
    """Detections."""
    objects: Count
    """What is to be found."""
    confusion: list[list[Count]]
    """[C + 1, C + 1] by the object's class, then the detection's; the last stands for none: objects
    that nothing found, and detections where there is nothing. Here a detection finds the object
    that it overlaps most, whatever its class, the surest detections first."""

    @model_validator(mode="after")
    def _fits(self) -> Precision:
        count = len(self.classes)
        curves = [curve for by_class in self.curves for curve in by_class]
        fits = len(self.curves) == len(self.ious) > 0
        fits = fits and all(len(by_class) == count for by_class in self.curves)
        fits = fits and all(len(curve) in (0, RECALLS) for curve in curves)
        sizes = {len(self.confusion), *(len(row) for row in self.confusion)}
        fits = fits and sizes == {count + 1}
        if not fits or self.right > min(self.found, self.objects):
            raise ValueError("its parts do not fit together")
        return self

    @property
    def counts(self) -> Counts:
        """Detections of at least `score`."""
        return Counts(self.score, self.right, self.found, self.objects)

    def write(self, folder: Path) -> Path:
        """Write it into a trial's folder, whole or not at all."""
        return write_whole(folder / FILE, self.model_dump_json(by_alias=True) + "\n")


def read(folder: Path, record: Record) -> Precision | None:
    """Read what lies beside a record; None where nothing does.

    Args:
        folder: the trial's.
        record: its record.

    Raises:
        RecordError: the file is damaged.
    """
    name = record.artifacts.get(ARTIFACT)
    if name is None or not (folder / name).exists():
        return None
    file = artifact(folder, name)
    if file.stat().st_size > LARGEST:
        raise RecordError(f"{file}: larger than {LARGEST >> 20} MiB")
    try:
        return Precision.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        raise RecordError(f"{file}: damaged: {where}: {first['msg']}") from error
