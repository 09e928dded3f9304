"""What a run in MLflow says about a trial: its tags, parameters and metrics."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from harness.records import Record
from harness.records.learning import learnt_nothing

LONGEST_PARAM, LONGEST_TAG = 6000, 5000
LONGEST_DIGEST, LONGEST_DATA_NAME = 36, 500
CONTEXT = "mlflow.data.context"  # tag of a data set: what it is for
STATUS = {"done": "FINISHED", "failed": "FAILED", "pruned": "KILLED"}
AXES = ("epoch", "step", "time")  # of curves
RESERVED = ("detector", "seed")  # parameters that every run has beside its knobs


class Point(NamedTuple):
    """One value of one metric."""

    key: str
    value: float
    when: int  # milliseconds since the epoch of Unix
    step: int


def tags(record: Record) -> dict[str, str]:
    """Return what a run is found by.

    `mlflow.runType` has MLflow's page unfold the run that stands for the study, at its first visit.
    """
    found = {
        "mlflow.runType": "evaluation",
        "detbench.study": record.study,
        "detbench.trial": record.trial,
        "detbench.started": attempt(record),
        "detbench.detector": record.detector,
        "detbench.state": record.state,
        "detbench.seed": str(record.seed),
        "detbench.data": str(record.data.get("name", "")),
        "detbench.protocol": record.protocol_hash,
    }
    found |= source(record)
    start = record.details.get("start")
    if start is not None:
        found["detbench.weights"] = str(record.config.get("weights.from", ""))
        found["detbench.weights_digest"] = str(start.get("digest", ""))
        found["detbench.weights_taken"] = str(start.get("taken", ""))
    nothing = learnt_nothing(record)
    if nothing is not None:
        found["detbench.learnt_nothing"] = nothing
    if record.stopped:
        found["detbench.stopped"] = record.stopped
    if record.failure:
        found["detbench.failure"] = f"{record.failure.cause}: {record.failure.message}"
    found |= {f"detbench.knob.{path}": plain(value) for path, value in record.overrides.items()}
    return {key: value[:LONGEST_TAG] for key, value in found.items()}


def source(record: Record) -> dict[str, str]:
    """Return where a study comes from: its command, and the commit of detbench that ran it."""
    found = {"mlflow.source.type": "LOCAL", "mlflow.source.name": f"detbench run {record.study}"}
    git = record.environment.get("git") or {}
    if "commit" in git:
        found["mlflow.source.git.commit"] = str(git["commit"])
        found["detbench.code_changed"] = "yes" if git.get("dirty") else "no"  # since the commit
    return found


def inputs(record: Record) -> list[Any]:
    """Return the splits that a trial has read, as inputs of an MLflow run.

    Each is a data set of its own, `NAME/SPLIT`: MLflow takes a data set once a run.
    """
    from mlflow.entities import Dataset, DatasetInput, InputTag  # slow to import

    name, fingerprint = record.data.get("name"), record.data.get("fingerprint")
    if not name or not fingerprint:
        return []
    trains = any(path.startswith("recipe.") for path in record.config)
    found = []
    for split in ("train", "val") if trains else ("val",):
        described = dict(record.data.get(split) or {}) | {"classes": record.data.get("classes", [])}
        place = json.dumps({"uri": str(record.config.get("data.source", name))})
        data = Dataset(
            name=f"{name}/{split}"[:LONGEST_DATA_NAME],
            digest=str(fingerprint)[:LONGEST_DIGEST],
            source_type="local",
            source=place,
            profile=json.dumps(described),
        )
        found.append(DatasetInput(data, [InputTag(CONTEXT, split)]))
    return found


def attempt(record: Record) -> str:
    """Tell this record from those of other attempts at the same trial."""
    return repr(record.timings.get("started", 0.0))


def params(record: Record, knobs: Collection[str] | None = None) -> dict[str, str]:
    """Return every knob by its path, but the swept ones by a short name: columns of their own.

    Args:
        record: of the trial.
        knobs: paths that the study sweeps; those that this trial changes if None. A trial that
            leaves one alone has its default, so that all runs of a study share the columns.
    """
    names = short_names(record.overrides if knobs is None else knobs)
    swept = {name: _value(record, path) for path, name in names.items()}
    values = {
        "detector": record.detector,
        "seed": record.seed,
        **{name: value for name, value in swept.items() if value is not None},
        **{path: value for path, value in record.config.items() if path not in names},
    }
    return {key: plain(value)[:LONGEST_PARAM] for key, value in values.items()}


def short_names(paths: Collection[str]) -> dict[str, str]:
    """Return for each path the shortest end of it that is the end of no other."""
    ends = {path: _ends(path) for path in paths}
    taken = [end for own in ends.values() for end in own]
    return {
        path: next((end for end in own if taken.count(end) == 1 and end not in RESERVED), path)
        for path, own in ends.items()
    }


def metrics(record: Record) -> Iterator[Point]:
    """Yield the curves by optimiser step, and the final figures after them, so that they last."""
    step = 0
    for row in record.curves:
        step = int(row.get("step", row.get("epoch", 0)))
        when = int(1000 * row.get("time", 0))
        for key, value in row.items():
            if key not in AXES:
                yield Point(key, value, when, step)
    when = int(1000 * record.timings.get("finished", 0))
    together = int(1000 * record.details.get("together", {}).get("finished", 0))
    for key, value in record.metrics.items():
        yield Point(key, value, max(when, together), step)


def live(row: Mapping[str, float]) -> list[Point]:
    """Return what one step of a trial under way, or its latest validation, has come to.

    Args:
        row: with `epoch`, `step` and `time`, as a row of a record's curves; see `Progress.row`.
    """
    step, when = int(row.get("step", 0)), int(1000 * row.get("time", 0))
    return [Point(k, v, when, step) for k, v in row.items() if k not in AXES]


def table(rows: Sequence[Mapping[str, float]]) -> str:
    """Write rows as CSV; what a row lacks is left empty."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def plain(value: Any) -> str:
    """Write a value as MLflow shows it: numbers bare, so that its plots have an axis for them."""
    return value if isinstance(value, str) else json.dumps(value)


def _ends(path: str) -> list[str]:
    """Return the ends of a path, shortest first: c, b.c, a.b.c."""
    parts = path.split(".")
    return [".".join(parts[index:]) for index in reversed(range(len(parts)))]


def _value(record: Record, path: str) -> Any:
    """Return what a trial has for a knob; of a choice between kinds, the kind."""
    for source in (record.overrides, record.config):
        if path in source:
            return source[path]
    return record.config.get(f"{path}.type")
