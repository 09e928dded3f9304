"""The record: everything that one trial produced, one JSON file a trial."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from harness.records import files, parts

SCHEMA: Literal[1] = 1
FILE = "record.json"
METRICS = {
    "complexity": ("params", "macs", "flops", "params_deployed", "macs_deployed", "flops_deployed"),
    "accuracy": ("mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l"),
    "latency": (
        *("latency_ms", "latency_p95_ms", "latency_low_ms", "latency_high_ms", "network_ms"),
        *("backbone_ms", "neck_ms", "head_ms", "nms_ms", "latency_ratio", "latency_adjusted_ms"),
        *("latency_p99_ms", "reference_ratio", "roofline_fraction"),
    ),
    "queries": ("prop_cls", "prop_both"),
}
"""Metrics that a trial has, or lacks with a reason, by what a study measures."""
OF_TRAINING = ("images_per_second",)
"""Metrics that a trial has which trains, whatever else is measured."""

LARGEST = 1 << 28  # bytes of a record that is read
LAST_SECOND = 253402300799.0  # of the year 9999, after which there are no dates
MOST_LETTERS = 150  # of a name, so that a folder may have a prefix to it, and a page an ending

Name = Annotated[
    str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$", max_length=MOST_LETTERS)
]
"""A name that is a folder's, too: of a study or a trial. It holds no way to any other folder."""


class RecordError(ValueError):
    """A record that cannot be read."""


class Failure(BaseModel):
    """Why a trial did not finish."""

    cause: str
    """A short kind: out_of_memory, not_finite, data, crash, error."""
    message: str
    """One line for the reader."""
    details: str = ""
    """The traceback or the exit status."""


class Record(BaseModel):
    """Everything that one trial produced.

    Names of metrics: `mAP`, `mAP_50`, `mAP_75`, `mAP_s`, `mAP_m`, `mAP_l` in [0, 1]; `params`,
    `macs`, `flops` (= 2 x macs), each also with the suffix `_deployed`; `images_per_second` of
    training (the median of its epochs after the first, validation left out; of this machine);
    `prop_cls`, `prop_both` in [0, 1] (shares of the features that become queries with a class score
    above 0.5, and with an overlap above 0.5, too); `latency_ms` (median, end
    to end), `latency_low_ms` and `latency_high_ms` (its 95 % interval), `latency_p95_ms`,
    `latency_p99_ms`, `network_ms`, `backbone_ms`, `neck_ms`, `head_ms`, `nms_ms`, `preprocess_ms`
    (in none of the others), milliseconds of wall time, on a GPU also `<name>_device_ms` between two
    of its events, and `busy_ms` in which it computes; `latency_ratio` (to the trial of
    `details["reference"]`, timed in turns with this one) with `_low` and `_high`;
    `latency_adjusted_ms` (that ratio times the other trial's own `latency_ms`: free of what the
    machine's speed did between trials, so fit to be set beside those of other trials) with
    `latency_adjusted_low_ms` and `_high_ms` (of the ratio alone); `reference_ratio` (to the
    workload of `details["latency"]["workload"]`) with `_low` and `_high`; `roofline_fraction` (of
    the network, see `harness.measure.latency.limits.roofline`); `uncounted_fraction` (of the
    network's time, in operators that `macs` leaves out); `memory_bytes`, of which `weight_bytes`
    and, at their peak, `activation_bytes`; `energy_j` (per image, above idle).
    What could not be measured is absent, with its reason in `absent`.

    A trial is timed alone as it ends. When its study ends, all of its trials are timed once more in
    shared rounds, whose times then stand in `metrics`: every name that ends in `_ms`, and
    `latency_ratio` with its ends. A trial's `latency_ms` is then exactly its `latency_ratio` times
    that of `details["reference"]`, and `latency_adjusted_ms` is equal to it. The other metrics stay
    as they were. `details["together"]` tells of these rounds: `session` (the same for all trials
    that shared them), `trials`, `reference`, `finished`, `seconds`, and `scale`, by which all times
    of the artifact `samples` are multiplied. `details["alone"]` holds the earlier figures, and the
    artifact `samples_alone` what they were made from.
    A time whose caveat has a part that begins with `rough: ` is not to be ranked, see
    `harness.records.latencies`: most of its rounds were disturbed, or another study timed it.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=True, ser_json_inf_nan="strings")

    schema_version: Literal[1] = Field(default=SCHEMA, alias="schema")
    study: Name
    trial: Name
    """Hash of what determines the result; see `harness.study`."""
    name: str
    """The overrides in short, for tables and plots."""
    detector: str
    overrides: dict[str, Any]
    """What this trial changes against the study: dotted path to value."""
    config: dict[str, Any]
    """Every knob of detector, recipe, data and latency: dotted path to value."""
    seed: int
    state: Literal["done", "failed", "pruned"]
    failure: Failure | None = None
    stopped: str | None = None
    """Why a pruned trial was given up; what was measured until then stands."""
    metrics: dict[str, float] = {}
    absent: dict[str, str] = {}
    """Metric that could not be measured: the reason."""
    caveats: dict[str, str] = {}
    """Metric that was measured but must be read with care: the reason."""
    details: dict[str, Any] = {}
    """Breakdowns behind the metrics: by stage, by class, candidates before and after NMS."""
    samples: dict[str, list[float]] = {}
    """Raw latencies end to end in the order they were taken, nothing left out, milliseconds; those
    of the stages, when they were taken, and the machine's conditions meanwhile are in the artifact
    `samples`, see `harness.measure.latency.samples`."""
    curves: list[dict[str, float]] = []
    """One row an epoch: epoch, step, time (s since the epoch of Unix), losses, lr, mAP, ..."""
    protocol: dict[str, Any] = {}
    """How the figures were measured."""
    protocol_hash: str = ""
    data: dict[str, Any] = {}
    """Name, fingerprint, classes and size of the data set."""
    code: dict[str, dict[str, str]] = {}
    """Source that computed the results: part (detector, training, ...) to file to fingerprint;
    empty in a record from before this was kept, whose code is unknown."""
    environment: dict[str, Any] = {}
    timings: dict[str, float] = {}
    """Seconds by phase, and `started`, `finished`, seconds since the epoch of Unix."""
    artifacts: dict[str, str] = {}
    """Files beside the record: weights, detections, samples."""

    @field_validator("details", "data", "environment")
    @classmethod
    def _in_shape(cls, value: dict[str, Any], info: ValidationInfo) -> dict[str, Any]:
        return parts.check(str(info.field_name), value)

    @field_validator("artifacts")
    @classmethod
    def _beside_the_record(cls, names: dict[str, str]) -> dict[str, str]:
        for name in names.values():
            if not is_plain(name):
                raise ValueError(f"{name!r} is not the name of a file beside the record")
        return names

    @model_validator(mode="after")
    def _moments_are_dates(self) -> Record:
        rows = [self.timings, *self.curves]
        for row in rows:
            for key in ("started", "finished", "time", "step", "epoch"):
                if not 0 <= row.get(key, 0.0) <= LAST_SECOND:
                    raise ValueError(f"{key} {row[key]} is neither a date nor a number of steps")
        return self

    @model_validator(mode="after")
    def _metrics_are_numbers(self) -> Record:
        """Take a metric that is infinite or NaN for absent: no page can show or rank it."""
        for key, value in list(self.metrics.items()):
            if not math.isfinite(value):
                del self.metrics[key]
                self.absent.setdefault(key, f"its record says {value}, which is no measurement")
        return self

    def write(self, folder: Path) -> Path:
        """Write the record into a trial's folder, whole or not at all."""
        folder.mkdir(parents=True, exist_ok=True)
        return write_whole(folder / FILE, self.to_json() + "\n")

    def to_json(self) -> str:
        """Return the record as it stands in its file; what is infinite or NaN is a string."""
        return self.model_dump_json(indent=1, by_alias=True)


