"""Sends records to MLflow: an experiment a study, a run a trial."""

from __future__ import annotations

import csv
import io
import json
import logging
import os
import socket
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from harness.record import Record, write_whole

DEFAULT_URI = "sqlite:///mlflow.db"
LOGGED_FILE = "mlflow.json"  # beside a record: tracker and the run that holds it; absent before
ABANDONED_AFTER = 600.0  # seconds; logging a trial takes less than one
LONGEST_PARAM, LONGEST_TAG, LONGEST_NAME = 6000, 5000, 250
PARAMS_A_BATCH, METRICS_A_BATCH = 100, 1000
STATUS = {"done": "FINISHED", "failed": "FAILED", "pruned": "KILLED"}


def uri(given: str | None = None) -> str:
    """Return the tracker to use: the given one, $MLFLOW_TRACKING_URI, or a file in this folder."""
    return given or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


def log(record: Record, folder: Path, tracker: str) -> str:
    """Send a record, and remember beside it that it was sent; once is enough.

    Args:
        record: of a trial that is over.
        folder: the trial's.
        tracker: an MLflow tracking URI.

    Returns:
        The id of the run.
    """
    known = logged(folder)
    name = _absolute(tracker)
    if name in known:
        return known[name]
    with _quiet():
        client = _client(tracker)
        experiment = _experiment(client, record.study, tracker)
        run = _finished_run(client, experiment, record) or _create(
            client, experiment, record, folder
        )
    write_whole(folder / LOGGED_FILE, json.dumps({**known, name: run}, indent=1) + "\n")
    return run


def logged(folder: Path) -> dict[str, str]:
    """Return the trackers that hold a trial, and the id of its run in each."""
    try:
        found: dict[str, str] = json.loads((folder / LOGGED_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
    return found


def is_logged(folder: Path, tracker: str) -> bool:
    """Say whether a tracker holds a trial's record."""
    return _absolute(tracker) in logged(folder)


def close_stale(study: str, tracker: str) -> int:
    """Close the runs of a study that a killed process left open; return how many."""
    with _quiet():
        client = _client(tracker)
        experiment = client.get_experiment_by_name(study)
        if experiment is None:
            return 0
        found = client.search_runs([experiment.experiment_id], "attributes.status = 'RUNNING'")
        stale = [run for run in found if _abandoned(run.data.tags)]
        for run in stale:
            client.set_terminated(run.info.run_id, "KILLED")
    return len(stale)


def _create(client: Any, experiment: str, record: Record, folder: Path) -> str:
    """Create a run, fill it and end it."""
    start, end = (int(1000 * record.timings.get(key, 0)) for key in ("started", "finished"))
    created = client.create_run(
        experiment, start_time=start, run_name=record.name[:LONGEST_NAME], tags=_tags(record)
    )
    run: str = created.info.run_id
    params = _params(record)
    for low in range(0, len(params), PARAMS_A_BATCH):
        client.log_batch(run, params=params[low : low + PARAMS_A_BATCH])
    metrics = list(_metrics(record))
    for low in range(0, len(metrics), METRICS_A_BATCH):
        client.log_batch(run, metrics=metrics[low : low + METRICS_A_BATCH])
    for name in ("record.json", *record.artifacts.values()):
        client.log_artifact(run, str(folder / name))
    if record.curves:
        client.log_text(run, _table(record.curves), "curves.csv")
    client.set_terminated(run, STATUS[record.state], end_time=end)
    return run


def _tags(record: Record) -> dict[str, str]:
    tags = {
        "detbench.study": record.study,
        "detbench.trial": record.trial,
        "detbench.started": _identity(record),
        "detbench.detector": record.detector,
        "detbench.state": record.state,
        "detbench.seed": str(record.seed),
        "detbench.data": str(record.data.get("name", "")),
        "detbench.protocol": record.protocol_hash,
        "detbench.writer": _writer(),
        "detbench.logging_since": str(time.time()),
    }
    if record.failure:
        tags["detbench.failure"] = f"{record.failure.cause}: {record.failure.message}"
    tags |= {f"detbench.knob.{path}": _plain(value) for path, value in record.overrides.items()}
    return {key: value[:LONGEST_TAG] for key, value in tags.items()}


def _params(record: Record) -> list[Any]:
    from mlflow.entities import Param

    values = {"detector": record.detector, "seed": record.seed, **record.config}
    return [Param(key, _plain(value)[:LONGEST_PARAM]) for key, value in values.items()]


def _metrics(record: Record) -> Iterator[Any]:
    """Yield the curves by optimiser step, and the final figures after them."""
    from mlflow.entities import Metric

    step = 0
    for row in record.curves:
        step = int(row.get("step", row.get("epoch", 0)))
        when = int(1000 * row.get("time", 0))
        for key, value in row.items():
            if key not in ("step", "time"):
                yield Metric(key, value, when, step)
    when = int(1000 * record.timings.get("finished", 0))
    for key, value in record.metrics.items():
        yield Metric(key, value, when, step)


def _table(rows: Sequence[Mapping[str, float]]) -> str:
    """Write rows as CSV; what a row lacks is left empty."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _identity(record: Record) -> str:
    """Tell this record from those of other attempts at the same trial."""
    return repr(record.timings.get("started", 0.0))


def _finished_run(client: Any, experiment: str, record: Record) -> str | None:
    """Return the run that holds the record, if its writer died before it could remember that."""
    wanted = (
        f"tags.`detbench.trial` = '{record.trial}' and "
        f"tags.`detbench.started` = '{_identity(record)}' and "
        f"attributes.status = '{STATUS[record.state]}'"
    )
    found = client.search_runs([experiment], wanted, max_results=1)
    return found[0].info.run_id if found else None


def _experiment(client: Any, study: str, tracker: str) -> str:
    """Return the id of the study's experiment, which is made if need be."""
    found = client.get_experiment_by_name(study)
    if found is None:
        made: str = client.create_experiment(study, artifact_location=_artifacts(tracker))
        return made
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    known: str = found.experiment_id
    return known


def _artifacts(tracker: str) -> str | None:
    """Return where files go: beside an SQLite database; a server knows by itself."""
    file = _sqlite_file(tracker)
    return (file.parent / "mlartifacts").as_uri() if file else None


def _sqlite_file(tracker: str) -> Path | None:
    prefix = "sqlite:///"
    return Path(tracker.removeprefix(prefix)).resolve() if tracker.startswith(prefix) else None


def _absolute(tracker: str) -> str:
    """Return a name of the tracker that holds in any folder."""
    file = _sqlite_file(tracker)
    return f"sqlite:///{file}" if file else tracker


def _writer() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _abandoned(tags: Mapping[str, str]) -> bool:
    """Say whether nobody is at work on an open run of ours."""
    if "detbench.trial" not in tags:
        return False
    host, _, pid = tags.get("detbench.writer", "").rpartition(":")
    if host == socket.gethostname() and (int(pid) == os.getpid() or not _alive(int(pid))):
        return True
    return time.time() - float(tags.get("detbench.logging_since", 0)) > ABANDONED_AFTER


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what MLflow and its database say off the terminal, and let it report to nobody."""
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    level = logging.root.manager.disable
    logging.disable(max(level, logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _client(tracker: str) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=tracker)
