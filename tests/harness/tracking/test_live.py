"""What a tracker shows of a trial under way, and what of it stays once there is a record."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.records import Record
from harness.tracking import Outbox, Tracker, contents, is_logged
from tests.harness.tracking.trackers import client, make, runs, trials
from tests.patience import wait_for

AWAY = "http://127.0.0.1:9"  # nobody answers there
DATA = {
    "name": "beasts",
    "fingerprint": "ab12",
    "classes": ["cat", "dog"],
    "train": {"images": 7},
    "val": {"images": 3},
}


@pytest.fixture
def uri(tmp_path: Path, empty_tracker: Path) -> str:
    shutil.copy(empty_tracker, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def unfinished(folder: Path, **changes: Any) -> Record:
    """Return the record of the trial of `make` before it has any result."""
    whole = make(folder, **changes)
    shutil.rmtree(folder)
    timings = {"started": 998.0}
    empty: dict[str, Any] = {"metrics": {}, "curves": [], "artifacts": {}, "timings": timings}
    return whole.model_copy(update={**empty, "state": "failed"})


def points(step: int, **values: float) -> list[contents.Point]:
    return contents.live({"epoch": step / 4, "step": step, "time": 990.0 + step, **values})


def history(uri: str, run: Any, key: str) -> list[tuple[int, float]]:
    found = client(uri).get_metric_history(run.info.run_id, key)
    return [(item.step, item.value) for item in found]


def begun(uri: str, folder: Path, knobs: Any = None) -> Tracker:
    tracker = Tracker(uri)
    tracker.begin(unfinished(folder, data=DATA), folder, knobs=knobs, note="Does it?")
    return tracker


def test_a_run_is_open_while_its_trial_runs(tmp_path: Path, uri: str) -> None:
    folder = tmp_path / "abc"
    tracker = begun(uri, folder)
    tracker.add("abc", points(4, mAP=0.1), tmp_path)
    (run,) = trials(uri)
    assert (run.info.status, run.data.metrics["mAP"]) == ("RUNNING", 0.1)
    assert run.data.params["width"] == "4"
    assert "detbench.state" not in run.data.tags
    sent = tracker.send(make(folder), folder)
    (run,) = trials(uri)
    assert (run.info.run_id, run.info.status) == (sent, "FINISHED")
    assert run.data.tags["detbench.state"] == "done"
    assert {item.info.status for item in runs(uri)} == {"FINISHED"}


def test_what_was_shown_is_logged_once(tmp_path: Path, uri: str) -> None:
    """Epochs that a killed process showed are told again by the one that goes on from there."""
    folder = tmp_path / "abc"
    curves = [
        {"epoch": 1, "step": 4, "time": 1000.0, "loss": 2.0, "mAP": 0.1},
        {"epoch": 2, "step": 8, "time": 1004.0, "loss": 1.0, "mAP": 0.4},
    ]
    begun(uri, folder).add("abc", points(4, mAP=0.1), tmp_path)
    (run,) = trials(uri)
    client(uri).set_terminated(run.info.run_id, "KILLED")
    again = begun(uri, folder)
    again.add("abc", points(4, mAP=0.1), tmp_path)
    again.add("abc", points(8, mAP=0.4), tmp_path)
    again.add("abc", points(8, mAP=0.4), tmp_path)
    again.send(make(folder, curves=curves, metrics={"mAP": 0.4}), folder)
    (run,) = trials(uri)
    assert history(uri, run, "mAP") == [(4, 0.1), (8, 0.4)]
    assert history(uri, run, "loss") == [(4, 2.0), (8, 1.0)]


def test_a_final_figure_that_differs_from_what_was_shown_is_the_last(
    tmp_path: Path, uri: str
) -> None:
    """As where the trial's own thresholds are not those that its training is validated with."""
    folder = tmp_path / "abc"
    tracker = begun(uri, folder)
    tracker.add("abc", points(8, mAP=0.4), tmp_path)
    tracker.send(make(folder), folder)
    (run,) = trials(uri)
    assert run.data.metrics["mAP"] == 0.5
    assert history(uri, run, "mAP") == [(8, 0.4), (8, 0.5)]


