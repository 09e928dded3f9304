"""How a difference varies over images is what `compare` finds."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import data
from harness.analysis.compare import compare
from harness.analysis.compare.runs import Run
from harness.analysis.reproduce.images import DRAWS, OverImages
from harness.analysis.reproduce.verdicts import differ
from harness.config.data import DataConfig
from harness.data import DataSet
from harness.measure.accuracy.detections import write
from tests.harness.detecting import CONFIG, SCENES, detect, run


@pytest.fixture
def dataset() -> DataSet:
    return data.load(DataConfig(shapes=SCENES))


@pytest.fixture
def sides(dataset: DataSet, tmp_path: Path) -> list[list[Run]]:
    """Leave two variants with three seeds each in a folder of runs."""
    rng = np.random.default_rng(0)
    return [
        [left(tmp_path, dataset, f"{name}{seed}", rng, recall, seed=seed) for seed in range(3)]
        for name, recall in (("wide", 0.9), ("thin", 0.5))
    ]


def left(
    runs: Path, dataset: DataSet, trial: str, rng: np.random.Generator, recall: float, **more: Any
) -> Run:
    folder = runs / "drawn" / trial
    folder.mkdir(parents=True)
    found = detect(rng, dataset.val, recall)
    known = {"trial": trial, "config": CONFIG, "data": {"fingerprint": dataset.fingerprint}}
    made = run(found, **{**known, **more})
    made.record.write(folder)
    write(found, folder)
    return made


def test_the_interval_is_that_of_compare(
    tmp_path: Path, dataset: DataSet, sides: list[list[Run]]
) -> None:
    theirs = compare(*sides, dataset.val, draws=DRAWS)
    records = [[item.record for item in side] for side in sides]
    known = OverImages(tmp_path)(*records, "mAP")
    assert known is not None
    assert known[1] == theirs.accuracy.images == 12
    seen = [[float(value) for value in ours(side, dataset)] for side in sides]
    found = differ(*seen, *known)
    assert found.difference == pytest.approx(theirs.accuracy.difference)
    assert (found.low, found.high) == pytest.approx((theirs.accuracy.low, theirs.accuracy.high))


def ours(side: list[Run], dataset: DataSet) -> list[float]:
    """Return the mAP of each seed: a comparison with itself tells it."""
    return [compare([item], [item], dataset.val, draws=2).accuracy.a for item in side]


@pytest.mark.parametrize("lost", ["detections", "data", "metric", "classes", "other data"])
def test_nothing_is_known_without_detections_or_data(
    tmp_path: Path, sides: list[list[Run]], lost: str
) -> None:
    first, second = ([item.record for item in side] for side in sides)
    if lost == "detections":
        (tmp_path / "drawn" / "thin1" / "detections.npz").unlink()
    elif lost == "data":
        gone = {"config": {**CONFIG, "data.source": str(tmp_path / "gone")}}
        first, second = ([r.model_copy(update=gone) for r in side] for side in (first, second))
    elif lost == "classes":
        first = [item.model_copy(update={"protocol": {"classes": ["a"]}}) for item in first]
    elif lost == "other data":
        first = [item.model_copy(update={"data": {"fingerprint": "x"}}) for item in first]
    metric = "prop_cls" if lost == "metric" else "mAP"
    assert OverImages(tmp_path)(first, second, metric) is None
