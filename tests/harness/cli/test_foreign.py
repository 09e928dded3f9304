"""The commands with a model that nobody here wrote, beside the same one of ours."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from detectors import weights
from harness import adapters, cli
from harness import study as studies
from harness.machine import locks
from harness.measure.complexity.exported import count_macs
from harness.measure.runtimes import export
from harness.trials import trial
from tests.harness import colours
from tests.harness.cli.refusals import refusal

pytest.importorskip("onnx", reason="needs the extra export")
pytest.importorskip("onnxscript", reason="needs the extra export")
pytest.importorskip("onnxruntime", reason="needs the extra export")

QUICK = ["--set", "latency.seconds=0.2", "--set", "latency.warmup_seconds=0.1"]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a detector of ours, its export, and a data set that it knows."""
    folder = tmp_path_factory.mktemp("made")
    colours.write(folder / "pets", {"nut": 1, "bolt": 2, "washer": 3})
    colours.save(folder / "ours")
    names = list(colours.COLOURS)
    model = colours.finder()
    export.export(model, (64, 64), folder / "model.onnx", name="finder", classes=names)
    export.export(model, (64, 64), folder / "unnamed.onnx", name="finder", any_batch=True)
    return folder


@pytest.fixture(autouse=True)
def _own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Don't wait for whatever else is measured on this machine."""
    monkeypatch.setattr(locks, "_folder", lambda: tmp_path)


def detbench(*arguments: object) -> int:
    device = [] if arguments[0] == "export" else ["--device", "cpu"]
    return cli.main([*map(str, arguments), *device])