def test_a_trial_that_is_given_back_leaves_no_open_run(tmp_path: Path, uri: str) -> None:
    tracker = begun(uri, tmp_path / "abc")
    tracker.stop(tmp_path)
    (run,) = trials(uri)
    assert run.info.status == "KILLED"
    begun(uri, tmp_path / "abc")
    (again,) = trials(uri)
    assert (again.info.run_id, again.info.status) == (run.info.run_id, "RUNNING")


def test_a_run_names_its_data_and_where_it_comes_from(tmp_path: Path, uri: str) -> None:
    folder = tmp_path / "abc"
    git = {"commit": "f" * 40, "dirty": True}
    config = {"detector.width": 4, "recipe.lr": 0.1, "data.source": "/disk/beasts"}
    Tracker(uri).send(
        make(folder, data=DATA, config=config, environment={"git": git}), folder, knobs=()
    )
    for run in runs(uri):  # the study's, too, as it is the row that is seen first
        inputs = {item.dataset.name: item for item in run.inputs.dataset_inputs}
        assert set(inputs) == {"beasts/train", "beasts/val"}
        assert {item.dataset.digest for item in inputs.values()} == {"ab12"}
        (tag,) = inputs["beasts/val"].tags
        assert (tag.key, tag.value) == ("mlflow.data.context", "val")
        assert '"images": 3' in inputs["beasts/val"].dataset.profile
        assert run.data.tags["mlflow.source.name"] == "detbench run toy"
        assert run.data.tags["mlflow.source.git.commit"] == "f" * 40
        assert run.data.tags["detbench.code_changed"] == "yes"


def test_what_trains_nothing_has_read_one_split(tmp_path: Path, uri: str) -> None:
    folder = tmp_path / "abc"
    Tracker(uri).send(make(folder, data=DATA, config={"detector.width": 4}), folder)
    (run,) = trials(uri)
    assert [item.dataset.name for item in run.inputs.dataset_inputs] == ["beasts/val"]


def in_turn(box: Outbox, uri: str, *work: Callable[[], None]) -> None:
    """Do one thing after the other, each once the one before is seen in the tracker."""
    for number, each in enumerate(work, 1):
        each()
        wait_for(lambda n=number: len(seen(uri)) >= n, f"that {number} are sent")  # type: ignore[misc]


def seen(uri: str) -> list[Any]:
    found = trials(uri) if client(uri).get_experiment_by_name("toy") else []
    return [found, *(history(uri, found[0], "mAP") if found else [])] if found else []


def test_an_outbox_shows_a_trial_from_its_start(tmp_path: Path, uri: str) -> None:
    folder = tmp_path / "abc"
    with Outbox("toy", uri, warn=pytest.fail) as box:
        in_turn(
            box,
            uri,
            lambda: box.begin(unfinished(folder), folder),
            lambda: box.add("abc", {"epoch": 1, "step": 4, "time": 1000.0, "mAP": 0.1}),
        )
        make(folder)
        box.put(folder)
    (run,) = trials(uri)
    assert run.info.status == "FINISHED"
    assert history(uri, run, "mAP") == [(4, 0.1), (8, 0.4), (8, 0.5)]


def test_an_outbox_that_is_left_ends_what_it_opened(tmp_path: Path, uri: str) -> None:
    folder = tmp_path / "abc"
    with Outbox("toy", uri, warn=pytest.fail) as box:
        in_turn(box, uri, lambda: box.begin(unfinished(folder), folder))
    assert [run.info.status for run in trials(uri)] == ["KILLED"]


def test_what_a_tracker_misses_while_it_is_away_a_record_brings(tmp_path: Path) -> None:
    folder = tmp_path / "abc"
    warnings: list[str] = []
    with Outbox("toy", AWAY, warn=warnings.append) as box:
        box.begin(unfinished(folder), folder)
        box.add("abc", {"epoch": 1, "step": 4, "time": 1000.0, "mAP": 0.1})
        make(folder)
        box.put(folder)
    assert not is_logged(folder, AWAY)
    assert "is away" in warnings[0]
    assert warnings[1:] == ["1 trials are not in MLflow; `detbench sync toy` sends them"]
