"""Files of results on the command line: scored, recorded, compared, without model or pictures."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import data
from harness.cli import main
from harness.config.data import DataConfig
from harness.measure.accuracy.detections import write
from harness.measure.accuracy.evaluate import score
from harness.records import record
from tests.harness.cli.refusals import refusal
from tests.harness.detecting import CONFIG, SCENES, detect, run, scenes

SEED = 3  # of how boxes are moved


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Write annotations alone, what was found, and the same a little moved; go there."""
    split = scenes(np.random.default_rng(0), 12)
    found = detect(np.random.default_rng(1), split)
    draw = np.random.default_rng(SEED)
    moved = [
        {**row, "bbox": [*(draw.normal(0, 0.1, 2) * row["bbox"][2:] + row["bbox"][:2]),
                         *row["bbox"][2:]]}
        for row in found
    ]  # fmt: skip
    contents = {"truth": split.ground_truth(), "found": found, "moved": moved}
    for name, content in contents.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content), "utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    assert main([*arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_a_file_is_scored_against_annotations_alone(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = printed(capsys, "evaluate", "--detections", "found.json", "--data", "truth.json")
    rows, truth = (json.loads((place / f"{name}.json").read_text()) for name in ("found", "truth"))
    assert told["metrics"] == score(truth, rows).metrics
    assert told["data"]["val"]["images"] == 12
    assert told["protocol"]["max_detections"] == [1, 10, 100]
    assert main(["evaluate", "--detections", "found.json", "--data", "truth.json"]) == 0
    assert "12 images" in capsys.readouterr().out


def test_files_are_compared_and_shown_in_a_report(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = printed(capsys, "compare", "found.json", "moved.json", "--data", "truth.json")
    assert found["verdict"] == "worse"
    assert found["words"].startswith("B's detections are worse than A's: ")
    assert found["accuracy"]["told_apart"]
    assert found["accuracy"]["high"] < 0
    itself = printed(capsys, "compare", "found.json", "found.json", "--data", "truth.json")
    assert itself["verdict"] == "no significant difference"
    assert itself["accuracy"]["difference"] == 0
    for name in ("found", "moved"):
        command = ["evaluate", "--detections", f"{name}.json", "--data", "truth.json"]
        assert main([*command, "--out", "runs/theirs"]) == 0
    first, second = record.read_all(place / "runs/theirs")
    assert (first.name, second.name, first.study) == ("found", "moved", "theirs")
    assert first.protocol_hash == second.protocol_hash
    assert first.code
    assert main(["report", "runs/theirs", "--out", "pages"]) == 0
    page = (place / "pages/theirs.html").read_text("utf-8")
    assert "moved" in page
    assert f"{100 * second.metrics['mAP']:.1f}" in page


def test_a_trial_is_compared_with_a_file(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = data.load(DataConfig(shapes=SCENES))
    draw, folder = np.random.default_rng(0), place / "trial"
    rows = detect(draw, dataset.val, 0.9)
    folder.mkdir()
    run(rows, config=CONFIG, data={"fingerprint": dataset.fingerprint}).record.write(folder)
    write(rows, folder)
    (place / "shapes.json").write_text(json.dumps(dataset.val.ground_truth()), "utf-8")
    theirs = detect(draw, dataset.val, 0.2)
    (place / "theirs.json").write_text(json.dumps(theirs), "utf-8")
    sides = ("compare", "trial", "theirs.json", "--mixed", "--data")
    found = printed(capsys, *sides, "shapes.json")
    assert found["verdict"] == "worse"
    assert found["accuracy"]["told_apart"]
    assert found["accuracy"]["difference"] < 0
    assert found["latency"]["verdict"] is None
    assert main([*sides, "truth.json"]) == 2
    assert "trial was evaluated on other images" in capsys.readouterr().err


def test_what_is_missing_or_does_not_go_together_is_refused(
    place: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    scored = ["evaluate", "--detections", "found.json"]
    for command, words in {
        (*scored, "--data", "no.json"): "no.json: no such file",
        (*scored, "--data", "nowhere"): "nowhere: no such folder",
        (*scored,): "missing --data",
        ("evaluate", "--data", "truth.json"): "missing MODEL, or --detections",
        ("evaluate", "--detections", "no.json", "--data", "truth.json"): "no.json: no such file",
        (*scored, "--data", "found.json"): "found.json: no list 'images'",
        ("evaluate", "--detections", "truth.json", "--data", "truth.json"): "an annotation file",
        (*scored, "--data", "truth.json", "--weights", "coco"): "--detections does not go with",
        (*scored, "--data", "truth.json", "--out", "found.json"): "is no folder",
        ("evaluate", "rtmdet_s", "--data", "shapes", "--out", "x"): "--out goes with --detections",
        ("compare", "found.json", "moved.json"): "name what it was found in with --data",
        ("compare", "found.json", "no.json", "--data", "truth.json"): "no.json: no such file",
    }.items():
        assert words in refusal(capfd, main([*command])), command


CASES = {
    "cocoapi_val2014_100": ("detections.json", "gt.json", 0.504581),
    "voc100_real_detector": ("detections.json", "gt.json", 0.346958),
    "coco549_real_gt_synthetic_dets": ("detections.json.gz", "gt.json.gz", 0.315119),
}


@pytest.mark.parametrize("case", CASES)
def test_known_files_have_their_known_score(
    shared: Path, case: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, (found, truth, expected) = shared / "evaluator" / case, CASES[case]
    files = (str(folder / found), "--data", str(folder / truth))
    told = printed(capsys, "evaluate", "--detections", *files)
    assert told["metrics"]["mAP"] == pytest.approx(expected, abs=5e-7)
