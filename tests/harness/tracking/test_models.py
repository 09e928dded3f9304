"""Weights as a model of MLflow: loaded, registered and served by MLflow itself."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import detectors
from detectors import weights
from harness.records import Record
from harness.tracking import Tracker, connection, models
from harness.tracking.served import COLUMNS
from tests.harness.tracking.trackers import client, make, runs, trials
from tests.toy import TOY

TOYS = "tests.toy:TOY"
CLASSES = ["cat", "dog", "eel", "fly", "gnu", "hen"]


@pytest.fixture(scope="module")
def theirs() -> Any:
    """MLflow, with what loads models: it warns of itself as it is imported."""
    with connection.quiet():
        import mlflow.pyfunc
        import mlflow.pytorch

        return mlflow


@pytest.fixture
def uri(tmp_path: Path, empty_tracker: Path) -> str:
    shutil.copy(empty_tracker, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def trained(folder: Path, **changes: Any) -> Record:
    """Write the record of a trial with weights of a toy."""
    record = make(folder, data={"classes": CLASSES}, **changes)
    torch.manual_seed(0)
    weights.save(TOY.build(), folder, TOYS, CLASSES)
    return record


def send(uri: str, folder: Path, trusted: Any = (TOYS,), **changes: Any) -> Any:
    Tracker(uri).send(trained(folder, **changes), folder, trusted=trusted)
    (run,) = trials(uri)
    return run


def test_weights_are_loaded_registered_and_served(
    tmp_path: Path, uri: str, theirs: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = send(uri, tmp_path / "abc")
    (output,) = run.outputs.model_outputs
    model = client(uri).get_logged_model(output.model_id)
    assert model.status == "READY"
    assert (model.source_run_id, output.step) == (run.info.run_id, 8)
    assert (tmp_path / "abc" / "weights.safetensors").is_file()
    place = model.artifact_location.removeprefix("file://")
    images = np.random.default_rng(0).integers(0, 256, (2, 3, 64, 64), np.uint8)
    ours = detectors.create(TOY, weights=tmp_path / "abc").eval()
    with connection.quiet(), torch.no_grad():
        loaded = theirs.pytorch.load_model(place)
        found = loaded(torch.from_numpy(images))
        normal = torch.from_numpy(images) / 255  # the toy's mean is 0, its deviation 255
        expected = ours.detect(normal, torch.tensor([[64, 64]] * 2))
        scored = theirs.pyfunc.load_model(place).predict(images)  # what is served
        example = theirs.models.Model.load(place).load_input_example(place)
    assert isinstance(loaded.detector, type(ours))
    for one, other in zip(found, expected, strict=True):
        count = len(other.scores)
        assert count > 0
        torch.testing.assert_close(one[:count, :4], other.boxes)
        torch.testing.assert_close(one[:count, 4], other.scores)
        assert one[:count, 5].tolist() == other.labels.tolist()
        assert not one[count:].any()
    np.testing.assert_allclose(scored, found.numpy(), rtol=1e-5)
    assert example.shape == (1, 3, 64, 64)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with connection.quiet():
        version = theirs.register_model(f"models:/{output.model_id}", "toy")
        again = theirs.pytorch.load_model("models:/toy/1")
    assert version.run_id == run.info.run_id
    assert torch.equal(again(torch.from_numpy(images)), found)


def test_a_model_says_what_goes_in_and_out(tmp_path: Path, uri: str, theirs: Any) -> None:
    config = {"detector.input.size": [64, 64], "detector.input.channels": "rgb"}
    run = send(uri, tmp_path / "abc", config=config)
    place = (
        client(uri)
        .get_logged_model(run.outputs.model_outputs[0].model_id)
        .artifact_location.removeprefix("file://")
    )
    described = theirs.models.Model.load(place)
    assert described.signature.inputs.to_dict()[0]["tensor-spec"]["shape"] == (-1, 3, 64, 64)
    assert described.metadata["classes"] == CLASSES
    assert described.metadata["input"] == {"size": [64, 64], "channels": "rgb"}
    assert described.metadata["output"] == list(COLUMNS)
    assert described.run_id == run.info.run_id


def test_trials_without_trained_weights_have_no_model(tmp_path: Path) -> None:
    for folder, changes in (
        (tmp_path / "measured", {"curves": []}),
        (tmp_path / "failed", {"state": "failed"}),
        (tmp_path / "none", {"artifacts": {}}),
    ):
        with models.saved(trained(folder, **changes), folder, [TOYS]) as found:
            assert found is None, folder


def test_models_are_left_out_where_they_are_not_wanted(tmp_path: Path, uri: str) -> None:
    run = send(uri, tmp_path / "abc", trusted=None)
    assert not run.outputs.model_outputs
    assert models.LEFT_OUT not in run.data.tags


def test_code_that_nobody_named_is_not_run_for_a_model(tmp_path: Path, uri: str) -> None:
    run = send(uri, tmp_path / "abc", trusted=())
    assert not run.outputs.model_outputs
    assert "tests.toy:TOY" in run.data.tags[models.LEFT_OUT]
    assert run.info.status == "FINISHED"


def test_a_model_of_a_run_that_was_left_half_filled_goes_with_it(
    tmp_path: Path, uri: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "abc"

    class Killed(BaseException):
        pass

    def die(*args: object, **kwargs: object) -> None:
        raise Killed

    api: Any = client(uri)
    with monkeypatch.context() as patch:
        patch.setattr(type(api), "log_outputs", die)  # all of the model is there by then
        with pytest.raises(Killed):
            Tracker(uri).send(trained(folder), folder, trusted=[TOYS])
    run = send(uri, folder)
    experiment = run.info.experiment_id
    (model,) = api.search_logged_models([experiment])
    assert model.model_id == run.outputs.model_outputs[0].model_id
    assert {item.info.status for item in runs(uri)} == {"FINISHED"}
