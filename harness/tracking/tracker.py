"""An MLflow server or database, through which every record goes once."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from filelock import FileLock

from harness.records import FILE, Record, artifact, snapshot
from harness.tracking import connection, database, models, runs, versions, views, writers
from harness.tracking.amend import SENT, Held, amend
from harness.tracking.contents import Point
from harness.tracking.database import TrackerError
from harness.tracking.marks import (
    absolute,
    digest,
    is_current,
    logged,
    remember,
    sqlite_file,
    written,
)

DEFAULT_URI = "sqlite:///mlflow.db"
SECONDS_TO_CONNECT = 3

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
        self._shown: dict[str, tuple[str, dict[tuple[str, int], float]]] = {}  # by trial: its run

    def begin(
        self, record: Record, folder: Path, *, knobs: Collection[str] | None = None, note: str = ""
    ) -> None:
        """Open the run of a trial that starts, or go on with that of an earlier attempt.

        Args:
            record: of the trial, as it is before there is any result.
            folder: the trial's.
            knobs: paths that the study sweeps; see `contents.params`.
            note: what the study asks, shown with its parent run.

        Raises:
            OSError, MlflowException: the tracker is away or refuses.
        """

        def work(client: Any) -> None:
            experiment = self._experiment(client, record.study, knobs)
            _, shown = runs.find(client, experiment, record)
            if shown is None:
                version = versions.of(folder.parent, record.trial)
                parent = self._parent(client, experiment, record, note, version)
                run = runs.create(client, experiment, parent, record, knobs)
            else:
                run = runs.go_on(client, shown, record, knobs)
            self._shown[record.trial] = run, runs.known_points(client, run)

        self._do(work, folder.parent)

    def add(self, trial: str, points: Sequence[Point], folder: Path) -> None:
        """Add what a trial under way has come to, each value once.

        Args:
            trial: that `begin` was called with.
            points: values of metrics.
            folder: of the study.
        """
        run, known = self._shown[trial]
        after = dict(known)
        new = list(runs.unknown(points, after))
        if new:
            self._do(lambda client: runs.add(client, run, new), folder)
            known |= after

    def stop(self, folder: Path) -> None:
        """End the runs of trials that began here and have no record, as one that was killed."""

        def work(client: Any) -> None:
            for run, _ in self._shown.values():
                client.set_terminated(run, "KILLED")

        if self._shown:
            self._do(work, folder)
            self._shown.clear()

    def has_begun(self, trial: str) -> bool:
        """Say whether a run of a trial under way is open here."""
        return trial in self._shown

    def send(
        self,
        record: Record,
        folder: Path,
        *,
        knobs: Collection[str] | None = None,
        note: str = "",
        trusted: Collection[str] | None = None,
    ) -> str:
        """Send a record, or what is new in it, unless the tracker holds it; remember that.

        Args:
            record: of a trial that is over.
            folder: the trial's.
            knobs: paths that the study sweeps; see `contents.params`.
            note: what the study asks, shown with its parent run.
            trusted: send trained weights as a model, too, of a detector that is built in or one of
                these, whose code may run here; None sends no models.

        Returns:
            The id of the run.

        Raises:
            OSError, MlflowException: the tracker is away or refuses.
            RecordError: a file that the record names lies elsewhere.
        """
        sent = written(folder)
        files = [artifact(folder, name) for name in (FILE, *record.artifacts.values())]

        def work(client: Any, model: models.Saved | None) -> str:
            experiment = self._experiment(client, record.study, knobs)
            found, shown = runs.find(client, experiment, record)
            if found is None:
                version = versions.of(folder.parent, record.trial)
                parent = self._parent(client, experiment, record, note, version)
                if shown is None:
                    run = runs.create(client, experiment, parent, record, knobs)
                else:
                    run = runs.go_on(client, shown, record, knobs)
                runs.fill(client, run, record, files, model)
                end = runs.milliseconds(record, "finished")
                client.set_terminated(parent, end_time=end)
            else:
                run = str(found.info.run_id)
                if not is_current(folder, found.data.tags.get(SENT)):
                    amend(client, found, record, folder)
            client.set_tag(run, SENT, sent)
            remember(folder, self.uri, run, sent)
            self._shown.pop(record.trial, None)
            return run

        wanted = trusted is not None and self.name not in logged(folder)
        with models.saved(record, folder, trusted or ()) if wanted else nullcontext() as model:
            return self._do(lambda client: work(client, model), folder.parent)

    def held(self, study: str) -> dict[tuple[str, str], Held]:
        """Return the whole runs of a study by trial and attempt."""

        def work(client: Any) -> dict[tuple[str, str], Held]:
            found = runs.search(
                client, client.get_experiment_by_name(study), f"tags.`{runs.WHOLE}` = 'yes'"
            )
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
            whole = f"tags.`{runs.WHOLE}` = 'yes'"
            found = list(runs.search(client, client.get_experiment_by_name(study), whole))
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
            views.tell(client, experiment, question, answer)
            remember(folder, self.uri, parent, digest(answer))

        self._do(work, folder)

    def close_stale(self, study: str) -> int:
        """Close the runs of a study that a killed process left open; return how many."""

        def work(client: Any) -> int:
            experiment = client.get_experiment_by_name(study)
            found = runs.search(client, experiment, "attributes.status = 'RUNNING'")
            stale = [run for run in found if writers.abandoned(run.data.tags)]
            for run in stale:
                client.set_terminated(run.info.run_id, "KILLED")
            return len(stale)

        return self._do(work)

    def _do(self, work: Callable[[Any], T], folder: Path | None = None) -> T:
        """Do something with a client, in turn with other writers; what was known may be wrong."""
        try:
            with connection.quiet():
                self._knock()
                with self._turn(folder):
                    where = self.uri if self.file is None else database.address(self.file)
                    if self.file is not None:
                        database.ensure(
                            self.file, lambda url: connection.client(url).search_experiments()
                        )
                    return connection.patiently(lambda: work(connection.client(where)))
        except Exception as error:
            self._experiments.clear()
            self._parents.clear()
            self._shown.clear()
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

    def _experiment(self, client: Any, study: str, knobs: Collection[str] | None = None) -> str:
        """Return the id of the study's experiment, which is made if need be."""
        if study not in self._experiments:
            self._experiments[study] = _experiment(client, study, self.file)
            if knobs is not None:
                views.show(client, self._experiments[study], knobs)
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
            made: str = client.create_experiment(study, artifact_location=place, tags=views.KIND)
            return made
        except Exception:  # another driver, which may run elsewhere, was quicker
            found = client.get_experiment_by_name(study)
            if found is None:
                raise
    if found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    known: str = found.experiment_id
    return known
