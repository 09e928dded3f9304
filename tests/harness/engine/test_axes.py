"""Studies over detectors, recipes and weights, from the command to records and pages."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from detectors import weights
from harness import cli
from harness.records import Record, latencies, record
from tests.harness.studies import TOGETHER, write
from tests.harness.tracking.trackers import trials as tracked
from tests.patience import HANG, wait_for
from tests.toy import TOY as CONFIG
from tests.toys import OTHER

BOTH = ["tests.toy:TOY", "tests.toys:OTHER"]
FAMILIES = {
    "detector": BOTH,
    "recipe": ["smoke", "short"],
    "detector.assigner.topk": {"values": [3], "when": {"detector": BOTH[1]}},
}
FIXED = {**TOGETHER, "recipe.epochs": 1, "recipe.last_epochs": 0, "recipe.accumulate": 1}
OF_DATA = {k: v for k, v in TOGETHER.items() if not k.startswith("recipe.")}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def run(*arguments: object) -> list[Record]:
    """Run the toy study and return its records, in the order of its trials."""
    assert cli.main(["run", "toy.yaml", "--device", "cpu", *map(str, arguments)]) == 0
    return record.read_all(Path("runs", "toy"))


def said(capfd: pytest.CaptureFixture[str], *arguments: object) -> Any:
    capfd.readouterr()
    assert cli.main([*map(str, arguments), "--json"]) == 0
    return json.loads(capfd.readouterr().out)


def test_detectors_with_a_recipe_each_are_one_study(
    tmp_path: Path, empty_tracker: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, set=FIXED, detector=None, recipe=None, sweep=FAMILIES, design="zip")
    shutil.copy(empty_tracker, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    first, second = run("--tracking-uri", uri)
    assert [first.detector, second.detector] == BOTH
    assert [first.config["detector.width"], second.config["detector.width"]] == [8, 12]
    assert second.config["detector.assigner.topk"] == 3
    assert first.config["recipe.lr"] != second.config["recipe.lr"]
    # interleaved rounds, each detector at its own size
    assert latencies.session(first) == latencies.session(second) is not None
    assert second.details["reference"] == first.trial
    assert "latency_ratio" in second.metrics
    assert [r.config["detector.input.size"] for r in (first, second)] == [[64, 64], [32, 32]]
    params = {item.data.tags["detbench.trial"]: item.data.params for item in tracked(uri)}
    assert params[second.trial]["detector"] == BOTH[1]
    assert params[second.trial]["recipe"] == "short"
    page = Path("runs", "toy", "report.html").read_text("utf-8")
    assert all(name in page for name in BOTH)
    assert "although no trial overrides" not in page
    again = said(capfd, "run", "toy.yaml", "--device", "cpu", "--no-tracking", "--no-report")
    assert again["skipped"] == 2
    (plan,) = said(capfd, "check", "toy.yaml", "--device", "cpu")
    assert plan["stand_already"] == 2
    state = said(capfd, "status", "toy.yaml")
    assert state["counts"]["done"] == 2


def test_weights_without_a_recipe_make_a_table_of_what_there_is(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path, set=FIXED, detector=None, recipe=None, sweep=FAMILIES, design="zip")
    models = run("--no-tracking", "--no-report")
    folders = [f"runs/toy/{item.trial}" for item in models]
    zoo = {"detector": BOTH, "weights": folders}
    write(tmp_path, name="zoo", set=OF_DATA, detector=None, recipe=None, sweep=zoo, design="zip")
    (plan,) = said(capfd, "check", "toy.yaml", "--device", "cpu")
    assert [row["fate"] for row in plan["trials"]] == ["evaluated"] * 2
    assert plan["trainings"] == 0
    assert [row["weights"] for row in plan["trials"]] == ["taken: backbone, head"] * 2
    shelf = {item.name for item in Path("runs", ".trainings").iterdir()}
    assert cli.main(["run", "toy.yaml", "--device", "cpu", "--no-tracking"]) == 0
    assert {item.name for item in Path("runs", ".trainings").iterdir()} == shelf
    found = record.read_all(Path("runs", "zoo"))
    for item, model, folder in zip(found, models, folders, strict=True):
        assert item.state == "done", item.failure
        assert item.metrics["mAP"] == pytest.approx(model.metrics["mAP"])
        assert "train" not in item.timings
        assert item.details["start"]["evaluated"] is True
        assert item.config["weights.from"] == folder
        assert {"latency_ms", "nms_ms", "params"} <= item.metrics.keys()
        held = weights.load(Path("runs", "zoo", item.trial), trusted=BOTH)
        assert held.config.num_classes == 6
    assert latencies.session(found[0]) == latencies.session(found[1]) is not None
    again = said(capfd, "run", "toy.yaml", "--device", "cpu", "--no-tracking", "--no-report")
    assert again["skipped"] == 2


def test_weights_that_know_some_classes_are_evaluated_over_those(tmp_path: Path) -> None:
    names = ("cat", "square", "disc", "triangle", "ring", "cross")
    weights.save(CONFIG.build(), tmp_path / "w", BOTH[0], names)
    given = {"from": "w", "classes": "by_name"}
    one = {"latency.batch_size": [1]}
    write(tmp_path, set=OF_DATA, recipe=None, sweep=one, weights=given, measure=["accuracy"])
    (found,) = run("--no-tracking", "--no-report")
    assert found.state == "done", found.failure
    classes = found.protocol["classes"]
    assert 1 < len(classes) < 6
    assert set(found.details["accuracy"]["per_class"]) == set(classes)
    assert found.caveats["mAP"].startswith(f"over {len(classes)} of the data set's 6 classes")


def test_a_study_starts_from_weights_by_an_option(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    weights.save(OTHER.build(), tmp_path / "w", BOTH[1], None)
    fixed = {**FIXED, "detector.width": 12}
    one = {"recipe.lr": [0.01]}
    write(tmp_path, set=fixed, sweep=one, measure=["accuracy"])
    (fresh,) = run("--no-tracking", "--no-report")
    records = run("--no-tracking", "--no-report", "--weights", "w")
    (started,) = [item for item in records if item.trial != fresh.trial]
    (planned,) = said(capfd, "check", "toy.yaml", "--weights", "w", "--no-probe")
    assert [row["trial"] for row in planned["trials"]] == [started.trial]
    assert said(capfd, "status", "toy.yaml", "--weights", "w")["counts"]["done"] == 1
    assert started.details["start"]["labels"] == "fresh"
    assert started.config["weights.from"] == "w"
    assert started.details["training"]["training"] != fresh.details["training"]["training"]


def test_optuna_searches_detectors_beside_a_learning_rate(tmp_path: Path) -> None:
    search = {
        "space": {
            "detector": BOTH,
            "detector.assigner.topk": {"choices": [2, 3], "when": {"detector": BOTH[1]}},
            "recipe.lr": {"low": 1e-3, "high": 1e-1, "log": True},
        },
        "objectives": {"mAP": "maximize", "macs": "minimize"},
        "sampler": {"type": "tpe", "n_startup_trials": 2},
        "trials": 5,
    }
    measure = ["complexity", "accuracy"]
    write(tmp_path, set=FIXED, detector=None, sweep=None, search=search, measure=measure)
    found = run("--no-tracking")
    assert len({item.trial for item in found}) == 5
    assert {item.detector for item in found} == set(BOTH)
    for item in found:
        assert item.state == "done", item.failure
        assert item.overrides["detector"] == item.detector
        assert ("detector.assigner.topk" in item.overrides) == (item.detector == BOTH[1])
    assert len(run("--no-tracking", "--no-report")) == 5


def test_optuna_searches_what_to_start_from(tmp_path: Path) -> None:
    weights.save(OTHER.build(), tmp_path / "w", BOTH[1], None)
    space = {
        "weights": [None, "w", {"from": "w", "parts": ["backbone"]}],
        "recipe.lr": {"low": 1e-3, "high": 1e-1, "log": True},
    }
    sampler = {"type": "random"}
    search = {"space": space, "objectives": {"mAP": "maximize"}, "sampler": sampler, "trials": 6}
    fixed = {**FIXED, "detector.width": 12}
    write(tmp_path, set=fixed, sweep=None, search=search, measure=["accuracy"])
    found = run("--no-tracking")
    assert len({item.trial for item in found}) == 6
    kinds = {json.dumps(item.overrides["weights"]) for item in found}
    assert len(kinds) > 1
    for item in found:
        assert item.state == "done", item.failure
        if item.overrides["weights"] is None:
            assert "start" not in item.details
        else:
            assert item.details["start"]["taken"].startswith("taken: backbone")


THREE = {
    "detector": ["rtmdet_tiny", "rtmdet_s", "rtdetr_r18"],
    "recipe": ["rtmdet_tiny", "rtmdet_s", "rtdetr"],
    "detector.head.num_queries": {"values": [20], "when": {"detector": "rtdetr_r18"}},
    "detector.backbone.width_mult": {
        "values": [0.125],
        "when": {"detector": ["rtmdet_tiny", "rtmdet_s"]},
    },
    "detector.neck.out_channels": {
        "values": [32],
        "when": {"detector": ["rtmdet_tiny", "rtmdet_s"]},
    },
}


@pytest.mark.slow
def test_three_detectors_of_two_families_go_on_after_a_kill(tmp_path: Path) -> None:
    fixed = {**FIXED, "detector.input.size": [64, 64]}
    write(tmp_path, set=fixed, detector=None, recipe=None, sweep=THREE, design="zip")
    command = [sys.executable, "-m", "harness.cli", "run", "toy.yaml", "--device", "cpu"]
    command += ["--no-tracking", "--json"]
    study = tmp_path / "runs" / "toy"
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL) as process:
        try:
            wait_for(lambda: next(study.glob("*/record.json"), None), "the first trial")
        finally:
            os.killpg(process.pid, signal.SIGKILL)
    done = {file.parent.name for file in study.glob("*/record.json")}
    assert 1 <= len(done) < 3
    ran = subprocess.run(command, capture_output=True, text=True, check=True, timeout=HANG)
    found = json.loads(ran.stdout)
    assert found["skipped"] == len(done)
    records = record.read_all(study)
    assert [item["detector"] for item in found["trials"]] == THREE["detector"]
    assert all(item.state == "done" for item in records), [item.failure for item in records]
    assert len({latencies.session(item) for item in records}) == 1
    first, *others = found["trials"]
    assert all(item["metrics"]["latency_ratio"] > 0 for item in others)
    assert "latency_ratio" not in first["metrics"]
    page = (study / "report.html").read_text("utf-8")
    assert all(name in page for name in THREE["detector"])
