"""How precise a finished trial was, from the file beside its record or from its detections."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from harness import data
from harness.analysis import seen
from harness.analysis.seen import Seen
from harness.config.data import DataConfig
from harness.data import DataSet
from harness.measure.accuracy.precision import measure
from harness.records import RecordError
from harness.records.precision import ARTIFACT, FILE
from tests.harness.analysis.reproduce.test_images import left
from tests.harness.detecting import SCENES


@pytest.fixture(scope="module")
def dataset() -> DataSet:
    return data.load(DataConfig(shapes=SCENES))


def test_a_record_from_before_has_its_precision_from_its_detections(
    tmp_path: Path, dataset: DataSet
) -> None:
    run = left(tmp_path, dataset, "old", np.random.default_rng(0), 0.8)
    found = Seen().precision(tmp_path / "drawn" / "old", run.record)
    assert found is not None
    assert found.objects == len(dataset.val.ground_truth()["annotations"])
    assert found == measure(dataset.val.ground_truth(), run.detections)


def test_what_lies_beside_the_record_needs_no_data(
    tmp_path: Path, dataset: DataSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = left(tmp_path, dataset, "new", np.random.default_rng(0), 0.8)
    folder, record = tmp_path / "drawn" / "new", run.record
    wanted = measure(dataset.val.ground_truth(), run.detections)
    assert wanted is not None
    record.artifacts[ARTIFACT] = wanted.write(folder).name
    monkeypatch.setattr(seen.data, "load", lambda *_: pytest.fail("data was opened"))
    assert Seen().precision(folder, record) == wanted
    (folder / FILE).write_text("{}", "utf-8")
    with pytest.raises(RecordError, match="damaged"):
        Seen().precision(folder, record)


@pytest.mark.parametrize("lost", ["detections", "data", "classes", "state"])
def test_nothing_is_told_without_what_it_is_made_from(
    tmp_path: Path, dataset: DataSet, lost: str
) -> None:
    run = left(tmp_path, dataset, "old", np.random.default_rng(0), 0.8)
    folder, record = tmp_path / "drawn" / "old", run.record
    if lost == "detections":
        (folder / "detections.npz").unlink()
    changes = {
        "data": {"data": {"fingerprint": "another"}},
        "classes": {"protocol": {"classes": ["a"]}},
        "state": {"state": "pruned"},
    }
    assert Seen().precision(folder, record.model_copy(update=changes.get(lost, {}))) is None
