"""An MLflow server or database, through which every record goes once."""

from __future__ import annotations

import logging
import os
import socket
import time
import warnings
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from filelock import FileLock

import harness.tracking.contents as contents
from harness.records import FILE, Record, artifact, snapshot
from harness.tracking import database, versions, writers
from harness.tracking.amend import SENT, Held, amend, log
from harness.tracking.database import TrackerError
from harness.tracking.marks import absolute, digest, is_current, remember, sqlite_file, written

DEFAULT_URI = "sqlite:///mlflow.db"
LONGEST_NAME = 250
PARAMS_A_BATCH = 100
MOST_PAGES = 10_000  # of a thousand runs each
SECONDS_TO_CONNECT, SECONDS_TO_ANSWER = 3, 10
PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8, 1.6)  # seconds between attempts at a database that is locked
WHOLE = "detbench.whole"

T = TypeVar("T")


def uri(given: str | None = None) -> str:
    """Return the tracker to use: the given one, $MLFLOW_TRACKING_URI, or a file in this folder."""
    return given or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI


class Tracker:
    """A place that runs are sent to.

    Writers to one SQLite file take turns, and so do those that share a study's folder: each record
    has one run, however many drivers there are and whatever they died of.

    Args:
        uri: of MLflow.

    Raises:
        TrackerError: a file with options after its name, which would be taken for a part of it.
    """

    def __init__(self, uri: str) -> None:
        self.uri, self.name, self.file = uri, absolute(uri), sqlite_file(uri)
        if self.file is not None and "?" in self.file.name:
            raise TrackerError(
                f"{uri}: a tracker in a file takes no options; leave out the question mark and what"
                " follows"
            )
        self._experiments: dict[str, str] = {}
        self._parents: dict[tuple[str, str], str] = {}

    def send(
        self, record: Record, folder: Path, *, knobs: Collection[str] | None = None, note: str = ""
    ) -> str:
        """Send a record, or what is new in it, unless the tracker holds it; remember that.

        Args:
            record: of a trial that is over.
            folder: the trial's.
            knobs: paths that the study sweeps; see `contents.params`.
            note: what the study asks, shown with its parent run.

        Returns:
            The id of the run.

        Raises:
            OSError, MlflowException: the tracker is away or refuses.
            RecordError: a file that the record names lies elsewhere.
        """
        sent = written(folder)
        files = [artifact(folder, name) for name in (FILE, *record.artifacts.values())]

        def work(client: Any) -> str:
            experiment = self._experiment(client, record.study)
            found = _whole_run(client, experiment, record)
            if found is None:
                version = versions.of(folder.parent, record.trial)
                parent = self._parent(client, experiment, record, note, version)
                run = _create(client, experiment, parent, record, knobs)
                _fill(client, run, record, files)
                client.set_terminated(parent, end_time=_milliseconds(record, "finished"))
            else:
                run = str(found.info.run_id)
                if not is_current(folder, found.data.tags.get(SENT)):
                    amend(client, found, record, folder)
            client.set_tag(run, SENT, sent)
            remember(folder, self.uri, run, sent)
            return run

        return self._do(work, folder.parent)

    def held(self, study: str) -> dict[tuple[str, str], Held]:
        """Return the whole runs of a study by trial and attempt."""

        def work(client: Any) -> dict[tuple[str, str], Held]:
            found = _search(client, client.get_experiment_by_name(study), f"tags.`{WHOLE}` = 'yes'")
            tags = ((run.info.run_id, run.data.tags) for run in found)
            return {
                (t["detbench.trial"], t["detbench.started"]): Held(run, t.get(SENT))
                for run, t in tags
            }

        return self._do(work)

    def arrange(self, study: str, folder: Path, records: Sequence[Record]) -> int:
        """Move the runs of trials under the version of the study that has them; return how many.

        Args:
            study: its name.
            folder: of its records.
            records: in that folder.
        """

        def work(client: Any) -> int:
            whole = f"tags.`{WHOLE}` = 'yes'"
            found = list(_search(client, client.get_experiment_by_name(study), whole))
            return versions.arrange(client, found, folder, records)

        return self._do(work, folder)

    def tell(self, record: Record, folder: Path, answer: str) -> None:
        """Write a study's answer beside its question, on the run of its file as it is now.

        Args:
            record: a trial that the file asks for.
            folder: of the study.
            answer: the text, as plain as it is in the tag `detbench.answer`.
        """

        def work(client: Any) -> None:
            known = snapshot.load(folder)
            question = known.question if known else ""
            experiment = self._experiment(client, record.study)
            version = versions.of(folder, record.trial)
            parent = self._parent(client, experiment, record, question, version)
            versions.tell(client, parent, question, answer)
            remember(folder, self.uri, parent, digest(answer))

        self._do(work, folder)

    def close_stale(self, study: str) -> int:
        """Close the runs of a study that a killed process left open; return how many."""

        def work(client: Any) -> int:
            experiment = client.get_experiment_by_name(study)
            found = _search(client, experiment, "attributes.status = 'RUNNING'")
            stale = [run for run in found if writers.abandoned(run.data.tags)]
            for run in stale:
                client.set_terminated(run.info.run_id, "KILLED")
            return len(stale)

        return self._do(work)

    def _do(self, work: Callable[[Any], T], folder: Path | None = None) -> T:
        """Do something with a client, in turn with other writers; what was known may be wrong."""
        try:
            with _quiet():
                self._knock()
                with self._turn(folder):
                    where = self.uri if self.file is None else database.address(self.file)
                    if self.file is not None:
                        database.ensure(self.file, lambda url: _client(url).search_experiments())
                    return _patiently(lambda: work(_client(where)))
        except Exception as error:
            self._experiments.clear()
            self._parents.clear()
            told = database.remedy(self.file, error) if self.file else None
            if told is not None:
                raise TrackerError(told) from error
            raise

    def _knock(self) -> None:
        """Find out within seconds whether a server is there.

        Raises:
            OSError: it is not.
        """
        parts = urlsplit(self.uri)
        if parts.scheme in ("http", "https") and parts.hostname:
            port = parts.port or (443 if parts.scheme == "https" else 80)
            socket.create_connection((parts.hostname, port), SECONDS_TO_CONNECT).close()

    @contextmanager
    def _turn(self, folder: Path | None) -> Iterator[None]:
        """Keep out other writers to the same file, or for the same study."""
        if self.file is not None:
            self.file.parent.mkdir(parents=True, exist_ok=True)
            lock = self.file.with_name(f".{self.file.name}.lock")
        elif folder is not None:
            lock = folder / ".mlflow.lock"
        else:
            yield
            return
        with FileLock(lock):
            yield

    def _experiment(self, client: Any, study: str) -> str:
        """Return the id of the study's experiment, which is made if need be."""
        if study not in self._experiments:
            self._experiments[study] = _experiment(client, study, self.file)
        return self._experiments[study]

    def _parent(self, client: Any, experiment: str, record: Record, note: str, version: str) -> str:
        """Return the id of the run that stands for the study's version, made if need be."""
        key = (experiment, version)
        if key not in self._parents:
            self._parents[key] = versions.parent(client, experiment, record, note, version)
        return self._parents[key]


