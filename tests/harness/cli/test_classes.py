"""Commands match classes by name, say what they did, and refuse what they cannot know."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from detectors import weights
from harness import cli
from harness.cli.train import train
from harness.machine import locks
from harness.measure.accuracy import detections
from harness.records import Record, record
from harness.study import single
from tests.harness import colours
from tests.harness.cli.refusals import refusal

TURNED = {"bolt": 3, "nut": 1, "washer": 2}
ANIMALS = {"bolt": "cat", "nut": "dog", "washer": "bird"}
MAPPED = "cat=bolt,dog=nut,bird=washer"


@pytest.fixture(autouse=True)
def _own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Don't wait for whatever else is measured on this machine."""
    monkeypatch.setattr(locks, "_folder", lambda: tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return colours.save(tmp_path / "model")


def same(metrics: dict[str, float]) -> Any:
    """Return what equals these figures but for the order in which classes are added up."""
    return pytest.approx(metrics, rel=1e-12)


def detbench(*arguments: object) -> int:
    trust = ("--trust",) if arguments[0] in ("evaluate", "measure") else ()
    return cli.main([str(item) for item in (*arguments, *trust, "--device", "cpu")])


def evaluated(
    capfd: pytest.CaptureFixture[str], model: object, data: Path, *options: object
) -> dict[str, Any]:
    assert detbench("evaluate", model, "--data", data, *options, "--json") == 0
    found: dict[str, Any] = json.loads(capfd.readouterr().out)
    return found


def test_another_order_gives_the_same_figures_and_is_said(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    right = evaluated(capfd, model, colours.write(tmp_path / "right"))
    assert right["metrics"]["mAP"] > 0.1
    assert right["notes"] == []
    assert "classes" not in right["protocol"]
    turned = evaluated(capfd, model, colours.write(tmp_path / "turned", TURNED))
    assert turned["metrics"] == same(right["metrics"])
    assert turned["details"]["per_class"] == right["details"]["per_class"]
    assert len(set(right["details"]["per_class"].values())) == 3
    assert turned["notes"] == ["classes are in another order in turned: matched by name"]
    assert detbench("evaluate", model, "--data", tmp_path / "turned") == 0
    assert f"note: {turned['notes'][0]}" in capfd.readouterr().out


def test_other_names_are_refused_unless_they_are_mapped(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    right = evaluated(capfd, model, colours.write(tmp_path / "right"))
    data = colours.write(tmp_path / "animals", TURNED, ANIMALS)
    said = refusal(capfd, detbench("evaluate", model, "--data", data))
    assert "knows no class of data set animals: that has dog, bird, cat, the model has bolt" in said
    mapped = evaluated(capfd, model, data, "--classes", MAPPED)
    assert mapped["metrics"] == same(right["metrics"])
    assert mapped["notes"] == [
        "classes are matched as --classes says: cat=bolt, dog=nut, bird=washer"
    ]
    wrong = evaluated(capfd, model, data, "--classes", "cat=nut,dog=washer,bird=bolt")
    assert wrong["metrics"]["mAP"] < 0.1 * right["metrics"]["mAP"]


def test_some_shared_classes_are_refused_unless_they_are_asked_for(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    right = evaluated(capfd, model, colours.write(tmp_path / "right"))
    data = colours.write(tmp_path / "mixed", names={"nut": "dog"})
    said = refusal(capfd, detbench("evaluate", model, "--data", data))
    assert "does not know 1 of the 3 classes of data set mixed: dog; it knows bolt, nut" in said
    assert "--shared-classes" in said
    shared = evaluated(capfd, model, data, "--shared-classes")
    own = right["details"]["per_class"]
    assert shared["details"]["per_class"] == {name: own[name] for name in ("bolt", "washer")}
    assert shared["metrics"]["mAP"] == pytest.approx((own["bolt"] + own["washer"]) / 2)
    assert shared["protocol"]["classes"] == ["bolt", "washer"]
    assert shared["notes"][-1].startswith("results are over 2 of the 3 classes of mixed")
    assert detbench("evaluate", model, "--data", data, "--shared-classes") == 0
    assert "note: results are over 2 of the 3 classes of mixed" in capfd.readouterr().out


def test_a_model_may_know_more_classes_than_the_data(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    right = evaluated(capfd, model, colours.write(tmp_path / "right"))
    fewer = evaluated(capfd, model, colours.write(tmp_path / "few", {"washer": 5, "bolt": 7}))
    own = right["details"]["per_class"]
    assert fewer["details"]["per_class"] == {name: own[name] for name in ("washer", "bolt")}
    assert fewer["notes"][-1] == "few does not have, so left out: nut"
    file = tmp_path / "model" / weights.WEIGHTS_FILE
    again = evaluated(capfd, "tests.toy:TOY", tmp_path / "few", "--weights", file,
                      "--set=detector.width=4")  # fmt: skip
    assert again["metrics"] == fewer["metrics"]


def test_weights_without_names_are_refused_unless_something_tells(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data, old = colours.write(tmp_path / "right"), colours.save(tmp_path / "old", named=False)
    torch.save(colours.finder().state_dict(), tmp_path / "own.pth")
    own = ("tests.toy:TOY", data, "--weights", tmp_path / "own.pth", "--set=detector.width=4")
    said = refusal(capfd, detbench("evaluate", own[0], "--data", *own[1:]))
    assert "own.pth does not say which classes its 3 labels are." in said
    assert "--classes in-order" in refusal(capfd, detbench("evaluate", old, "--data", data))
    right = evaluated(capfd, old, data, "--classes", "in-order")["metrics"]
    assert right["mAP"] > 0.1
    assert evaluated(capfd, *own, "--classes", "in-order")["metrics"] == right
    turned = colours.write(tmp_path / "turned", TURNED)
    labels = ("--classes", "nut=1", "--classes", "washer=2,bolt=0")
    assert evaluated(capfd, old, turned, *labels)["metrics"] == same(right)
    Record(
        study="s", trial="t", name="n", detector="d", overrides={}, config={}, seed=0, state="done",
        data={"classes": list(colours.COLOURS)},
    ).write(old)  # fmt: skip
    assert evaluated(capfd, old, turned)["metrics"] == same(right)


def test_settings_of_nms_are_tried_on_the_classes_of_the_same_names(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = colours.write(tmp_path / "turned", TURNED)
    expected = evaluated(capfd, model, data)["metrics"]["mAP"]
    knobs = ("score_threshold=[0.05]", "iou_threshold=[0.6]", "seconds=0.1", "rounds=6")
    grid = [f"--set=frontier.{knob}" for knob in knobs]
    options = ("--nms-frontier", "--out", tmp_path / "page.html", "--data")
    assert detbench("measure", model, *options, data, *grid, "--json") == 0
    found = json.loads(capfd.readouterr().out)
    assert found["rows"][0]["metrics"]["mAP"] == pytest.approx(expected)
    said = "classes are in another order in turned: matched by name"
    assert found["caveats"]["classes"] == said
    assert said in (tmp_path / "page.html").read_text("utf-8")
    other = colours.write(tmp_path / "animals", names=ANIMALS)
    assert "knows no class" in refusal(capfd, detbench("measure", model, *options, other, *grid))
    assert "go with --nms-frontier" in refusal(
        capfd, detbench("measure", model, "--shared-classes")
    )


def trained(folder: Path, data: Path, start: Path, *classes: str, **knobs: Any) -> Record:
    """Train for one step that changes nothing, from weights."""
    sets = {"recipe.epochs": 1, "recipe.batch_size": 4, "recipe.workers": 0, "recipe.lr": 1e-12,
            "detector.width": 4, **knobs}  # fmt: skip
    turned = [f"{key}={value}" for key, value in sets.items()]
    plan = single("tests.toy:TOY", "smoke", str(data), turned, weights=str(start))
    assert train(plan, folder, "cpu", classes=classes, as_json=True) == 0
    return record.read(folder)


def test_training_goes_on_from_the_class_of_the_same_name(
    model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data = colours.write(tmp_path / "right")
    found = evaluated(capfd, model, data)
    right, washer = found["metrics"]["mAP"], found["details"]["per_class"]["washer"]
    first = trained(tmp_path / "a", data, model)
    assert first.metrics["mAP"] == pytest.approx(right, rel=0.02)
    turned = trained(tmp_path / "b", colours.write(tmp_path / "turned", TURNED), model)
    assert "another order in turned: matched by name" in capfd.readouterr().err
    assert turned.metrics["mAP"] == pytest.approx(right, rel=0.02)
    config = json.loads((tmp_path / "b" / weights.CONFIG_FILE).read_text("utf-8"))
    assert config["classes"] == ["nut", "washer", "bolt"]
    assert detections.read_names(tmp_path / "b") == {1: "nut", 2: "washer", 3: "bolt"}
    animals = colours.write(tmp_path / "animals", TURNED, ANIMALS)
    mapped = trained(tmp_path / "c", animals, model, MAPPED)
    assert mapped.metrics["mAP"] == pytest.approx(right, rel=0.02)
    few = trained(tmp_path / "d", colours.write(tmp_path / "few", {"washer": 1}), model)
    assert few.details["accuracy"]["per_class"]["washer"] == pytest.approx(washer, rel=0.02)
    knobs = {"detector.num_classes": 3}  # what no class has goes behind
    more = trained(tmp_path / "more", tmp_path / "few", model, **knobs)
    assert more.details["accuracy"]["per_class"]["washer"] == pytest.approx(washer, rel=0.02)
    capfd.readouterr()
    arguments = ("tests.toy:TOY", "--data", animals, "--recipe", "smoke", "--weights", model)
    fresh = trained(tmp_path / "fresh", animals, model)
    said = " ".join(capfd.readouterr().err.split())
    assert "knows no class of data set animals" in said
    assert "what belongs to a class starts anew" in said
    assert fresh.details["start"]["labels"] == "fresh"
    assert 0 < fresh.details["start"]["fresh_parameters"] < fresh.details["start"]["parameters"]
    untrained = (*arguments[:-2], "--out", tmp_path / "e", "--classes", MAPPED)
    assert "--classes goes with --weights" in refusal(capfd, detbench("train", *untrained))
    assert not (tmp_path / "e").exists()
    said = refusal(
        capfd, detbench("evaluate", "tests.toy:TOY", "--data", animals, "--classes", MAPPED)
    )
    assert "tests.toy:TOY is untrained" in said