def told(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> Any:
    assert detbench(*arguments, "--json") == status
    return json.loads(capsys.readouterr().out)


def test_an_export_of_ours_comes_back_as_what_it_was(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--data", made / "pets")
    before = told(capsys, "evaluate", made / "ours", *given, "--trust")
    after = told(capsys, "evaluate", f"onnx:{made / 'model.onnx'}", *given)
    assert after["metrics"] == pytest.approx(before["metrics"])
    assert before["metrics"]["mAP"] > 0.1
    assert after["notes"] == before["notes"] == [
        "classes are in another order in pets: matched by name"
    ]  # fmt: skip


def test_an_export_for_any_batch_takes_several_images_at_once(made: Path) -> None:
    """And is counted as one image."""
    several = adapters.resolve(f"onnx:{made / 'unnamed.onnx'}")
    single = adapters.resolve(f"onnx:{made / 'model.onnx'}")
    assert (several.facts.images.shape, several.facts.size) == ((None, 3, 64, 64), (64, 64))
    assert single.facts.images.shape[0] == 1
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found = [config.build().deploy()(images) for config in (several, single)]
    torch.testing.assert_close(*found)
    counts = [count_macs(made / name).macs for name in ("unnamed.onnx", "model.onnx")]
    assert counts[0] == counts[1] > 0


def test_it_predicts_what_ours_does(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = made / "pets" / "val" / "0.png"
    for model, out in ((made / "ours", "a"), (f"onnx:{made / 'model.onnx'}", "b")):
        assert detbench("predict", model, image, "--out", tmp_path / out, "--trust") == 0
    assert "outputs are logits [B, N, C], boxes" in capsys.readouterr().err
    ours, theirs = (
        json.loads((tmp_path / out / "detections.json").read_text()) for out in ("a", "b")
    )
    assert len(ours) == len(theirs) > 0
    for one, other in zip(ours, theirs, strict=True):
        assert one["bbox"] == pytest.approx(other["bbox"], abs=1e-3)
        assert one["score"] == pytest.approx(other["score"], abs=1e-5)


def test_it_is_measured_beside_ours(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = (made / "ours", f"onnx:{made / 'model.onnx'}")
    found = told(capsys, "measure", *names, "--data", made / "pets", "--trust", *QUICK)
    ours, theirs = found["models"]
    assert theirs["metrics"]["macs_deployed"] == ours["metrics"]["macs_deployed"]
    assert theirs["metrics"]["params"] == ours["metrics"]["params"] - 4  # biases that are zero
    assert {"latency_ms", "network_ms", "nms_ms"} <= theirs["metrics"].keys()
    assert theirs["absent"]["backbone_ms"] == "the network is in one piece"
    runtime = theirs["details"]["latency"]["runtime"]
    assert (runtime["runtime"], ours["details"]["latency"]["runtime"]["runtime"]) == (
        "onnxruntime",
        "eager",
    )


def test_a_file_without_names_takes_as_many_classes_as_there_are_in_their_order(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    colours.write(tmp_path / "own_order")
    unnamed = f"onnx:{made / 'unnamed.onnx'}"
    found = told(capsys, "evaluate", unnamed, "--data", tmp_path / "own_order")
    assert found["metrics"]["mAP"] > 0.1
    assert found["notes"][0].endswith(
        "names no classes; its 3 are taken for those of own_order, in its order"
    )
    few = colours.write(tmp_path / "few", {"bolt": 1, "nut": 2})
    status = detbench("evaluate", unnamed, "--data", few)
    assert "such as --set detector.classes=[bolt]" in refusal(capsys, status)
    names = "--set", "detector.classes=[bolt,cat,washer]"
    status = detbench("evaluate", unnamed, "--data", made / "pets", *names)
    assert "does not know 1 of the 3 classes of data set pets: nut" in refusal(capsys, status)
    found = told(capsys, "evaluate", unnamed, "--data", made / "pets", *names, "--shared-classes")
    assert found["protocol"]["classes"] == ["bolt", "washer"]


def test_a_study_holds_two_weights_of_ours_and_a_foreign_model(made: Path, tmp_path: Path) -> None:
    """Those that are done are found again by what they are, the foreign one wherever it lies."""
    surer = colours.finder()
    with torch.no_grad():
        surer.head.predict.bias[:3] += 0.5
    weights.save(surer, tmp_path / "other", "tests.toy:TOY", list(colours.COLOURS))
    specs = studies.expand(studies.load(study(made, made / "model.onnx", tmp_path)))
    found = [trial.run(spec, tmp_path / "runs" / spec.trial) for spec in specs]
    assert [item.state for item in found] == ["done"] * 3
    assert [item.metrics["mAP"] for item in found] == pytest.approx([found[0].metrics["mAP"]] * 3)
    assert found[2].details["start"]["brought"]
    assert "backbone" not in found[2].details["complexity"]["training"]["by_stage"]
    assert specs[0].protocol["input.size"] == specs[2].protocol["input.size"]
    shutil.copy(made / "model.onnx", tmp_path / "moved.onnx")
    again = studies.expand(studies.load(study(made, tmp_path / "moved.onnx", tmp_path)))
    assert [spec.trial for spec in again] == [spec.trial for spec in specs]
    assert "adapters/onnx/detector.py" in " ".join(again[2].code["detector"])
    assert not any("adapters/onnx" in " ".join(part) for part in again[0].code.values())


def study(made: Path, file: Path, folder: Path) -> str:
    """Write a study of two weights of ours and of a file."""
    path = folder / "s.yaml"
    path.write_text(
        f"name: s\ndata: {made / 'pets'}\nmeasure: [complexity, accuracy]\n"
        "sweep:\n"
        f"  detector: ['tests.toy:TOY', 'onnx:{file}']\n"
        "  detector.width: {values: [4], when: {detector: ['tests.toy:TOY']}}\n"
        f"  weights: {{values: ['{made / 'ours'}', '{folder / 'other'}'],"
        " when: {detector: ['tests.toy:TOY']}}\n",
        encoding="utf-8",
    )
    return str(path)


def test_swapped_channels_are_found(
    made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = colours.write(tmp_path / "many")
    file = folder / "annotations" / "instances_val.json"
    document = json.loads(file.read_text())
    images, boxes = document["images"], document["annotations"]
    for k in range(1, 3):  # the same pictures again, so that they are enough
        document["images"] = document["images"] + [{**i, "id": i["id"] + 100 * k} for i in images]
        document["annotations"] = document["annotations"] + [
            {**b, "id": b["id"] + 100 * k, "image_id": b["image_id"] + 100 * k} for b in boxes
        ]
    file.write_text(json.dumps(document))
    model = f"onnx:{made / 'model.onnx'}"
    wrong = ("--set", "detector.input.channels=bgr", "--data", folder)
    found = told(capsys, "doctor", "model", model, *wrong, status=1)
    assert "channels in the other order" in found["clearly_better"]
    assert told(capsys, "doctor", "model", model, "--data", folder)["clearly_better"] == []
    notes = told(capsys, "evaluate", model, *wrong)["notes"]
    assert any("--set detector.input.channels=rgb" in text for text in notes)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "MODEL"], "export writes detectors of ours; onnx:"),
        (["evaluate", "MODEL", "--data", "DATA", "--weights", "OURS"], "brings its own; leave"),
        (["measure", "MODEL", "--data", "DATA", "--runtimes", "compile"], "run by onnxruntime"),
        (["measure", "MODEL", "--data", "DATA", "--set", "latency.precision=bf16"], "precision"),
        (["evaluate", "MODEL", "--data", "DATA", "--set", "detector.input=yolo"], "no preset"),
        (["measure", "MODEL", "--set", "detector.outputs=yolov8"], "outputs yolov8 are [B, 4 + C"),
        (["train", "MODEL", "--data", "DATA", "--recipe", "smoke", "--out", "o"], "is not trained"),
        (["doctor", "model", "MODEL"], "doctor model needs MODEL and --data D"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_line(
    arguments: list[str], message: str, made: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    places = {"MODEL": f"onnx:{made / 'model.onnx'}", "DATA": made / "pets", "OURS": made / "ours"}
    status = detbench(*(places.get(item, item) for item in arguments))
    captured = capfd.readouterr()
    assert status == 2, captured.err
    assert message in captured.err.splitlines()[-1]