def _experiment(client: Any, study: str, file: Path | None) -> str:
    """Find or make an experiment; files go beside an SQLite database, a server knows by itself."""
    found = client.get_experiment_by_name(study)
    if found is None:
        place = (file.parent / "mlartifacts").as_uri() if file else None
        try:
            made: str = client.create_experiment(study, artifact_location=place)
            return made
        except Exception:  # another driver, which may run elsewhere, was quicker
            found = client.get_experiment_by_name(study)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    known: str = found.experiment_id
    return known


def _whole_run(client: Any, experiment: str, record: Record) -> Any:
    """Return the run that holds a record; what a killed writer left of one is deleted."""
    wanted = (
        f"tags.`detbench.trial` = '{record.trial}' and "
        f"tags.`detbench.started` = '{contents.attempt(record)}'"
    )
    found = None
    for run in client.search_runs([experiment], wanted):
        if found is None and WHOLE in run.data.tags:
            found = run
        else:
            client.delete_run(run.info.run_id)
    return found


def _create(
    client: Any, experiment: str, parent: str, record: Record, knobs: Collection[str] | None
) -> str:
    """Open a run, with parameters."""
    from mlflow.entities import Param  # slow to import

    tags = contents.tags(record) | {
        versions.PARENT: parent,
        "detbench.writer": writers.this(),
        "detbench.logging_since": str(time.time()),
    }
    start, name = _milliseconds(record, "started"), record.name[:LONGEST_NAME]
    run = client.create_run(experiment, start_time=start, run_name=name, tags=tags)
    params = [Param(key, value) for key, value in contents.params(record, knobs).items()]
    for low in range(0, len(params), PARAMS_A_BATCH):
        client.log_batch(run.info.run_id, params=params[low : low + PARAMS_A_BATCH])
    number: str = run.info.run_id
    return number


def _fill(client: Any, run: str, record: Record, files: Collection[Path]) -> None:
    """Add files and metrics to a run, end it, and only then call it whole."""
    for file in filter(Path.is_file, files):
        client.log_artifact(run, str(file))
    if record.curves:
        client.log_text(run, contents.table(record.curves), "curves.csv")
    log(client, run, contents.metrics(record))
    end = _milliseconds(record, "finished")
    client.set_terminated(run, contents.STATUS[record.state], end_time=end)
    client.set_tag(run, WHOLE, "yes")


def _search(client: Any, experiment: Any, wanted: str) -> Iterator[Any]:
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


def _milliseconds(record: Record, moment: str) -> int:
    return int(1000 * record.timings.get(moment, 0))


def _patiently(work: Callable[[], T]) -> T:
    """Try again while somebody else, such as a server on the same file, holds the database."""
    for pause in PAUSES:
        try:
            return work()
        except Exception as error:
            if "database is locked" not in str(error):
                raise
            time.sleep(pause)
    return work()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what MLflow and its database say off the terminal, and let it report to nobody.

    Requests are not repeated behind our back: a run whose creation was answered too late would be
    made twice. Whoever sends tries again, and finds what the first attempt left.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", str(SECONDS_TO_ANSWER))
    level = logging.root.manager.disable
    logging.disable(max(level, logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def _client(tracker: str) -> Any:
    from mlflow import MlflowClient  # slow to import

    return MlflowClient(tracking_uri=tracker)
