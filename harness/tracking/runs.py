"""The run in MLflow of one trial: opened as the trial starts, or at once whole from its record.

A run is whole once all of its record is there. Until then whoever sends the record takes over a
run that shows the trial as it goes, and does away with one that a killed writer left half filled.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import harness.tracking.contents as contents
from harness.records import Record
from harness.tracking import models, versions, writers
from harness.tracking.amend import log
from harness.tracking.contents import Point
from harness.tracking.database import TrackerError

WHOLE = "detbench.whole"
FILLED = "detbench.filling"  # whether somebody began to fill in the record
LONGEST_NAME = 250
PARAMS_A_BATCH = 100
MOST_PAGES = 10_000  # of a thousand runs each


def create(
    client: Any, experiment: str, parent: str, record: Record, knobs: Collection[str] | None
) -> str:
    """Open the run of a trial that is under way or over, with all that is known beforehand.

    Args:
        client: MLflow's.
        experiment: id of the study's.
        parent: id of the run that stands for the study.
        record: of the trial; of one under way, as it is before there is any result.
        knobs: paths that the study sweeps; see `contents.params`.

    Returns:
        The id of the run.
    """
    tags = contents.tags(record) | _of_writer() | {versions.PARENT: parent}
    del tags["detbench.started"], tags["detbench.state"]  # known once the trial is over
    start, name = milliseconds(record, "started"), record.name[:LONGEST_NAME]
    run = client.create_run(experiment, start_time=start, run_name=name, tags=tags)
    number: str = run.info.run_id
    _describe(client, run, record, knobs)
    return number


def go_on(client: Any, run: Any, record: Record, knobs: Collection[str] | None) -> str:
    """Take a run over that showed the trial before, here or in a process that was killed."""
    number: str = run.info.run_id
    client.update_run(number, status="RUNNING")
    _tag(client, number, _of_writer())
    _describe(client, run, record, knobs)
    return number


def fill(
    client: Any, run: str, record: Record, files: Collection[Path], model: models.Saved | None
) -> None:
    """Add to a run all that a record has and the run has not, end it, and only then call it whole.

    Args:
        client: MLflow's.
        run: id of the run.
        record: of the trial, which is over.
        files: beside the record; those that are missing are left out.
        model: of its weights; None for none.
    """
    shown = known_points(client, run)
    _tag(client, run, contents.tags(record) | {FILLED: "yes"})
    for file in filter(Path.is_file, files):
        client.log_artifact(run, str(file))
    if record.curves:
        client.log_text(run, contents.table(record.curves), "curves.csv")
    if model is not None:
        models.send(client, run, model, record)
    log(client, run, unknown(contents.metrics(record), shown))
    end = milliseconds(record, "finished")
    client.set_terminated(run, contents.STATUS[record.state], end_time=end)
    client.set_tag(run, WHOLE, "yes")


def add(client: Any, run: str, points: Iterable[Point]) -> None:
    """Add what a trial under way has come to, and say that somebody is still at work on it."""
    log(client, run, points)
    client.set_tag(run, writers.SINCE, str(time.time()))


def known_points(client: Any, run: str) -> dict[tuple[str, int], float]:
    """Return what a run holds of metrics: the value of each at each step."""
    found = (client.get_metric_history(run, key) for key in client.get_run(run).data.metrics)
    return {(item.key, item.step): item.value for history in found for item in history}


def unknown(points: Iterable[Point], known: dict[tuple[str, int], float]) -> Iterator[Point]:
    """Yield the points that say something new, and take them for known from then on."""
    for point in points:
        if known.get((point.key, point.step)) != point.value:
            known[point.key, point.step] = point.value
            yield point


def find(client: Any, experiment: str, record: Record) -> tuple[Any, Any]:
    """Return the run that holds a record, and one that shows its trial under way; None for none.

    What a killed writer left half filled is deleted.
    """
    whole = shown = None
    attempt = contents.attempt(record)
    for run in client.search_runs([experiment], f"tags.`detbench.trial` = '{record.trial}'"):
        tags = run.data.tags
        if WHOLE in tags:
            same = tags.get("detbench.started") == attempt
            whole = whole or (run if same else None)
        elif FILLED not in tags and "detbench.started" not in tags and shown is None:
            shown = run
        elif tags.get("detbench.started", attempt) == attempt:
            discard(client, run)
    return whole, shown


def discard(client: Any, run: Any) -> None:
    """Delete a run, and the models that came of it."""
    models.discard(client, run.info.experiment_id, run.info.run_id)
    client.delete_run(run.info.run_id)


def search(client: Any, experiment: Any, wanted: str) -> Iterator[Any]:
    """Yield all runs of an experiment that fit, page by page; none if there is no experiment.

    Raises:
        TrackerError: there is no last page.
    """
    token = None
    for _ in range(MOST_PAGES if experiment is not None else 0):
        page = client.search_runs([experiment.experiment_id], wanted, page_token=token)
        yield from page
        again, token = page.token == token, page.token
        if again or not token:
            break
    if token:
        raise TrackerError("it hands out pages of runs without end: no MLflow")


def milliseconds(record: Record, moment: str) -> int:
    """Return a moment of a trial, since the epoch of Unix."""
    return int(1000 * record.timings.get(moment, 0))


def _of_writer() -> dict[str, str]:
    return {writers.WRITER: writers.this(), writers.SINCE: str(time.time())}


def _tag(client: Any, run: str, tags: Mapping[str, str]) -> None:
    from mlflow.entities import RunTag  # slow to import

    client.log_batch(run, tags=[RunTag(key, value) for key, value in tags.items()])


def _describe(client: Any, run: Any, record: Record, knobs: Collection[str] | None) -> None:
    """Add parameters and data sets to a run, as far as it lacks them."""
    from mlflow.entities import Param  # slow to import

    known = run.data.params
    wanted = contents.params(record, knobs)
    params = [Param(key, value) for key, value in wanted.items() if key not in known]
    for low in range(0, len(params), PARAMS_A_BATCH):
        client.log_batch(run.info.run_id, params=params[low : low + PARAMS_A_BATCH])
    if not run.inputs.dataset_inputs:
        client.log_inputs(run.info.run_id, contents.inputs(record))
