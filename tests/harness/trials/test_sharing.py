"""RT-DETR's decoder study: one training, and a measurement for each layer that may be the last."""

import json
from pathlib import Path
from typing import Any

import pytest

from detectors import weights
from harness.machine import locks
from harness.records import Record
from harness.study import expand, load
from harness.study.specification import TrialSpec
from harness.trials import learn, trainings, trial

STUDY = "rtdetr/decoder_layers_quickstart"
SMALL = {
    "detector.input.size": [64, 64],
    "detector.head.num_queries": 8,
    "detector.head.denoising.num_queries": 4,
    "data.shapes.train_images": 4,
    "data.shapes.val_images": 4,
    "data.shapes.size": 64,
    "recipe.epochs": 1,
    "recipe.batch_size": 4,
    "latency.seconds": 0.2,
    "latency.warmup_seconds": 0.1,
    "latency.images": 2,
    "latency.reference": False,
}


def specs_of(*sets: str) -> list[TrialSpec]:
    return expand(
        load(STUDY, sets=[f"{path}={json.dumps(value)}" for path, value in SMALL.items()] + [*sets])
    )


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collect the detectors that are really trained."""
    monkeypatch.setattr(locks, "_folder", lambda: tmp_path)
    detectors: list[Any] = []
    original = learn.train

    def watched(detector: Any, *arguments: Any, **keywords: Any) -> Any:
        detectors.append(detector)
        return original(detector, *arguments, **keywords)

    monkeypatch.setattr(learn, "train", watched)
    return detectors


def run(specs: list[TrialSpec], out: Path) -> list[Record]:
    """Run trials one after the other; the first is what the others are timed against."""
    folder, first = out / specs[0].study, out / specs[0].study / specs[0].trial
    shelf = out / trainings.SHELF
    return [
        trial.run(
            spec,
            folder / spec.trial,
            reference=None if spec is specs[0] else first,
            shelf=shelf,
        )
        for spec in specs
    ]


def test_one_training_serves_every_layer_that_may_be_the_last(
    tmp_path: Path, made: list[Any]
) -> None:
    specs = specs_of("measure=[accuracy]", "sweep.detector.head.layers_used=[3, 6, 1]")
    results = run(specs, tmp_path)
    assert [result.failure for result in results] == [None] * 3
    assert len(made) == 1
    assert made[0].config.head.layers_used == 0  # it is validated with all of its layers
    found = [
        weights.load(tmp_path / spec.study / spec.trial, trusted=(spec.detector,)) for spec in specs
    ]
    assert [model.head.layers_used for model in found] == [3, 6, 1]
    told = [result.details["training"]["validated_with"] for result in results]
    assert told == [{"head.layers_used": 0}] * 3


@pytest.mark.slow
def test_the_study_is_one_training_and_six_measurements(tmp_path: Path, made: list[Any]) -> None:
    specs = specs_of()
    results = run(specs, tmp_path)
    assert [result.failure for result in results] == [None] * 6
    assert len(made) == 1
    assert len(list((tmp_path / trainings.SHELF).glob("*/training.json"))) == 1
    for name in ("mAP", "macs_deployed", "latency_ms", "network_ms"):
        assert len([1 for result in results if name in result.metrics]) == 6, name
    assert [("latency_ratio" in result.metrics) for result in results] == [False] + [True] * 5
    costs = [result.metrics["macs_deployed"] for result in results]
    assert costs == sorted(costs, reverse=True)
    assert len(set(costs)) == 6
