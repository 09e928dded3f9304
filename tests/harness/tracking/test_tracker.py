import itertools
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import pytest

from harness import tracking
from harness.records import Failure, Record, record, snapshot
from harness.tracking import Tracker, connection, writers
from harness.tracking import runs as runs_of_mlflow
from harness.tracking.database import TrackerError
from tests.harness.tracking.trackers import client, make, runs, trials


@pytest.fixture
def uri(tmp_path: Path, empty_tracker: Path) -> str:
    shutil.copy(empty_tracker, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def test_a_run_holds_what_the_record_holds(
    tmp_path: Path, uri: str, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "abc"
    run = Tracker(uri).send(make(folder), folder)
    assert capfd.readouterr() == ("", "")
    (found,) = trials(uri)
    assert found.info.run_id == run
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "width=4"
    assert (found.info.start_time, found.info.end_time) == (999_000, 1_002_000)
    assert found.data.params["detector.knob149"] == "149"
    assert found.data.params["width"] == "4"
    assert len(found.data.params["detector.long"]) == 6000
    assert found.data.params["seed"] == "3"
    assert found.data.metrics["mAP"] == 0.5
    assert found.data.tags["detbench.trial"] == "abc"
    assert found.data.tags["detbench.knob.detector.width"] == "4"
    history = client(uri).get_metric_history(run, "loss")
    assert [(m.step, m.timestamp, m.value) for m in history] == [
        (4, 1_000_000, 2.0),
        (8, 1_001_000, 1.0),
    ]
    artifacts = {item.path for item in client(uri).list_artifacts(run)}
    assert artifacts == {"record.json", "weights.safetensors", "curves.csv"}
    assert (tmp_path / "mlartifacts").is_dir()


def test_trials_are_nested_under_one_finished_run_a_study(tmp_path: Path, uri: str) -> None:
    for name in ("a", "b"):
        one = Tracker(uri)  # as another driver has it
        one.send(make(tmp_path / name), tmp_path / name, note="Does width matter?")
    parents = [run for run in runs(uri) if "detbench.trial" not in run.data.tags]
    (parent,) = parents
    assert parent.info.run_name == "toy"
    assert parent.info.status == "FINISHED"
    assert (parent.info.start_time, parent.info.end_time) == (999_000, 1_002_000)
    assert parent.data.tags["mlflow.note.content"] == "Does width matter?"
    children = {run.data.tags["mlflow.parentRunId"] for run in trials(uri)}
    assert children == {parent.info.run_id}


def test_each_version_of_a_study_has_a_parent_and_each_trial_one_run(
    tmp_path: Path, uri: str
) -> None:
    """Trial a is of the first version, b of both, c of the second."""

    def edited(version: str, *names: str) -> list[Record]:
        now = snapshot.Snapshot(study="toy", total=2, version=version, trials=list(names))
        snapshot.update(tmp_path, now)
        made = [make(tmp_path / name) for name in names]
        for item in made:
            Tracker(uri).send(item, tmp_path / item.trial)
        return made

    def nested() -> dict[str, list[str]]:
        found = runs(uri)
        names = {run.info.run_id: run.info.run_name for run in found}
        children: dict[str, list[str]] = {name: [] for name in names.values() if "toy" in name}
        for run in trials(uri):
            parent = names[run.data.tags["mlflow.parentRunId"]]
            children[parent].append(run.data.tags["detbench.trial"])
        return {name: sorted(children[name]) for name in children}

    first = edited("one", "a", "b")
    assert nested() == {"toy": ["a", "b"]}
    second = edited("two", "b", "c")
    records = [*first, *second]
    assert Tracker(uri).arrange("toy", tmp_path, records) == 1
    assert nested() == {"toy": ["a"], "toy, version 2": ["b", "c"]}
    assert Tracker(uri).arrange("toy", tmp_path, records) == 0
    edited("one", "a", "b")
    Tracker(uri).arrange("toy", tmp_path, records)
    assert nested() == {"toy": ["a", "b"], "toy, version 2": ["c"]}


def test_a_record_is_sent_once(tmp_path: Path, uri: str) -> None:
    folder = tmp_path / "abc"
    record = make(folder)
    assert not tracking.is_logged(folder, uri)
    first = Tracker(uri).send(record, folder)
    assert tracking.is_logged(folder, uri)
    (folder / tracking.LOGGED_FILE).unlink()
    assert Tracker(uri).send(record, folder) == first
    assert tracking.logged(folder) == {uri: first}
    assert len(trials(uri)) == 1


@pytest.mark.parametrize("step", ["log_batch", "log_artifact", "set_terminated", "set_tag"])
def test_what_a_killed_writer_left_is_replaced(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    folder = tmp_path / "abc"
    record = make(folder)
    api: Any = client(uri)

    class Killed(BaseException):
        pass

    def die(*args: object, **kwargs: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(type(api), step, die)
        with pytest.raises(Killed):
            Tracker(uri).send(record, folder)
    assert not tracking.is_logged(folder, uri)
    Tracker(uri).send(record, folder)
    (found,) = trials(uri)
    assert found.info.status == "FINISHED"
    assert found.data.metrics["mAP"] == 0.5
    assert {run.info.status for run in runs(uri)} == {"FINISHED"}


def test_a_failure_that_was_overcome_keeps_its_own_run(tmp_path: Path, uri: str) -> None:
    folder = tmp_path / "abc"
    failure = Failure(cause="crash", message="gone")
    Tracker(uri).send(make(folder, state="failed", failure=failure), folder)
    again = make(folder, timings={"started": 2000.0, "finished": 2001.0})
    Tracker(uri).send(again, folder)
    assert sorted(run.info.status for run in trials(uri)) == ["FAILED", "FINISHED"]
    failed = next(run for run in trials(uri) if run.info.status == "FAILED")
    assert failed.data.tags["detbench.failure"] == "crash: gone"


def test_runs_that_a_killed_process_left_open_are_closed(tmp_path: Path, uri: str) -> None:
    assert Tracker(uri).close_stale("toy") == 0
    folder = tmp_path / "abc"
    Tracker(uri).send(make(folder), folder)
    api = client(uri)
    experiment = api.get_experiment_by_name("toy").experiment_id
    ours = {"detbench.trial": "x", "detbench.writer": writers.this()}
    api.create_run(experiment, tags=ours, run_name="stale")
    other = {**ours, "detbench.writer": f"elsewhere:{os.getpid()}"}
    fresh = {**other, "detbench.logging_since": str(2**40)}
    api.create_run(experiment, tags={**other, "detbench.logging_since": "0"}, run_name="old")
    api.create_run(experiment, tags=fresh, run_name="fresh")
    api.create_run(experiment, tags={}, run_name="foreign")
    assert Tracker(uri).close_stale("toy") == 2
    status = {run.info.run_name: run.info.status for run in runs(uri)}
    assert status == {
        "toy": "FINISHED",
        "width=4": "FINISHED",
        "stale": "KILLED",
        "old": "KILLED",
        "fresh": "RUNNING",
        "foreign": "RUNNING",
    }


def test_a_deleted_experiment_comes_back(tmp_path: Path, uri: str) -> None:
    folder = tmp_path / "abc"
    Tracker(uri).send(make(folder), folder)
    client(uri).delete_experiment(client(uri).get_experiment_by_name("toy").experiment_id)
    Tracker(uri).send(make(tmp_path / "b"), tmp_path / "b")
    assert "b" in {run.data.tags["detbench.trial"] for run in trials(uri)}


def test_what_was_deleted_meanwhile_is_made_again_at_the_next_attempt(
    tmp_path: Path, uri: str
) -> None:
    one = Tracker(uri)
    one.send(make(tmp_path / "a"), tmp_path / "a")
    client(uri).delete_experiment(client(uri).get_experiment_by_name("toy").experiment_id)
    with pytest.raises(Exception, match="active"):
        one.send(make(tmp_path / "b"), tmp_path / "b")
    one.send(make(tmp_path / "b"), tmp_path / "b")
    assert "b" in {run.data.tags["detbench.trial"] for run in trials(uri)}


def test_a_trial_whose_weights_were_removed_is_sent_without(tmp_path: Path, uri: str) -> None:
    record = make(tmp_path / "abc")
    (tmp_path / "abc" / "weights.safetensors").unlink()
    run = Tracker(uri).send(record, tmp_path / "abc")
    artifacts = {item.path for item in client(uri).list_artifacts(run)}
    assert artifacts == {"record.json", "curves.csv"}


def test_a_long_name_fits_a_trackers_column(tmp_path: Path, uri: str) -> None:
    folder = tmp_path / "abc"
    Tracker(uri).send(make(folder).model_copy(update={"name": "ä" * 9000}), folder)
    (found,) = trials(uri)
    assert found.info.run_name == "ä" * 250


def test_a_writer_waits_for_a_stranger_who_locks_the_database() -> None:
    answers: Iterator[Exception | str] = iter(
        [*[sqlite3.OperationalError("database is locked")] * 2, "done"]
    )

    def work() -> str:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    assert connection.patiently(work) == "done"


def test_the_tracker_is_the_given_one_then_the_environments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracker")
    assert tracking.uri("sqlite:///a.db") == "sqlite:///a.db"
    assert tracking.uri() == "http://tracker"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert tracking.uri() == "sqlite:///mlflow.db"


def test_a_damaged_marker_counts_as_not_logged(tmp_path: Path) -> None:
    (tmp_path / tracking.LOGGED_FILE).write_text("{", "utf-8")
    assert tracking.logged(tmp_path) == {}
    (tmp_path / tracking.LOGGED_FILE).write_text('{"http://tracker": "1"}', "utf-8")
    assert tracking.is_logged(tmp_path, "http://tracker")


def amended(folder: Path) -> Record:
    """Write a record anew, as when its trial was timed together with others."""
    before = record.read(folder)
    (folder / "samples-ab.npz").write_bytes(b"rounds")
    after = before.model_copy(
        update={
            "metrics": before.metrics | {"latency_ms": 1.5, "latency_ratio": 0.75},
            "details": {"together": {"session": "ab", "finished": 1010.0}},
            "artifacts": before.artifacts | {"samples": "samples-ab.npz"},
        }
    )
    after.write(folder)
    return after


def test_what_is_new_in_a_record_becomes_the_last_of_its_run(tmp_path: Path, uri: str) -> None:
    folder = tmp_path / "abc"
    run = Tracker(uri).send(make(folder), folder)
    assert tracking.is_logged(folder, uri)
    after = amended(folder)
    assert not tracking.is_logged(folder, uri)
    assert Tracker(uri).send(after, folder) == run
    assert tracking.is_logged(folder, uri)
    (found,) = trials(uri)
    assert found.info.run_id == run
    assert {key: found.data.metrics[key] for key in after.metrics} == after.metrics
    history = {key: client(uri).get_metric_history(run, key) for key in ("latency_ms", "mAP")}
    assert [item.value for item in history["latency_ms"]] == [2.0, 1.5]
    assert history["latency_ms"][-1].timestamp == 1_010_000
    assert [item.value for item in history["mAP"]] == [0.4, 0.5]  # as before
    assert "samples-ab.npz" in {item.path for item in client(uri).list_artifacts(run)}
    Tracker(uri).send(after, folder)
    assert len(client(uri).get_metric_history(run, "latency_ms")) == 2


def test_a_mark_from_before_digests_were_kept_holds_unless_the_record_was_renewed(
    tmp_path: Path,
) -> None:
    make(tmp_path / "a")
    (tmp_path / "a" / tracking.LOGGED_FILE).write_text('{"http://tracker": "1"}', "utf-8")
    assert tracking.is_logged(tmp_path / "a", "http://tracker")
    amended(tmp_path / "a")
    assert not tracking.is_logged(tmp_path / "a", "http://tracker")


def test_a_tracker_that_makes_up_pages_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    fake, numbers = MagicMock(), itertools.count()
    fake.search_runs.side_effect = lambda *_, **__: MagicMock(token=str(next(numbers)))
    monkeypatch.setattr(runs_of_mlflow, "MOST_PAGES", 7)
    with pytest.raises(TrackerError, match="pages of runs without end"):
        list(runs_of_mlflow.search(fake, MagicMock(), ""))
    assert fake.search_runs.call_count == 7


def test_a_tracker_without_a_last_page_is_given_up() -> None:
    fake = MagicMock()
    fake.search_runs.return_value = MagicMock(token="again")
    with pytest.raises(TrackerError, match="pages of runs without end"):
        list(runs_of_mlflow.search(fake, MagicMock(), ""))
    assert fake.search_runs.call_count == 2
