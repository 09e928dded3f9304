import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.tracking import Tracker, views
from tests.harness.tracking.trackers import client, make


@pytest.fixture
def uri(tmp_path: Path, empty_tracker: Path) -> str:
    shutil.copy(empty_tracker, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def view(uri: str) -> tuple[dict[str, Any], dict[str, Any]]:
    tags = client(uri).get_experiment_by_name("toy").tags
    told = json.loads(tags[views.TAG])
    return told, json.loads(told["state"])


def test_a_view_has_the_swept_knobs_first(tmp_path: Path, uri: str) -> None:
    knobs = {"detector.width", "recipe.lr"}
    Tracker(uri).send(make(tmp_path / "abc"), tmp_path / "abc", knobs=knobs)
    told, state = view(uri)
    assert told["name"] == "Trials by knob"
    assert state["columnOrder"] == state["selectedColumns"]
    assert state["columnOrder"][:4] == [
        *("params.`lr`", "params.`width`", "params.`seed`", "metrics.`mAP`")
    ]
    assert {"attributes.`Dataset`", "attributes.`Models`"} < set(state["columnOrder"])
    assert state["searchFilter"] == "tags.`detbench.trial` != ''"


def test_a_view_follows_the_study_and_is_else_left_alone(tmp_path: Path, uri: str) -> None:
    Tracker(uri).send(make(tmp_path / "a"), tmp_path / "a", knobs={"detector.width"})
    first = view(uri)
    Tracker(uri).send(make(tmp_path / "b"), tmp_path / "b", knobs={"detector.width"})
    assert view(uri) == first
    Tracker(uri).send(make(tmp_path / "c"), tmp_path / "c", knobs={"recipe.lr"})
    assert view(uri)[1]["columnOrder"][0] == "params.`lr`"


def test_an_experiment_tells_question_and_answer(tmp_path: Path, uri: str) -> None:
    record = make(tmp_path / "abc")
    tracker = Tracker(uri)
    tracker.send(record, tmp_path / "abc", note="Does it?")
    tracker.tell(record, tmp_path, "It does.")
    tags = client(uri).get_experiment_by_name("toy").tags
    assert tags["mlflow.note.content"] == "It does."  # no snapshot lies there with the question
    assert tags["mlflow.experimentKind"] == "custom_model_development"
