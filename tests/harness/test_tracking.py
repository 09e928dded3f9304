import json
import os
import warnings
from pathlib import Path
from typing import Any

import pytest

from harness import tracking
from harness.record import Failure, Record


@pytest.fixture
def uri(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def make(folder: Path, **changes: Any) -> Record:
    values: dict[str, Any] = {
        "study": "toy",
        "trial": "abc",
        "name": "width=4",
        "detector": "tests.toy:TOY",
        "overrides": {"detector.width": 4},
        "config": {f"detector.knob{i}": i for i in range(150)} | {"detector.long": "x" * 7000},
        "seed": 3,
        "state": "done",
        "metrics": {"mAP": 0.5, "latency_ms": 2.0},
        "curves": [
            {"epoch": 1, "step": 4, "time": 1000.0, "loss": 2.0},
            {"epoch": 2, "step": 8, "time": 1001.0, "loss": 1.0, "mAP": 0.4},
        ],
        "timings": {"started": 999.0, "finished": 1002.0},
        "artifacts": {"weights": "weights.safetensors"},
    }
    record = Record(**{**values, **changes})
    record.write(folder)
    (folder / "weights.safetensors").write_bytes(b"weights")
    return record


def client(uri: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=uri)


def runs(uri: str, study: str = "toy") -> list[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        experiment = client(uri).get_experiment_by_name(study)
        return list(client(uri).search_runs([experiment.experiment_id]))


def test_a_run_holds_what_the_record_holds(
    tmp_path: Path, uri: str, capfd: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "abc"
    run = tracking.log(make(folder), folder, uri)
    assert capfd.readouterr() == ("", "")
    (found,) = runs(uri)
    assert found.info.run_id == run
    assert found.info.status == "FINISHED"
    assert found.info.run_name == "width=4"
    assert (found.info.start_time, found.info.end_time) == (999_000, 1_002_000)
    assert found.data.params["detector.knob149"] == "149"
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


def test_a_record_is_logged_once(tmp_path: Path, uri: str) -> None:
    folder = tmp_path / "abc"
    record = make(folder)
    assert not tracking.is_logged(folder, uri)
    first = tracking.log(record, folder, uri)
    assert tracking.is_logged(folder, uri)
    assert tracking.log(record, folder, uri) == first
    (folder / tracking.LOGGED_FILE).unlink()
    assert tracking.log(record, folder, uri) == first
    assert len(runs(uri)) == 1


def test_a_failure_that_was_overcome_keeps_its_own_run(tmp_path: Path, uri: str) -> None:
    folder = tmp_path / "abc"
    failure = Failure(cause="crash", message="gone")
    tracking.log(make(folder, state="failed", failure=failure), folder, uri)
    (folder / tracking.LOGGED_FILE).unlink()
    tracking.log(make(folder, timings={"started": 2000.0, "finished": 2001.0}), folder, uri)
    assert sorted(run.info.status for run in runs(uri)) == ["FAILED", "FINISHED"]
    failed = next(run for run in runs(uri) if run.info.status == "FAILED")
    assert failed.data.tags["detbench.failure"] == "crash: gone"


def test_runs_that_a_killed_process_left_open_are_closed(tmp_path: Path, uri: str) -> None:
    assert tracking.close_stale("toy", uri) == 0
    folder = tmp_path / "abc"
    tracking.log(make(folder), folder, uri)
    api = client(uri)
    experiment = api.get_experiment_by_name("toy").experiment_id
    ours = {"detbench.trial": "x", "detbench.writer": tracking._writer()}
    api.create_run(experiment, tags=ours, run_name="stale")
    other = {**ours, "detbench.writer": f"elsewhere:{os.getpid()}"}
    fresh = {**other, "detbench.logging_since": str(2**40)}
    api.create_run(experiment, tags={**other, "detbench.logging_since": "0"}, run_name="old")
    api.create_run(experiment, tags=fresh, run_name="fresh")
    api.create_run(experiment, tags={}, run_name="foreign")
    assert tracking.close_stale("toy", uri) == 2
    status = {run.info.run_name: run.info.status for run in runs(uri)}
    assert status == {
        "width=4": "FINISHED",
        "stale": "KILLED",
        "old": "KILLED",
        "fresh": "RUNNING",
        "foreign": "RUNNING",
    }


def test_a_deleted_experiment_comes_back(tmp_path: Path, uri: str) -> None:
    folder = tmp_path / "abc"
    record = make(folder)
    tracking.log(record, folder, uri)
    client(uri).delete_experiment(client(uri).get_experiment_by_name("toy").experiment_id)
    tracking.log(make(tmp_path / "b", trial="b"), tmp_path / "b", uri)
    assert "b" in {run.data.tags["detbench.trial"] for run in runs(uri)}


def test_the_tracker_is_the_given_one_then_the_environments(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracker")
    assert tracking.uri("sqlite:///a.db") == "sqlite:///a.db"
    assert tracking.uri() == "http://tracker"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    assert tracking.uri() == "sqlite:///mlflow.db"


def test_a_damaged_marker_counts_as_not_logged(tmp_path: Path) -> None:
    (tmp_path / tracking.LOGGED_FILE).write_text("{")
    assert tracking.logged(tmp_path) == {}
    (tmp_path / tracking.LOGGED_FILE).write_text(json.dumps({"http://tracker": "1"}))
    assert tracking.is_logged(tmp_path, "http://tracker")


def test_a_long_name_fits_a_trackers_column(tmp_path: Path, uri: str) -> None:
    folder = tmp_path / "abc"
    before = make(folder)
    tracking.log(before.model_copy(update={"name": "ä" * 9000}), folder, uri)
    (found,) = runs(uri)
    assert found.info.run_name == "ä" * 250