def read(path: Path) -> Record:
    """Read a record from its file or its trial's folder.

    Raises:
        RecordError: the file is no record of this schema.
        FileNotFoundError: there is none.
    """
    file = path / FILE if path.is_dir() and path.name != FILE else path
    status = file.stat()
    if not stat.S_ISREG(status.st_mode) or status.st_size > LARGEST:
        raise RecordError(f"{file}: a record is a file of at most {LARGEST >> 20} MiB")
    try:
        return _without_version(Record.model_validate_json(file.read_bytes()))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        what = first["msg"].removeprefix("Value error, ")
        raise RecordError(
            f"{file}: not a record of schema {SCHEMA}: {where}: {what}; remove its folder,"
            " and the next run makes it anew"
        ) from error


def _without_version(found: Record) -> Record:
    """Take the evaluator's version out of an older record's protocol; `environment` has it, too."""
    evaluator = str(found.protocol.get("evaluator", ""))
    if " " in evaluator and found.protocol_hash == digest(found.protocol):
        found.protocol["evaluator"] = evaluator.partition(" ")[0]
        found.protocol_hash = digest(found.protocol)
    return found


def read_all(folder: Path) -> list[Record]:
    """Read the records of a study's folder, in the order they were started.

    Folders whose name begins with a dot belong to trials under way.

    Raises:
        RecordError: a file is no record of this schema.
    """
    found = sorted(folder.glob(f"*/{FILE}"))
    records = [read(file) for file in found if not file.parent.name.startswith(".")]
    return sorted(records, key=lambda record: record.timings.get("started", 0.0))


def is_plain(name: str) -> bool:
    """Say whether a name is that of a file, and no way to another folder on any system."""
    return re.fullmatch(r"[^./\\:\x00-\x1f\x7f][^/\\:\x00-\x1f\x7f]{0,199}", name) is not None


def artifact(folder: Path, name: str) -> Path:
    """Return a file that a record names, once it is sure that it lies in the record's folder.

    Args:
        folder: of the record.
        name: of the file.

    Raises:
        RecordError: it lies elsewhere, is a link to a file elsewhere, or no file.
    """
    file = folder / name
    if not is_plain(name) or file.resolve().parent != folder.resolve():
        raise RecordError(f"{file}: leads out of its folder; put the file itself there")
    if file.exists() and not file.is_file():  # a pipe would be waited for
        raise RecordError(f"{file}: is no file")
    return file


def write_whole(path: Path, text: str) -> Path:
    """Write a text file so that a reader finds the old content or the new, never a part."""
    with files.whole(path) as file:
        file.write(text.encode("utf-8"))
    return path


def make_folder(path: Path) -> Path:
    """Make a folder that results go to, unless it is there.

    Raises:
        RecordError: nothing can be written there.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}; name another folder with --out") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise RecordError(f"{path}: cannot be written; name another folder with --out")
    return path


def unused(path: Path) -> Path:
    """Return a path with a number behind it that is not there yet."""
    number = 1
    while path.with_name(f"{path.name}-{number}").exists():
        number += 1
    return path.with_name(f"{path.name}-{number}")


def digest(value: Any, length: int = 12) -> str:
    """Hash a JSON value, independent of the order of keys."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:length]


def _plain(value: Any) -> Any:
    if isinstance(value, Iterator | set | frozenset):
        return sorted(value)
    raise TypeError(f"{value!r} is no JSON value")
