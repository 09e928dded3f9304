"""`detbench compare` reads trials, brings their other seeds, and says what came out."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness import data
from harness.analysis.compare import runs
from harness.analysis.compare.differences import Difference
from harness.analysis.compare.runs import CompareError
from harness.cli.compare import _row, compare
from harness.config.data import DataConfig
from harness.data import DataSet
from harness.measure.accuracy.detections import write
from harness.records import RecordError, snapshot
from tests.harness import colours
from tests.harness.detecting import CONFIG, SCENES, detect, run


@pytest.fixture
def dataset() -> DataSet:
    return data.load(DataConfig(shapes=SCENES))


@pytest.fixture
def study(dataset: DataSet, tmp_path: Path) -> Path:
    """Leave two variants with three seeds each, and one trial that failed."""
    draw = np.random.default_rng(0)
    for variant, recall in (("wide", 0.95), ("thin", 0.3)):
        for seed in range(3):
            folder = tmp_path / f"{variant}{seed}"
            folder.mkdir()
            found = detect(draw, dataset.val, recall)
            fields = {
                "name": variant,
                "trial": folder.name,
                "config": {**CONFIG, "detector.width": len(variant) * (1 + (variant == "wide"))},
                "data": {"fingerprint": dataset.fingerprint},
            }
            run(found, seed, **fields).record.write(folder)
            write(found, folder)
    failed = {**fields, "state": "failed", "seed": 9}
    (tmp_path / "failed").mkdir()
    run([], **failed).record.write(tmp_path / "failed")
    return tmp_path


def edit(folder: Path, **fields: Any) -> None:
    runs.read(folder).record.model_copy(update=fields).write(folder)


def test_seeds_come_along_and_the_verdict_comes_first(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(str(study / "wide1"), str(study / "thin0")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "A: wide (seed 1, 0, 2)"
    assert lines[1] == "B: thin (seed 0, 1, 2)"
    assert lines[2].startswith("B is worse than A: -")
    assert lines[3].startswith("latency is not compared: A has none")
    text = "\n".join(lines)
    for word in ("mAP_75", "triangle", "Miss", "cost to A", "images that moved most", "too few"):
        assert word in text


def test_machines_read_everything(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(str(study / "wide0"), str(study / "thin0"), as_json=True) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "worse"
    assert found["accuracy"]["name"] == "mAP"
    assert found["accuracy"]["low"] < found["accuracy"]["difference"] < found["accuracy"]["high"]
    assert [item["seed"] for item in found["sides"]["B"]] == [0, 1, 2]
    assert set(found["images"][0]) == {"file_name", "image_id", "a", "b", "difference"}
    assert found["latency"]["verdict"] is None
    assert found["answer"] is None  # nothing says that the folder is a study's


def test_runs_of_one_study_come_with_its_answer(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = [f"{variant}{seed}" for variant in ("wide", "thin") for seed in range(3)]
    for trial in trials:
        seed = int(trial[-1])
        score = 0.5 + 0.01 * seed - (0.3 + 0.001 * (seed - 1)) * trial.startswith("thin")
        edit(study / trial, overrides={"detector.width": trial[:4]}, metrics={"mAP": score})
    asked = snapshot.Snapshot(version="v", trials=trials, study="study", total=6)
    snapshot.update(study, asked)
    assert compare(str(study / "wide0"), str(study / "thin0"), as_json=True) == 0
    answer = json.loads(capsys.readouterr().out)["answer"]
    assert "width wide is better than width thin by 30.00 points" in answer
    assert compare(str(study / "wide0"), str(study / "thin0")) == 0
    told = capsys.readouterr().out.rpartition("the whole study ")[2]
    assert " ".join(told.split()).endswith(f": {answer}")


@pytest.mark.parametrize(
    ("a", "b", "alone", "seeds"),
    [
        ("wide0", "thin0", True, ([0], [0])),
        ("wide2,wide0", "thin1", False, ([2, 0], [1, 0, 2])),
        ("wide0", "wide1", False, ([0], [1])),
        ("wide0", "wide0", False, ([0], [0])),
    ],
)
def test_who_is_compared(
    study: Path, capsys: pytest.CaptureFixture[str], a: str, b: str, alone: bool, seeds: Any
) -> None:
    named = (",".join(str(study / name) for name in side.split(",")) for side in (a, b))
    compare(*named, alone=alone, as_json=True)
    found = json.loads(capsys.readouterr().out)["sides"]
    assert tuple([item["seed"] for item in found[side]] for side in "AB") == seeds


def test_other_protocols_are_refused_or_said(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    a, b = str(study / "wide0"), str(study / "thin0")
    edit(study / "thin0", protocol={"max_detections": [1, 10, 50]}, protocol_hash="q")
    with pytest.raises(CompareError, match=r"different protocols \(max_detections\); --mixed"):
        compare(a, b)
    compare(a, b, mixed=True)
    assert "note: A and B were measured by different protocols" in capsys.readouterr().out


def test_data_of_which_only_the_training_part_differs_may_be_mixed(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = data.load(DataConfig(shapes=SCENES.model_copy(update={"train_images": 3})))
    config = {**CONFIG, "data.shapes.train_images": 3}
    edit(study / "thin0", data={"fingerprint": other.fingerprint}, config=config)
    a, b = str(study / "wide0"), str(study / "thin0")
    with pytest.raises(CompareError, match="different data"):
        compare(a, b)
    assert compare(a, b, mixed=True) == 0
    assert "note: A and B are of different data" in capsys.readouterr().out


def test_other_images_are_never_compared(study: Path) -> None:
    other = data.load(DataConfig(shapes=SCENES.model_copy(update={"val_images": 13})))
    config = {**CONFIG, "data.shapes.val_images": 13}
    edit(study / "thin0", data={"fingerprint": other.fingerprint}, config=config)
    with pytest.raises(CompareError, match="no image can be compared with itself"):
        compare(str(study / "wide0"), str(study / "thin0"), mixed=True)


def test_data_that_changed_are_refused(study: Path) -> None:
    for name in ("wide0", "thin0"):
        edit(study / name, data={"fingerprint": "old"})
    with pytest.raises(CompareError, match=r"A was evaluated on old; name its data set with"):
        compare(str(study / "wide0"), str(study / "thin0"))


def test_folders_without_a_finished_trial_are_named(study: Path) -> None:
    with pytest.raises(CompareError, match=r"nowhere: no record.json there; name the folder of a"):
        compare(str(study / "nowhere"), str(study / "thin0"))
    with pytest.raises(CompareError, match=r"failed: the trial is failed, so it has no"):
        compare(str(study / "wide0"), str(study / "failed"))
    (study / "thin0" / "detections.npz").write_bytes(b"PK")
    with pytest.raises(RecordError, match="damaged"):
        compare(str(study / "wide0"), str(study / "thin0"))


def test_seeds_of_other_code_or_weights_do_not_come_along(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nor those that are out of date, or of a study whose file has changed since."""

    def seeds() -> list[int]:
        compare(str(study / "wide0"), str(study / "thin0"), as_json=True)
        return [item["seed"] for item in json.loads(capsys.readouterr().out)["sides"]["B"]]

    code = {"detector": {"toy.py": "1"}}
    for seed in range(3):
        edit(study / f"thin{seed}", code=code)
    assert seeds() == [0, 1, 2]
    edit(study / "thin1", code={"detector": {"toy.py": "2"}})
    assert seeds() == [0, 2]
    edit(study / "thin1", code=code, caveats={"code": "of other code: toy.py"})
    assert seeds() == [0, 2]
    edit(study / "thin1", caveats={}, overrides={"weights": "coco"})
    assert seeds() == [0, 2]
    config = runs.read(study / "thin2").record.config
    edit(study / "thin2", config=config | {"recipe.epochs": 12})
    assert seeds() == [0]


def test_notes_say_where_results_come_from(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = str(study / "wide0"), str(study / "thin0")
    compare(a, b, alone=True)
    text = capsys.readouterr().out
    assert text.count("code unknown: all runs were recorded before the source was kept") == 1
    assert text.count("with one seed the scatter is unknown") == 1
    edit(study / "wide0", code={"detector": {"toy.py": "1"}}, environment={"packages": {"a": "1"}})
    edit(study / "thin0", code={"detector": {"toy.py": "2"}}, environment={"packages": {"a": "2"}})
    compare(a, b, alone=True)
    text = capsys.readouterr().out
    assert "note: the code changed between them: toy.py" in text
    assert "note: a differs: 1, 2" in text
    assert "code unknown" not in text


def test_what_a_study_sweeps_of_its_protocol_is_compared(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    swept = {"overrides": {"detector.input.size": [96, 96]}, "protocol_hash": "q"}
    edit(study / "thin0", protocol={"input.size": [96, 96]}, **swept)
    assert compare(str(study / "wide0"), str(study / "thin0"), alone=True) == 0
    text = capsys.readouterr().out
    assert "points of mAP (95 % interval" in text
    assert "protocol" not in text  # it is the question, and the names of the sides tell it
    other = {"input.size": [96, 96], "input.resize": "stretch"}
    edit(study / "thin0", protocol=other, **swept)
    with pytest.raises(CompareError, match=r"by different protocols \(input.resize\)"):
        compare(str(study / "wide0"), str(study / "thin0"), alone=True)


def test_an_interval_that_leaves_out_nothing_says_why_it_is_not_told_apart() -> None:
    """Of many differences, one that leaves out 0 by itself may be chance."""
    item = Difference("mAP_s", 0.1, 0.27, 0.17, 0.0448, 0.2985, 0.02, 20, False, family=6)
    assert _row(item, 100, ".2f")["told"] == "no: after correction for 6 differences"
    assert _row(item._replace(low=-0.01), 100, ".2f")["told"] == "no"
    assert _row(item._replace(told_apart=True), 100, ".2f")["told"] == "yes"


def turned_data(folder: Path) -> tuple[DataSet, DataSet]:
    """Write a data set twice, the second time with the ids of its classes moved on by one."""
    new = {"bolt": 2, "nut": 3, "washer": 1}
    folders = [colours.write(folder / "a"), colours.write(folder / "b", new)]
    first, second = (data.load(DataConfig(source=str(path))) for path in folders)
    return first, second


def trial(folder: Path, dataset: DataSet, found: list[dict[str, Any]], **fields: Any) -> Path:
    folder.mkdir()
    names = {category.id: category.name for category in dataset.val.categories}
    config = {"data.source": str(dataset.val.image_folder.parent)}
    known = {"trial": folder.name, "config": config, "data": {"fingerprint": dataset.fingerprint}}
    run(found, **known | fields).record.write(folder)
    write(found, folder, names if folder.name != "unnamed" else None)
    return folder


@pytest.mark.parametrize("name", ["named", "unnamed"])
def test_classes_of_other_ids_are_matched_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    first, second = turned_data(tmp_path)
    found = detect(np.random.default_rng(0), first.val, 0.9)
    moved = [{**row, "category_id": row["category_id"] % 3 + 1} for row in found]
    a, b = trial(tmp_path / "right", first, found), trial(tmp_path / name, second, moved)
    with pytest.raises(CompareError, match="different data"):
        compare(str(a), str(b), alone=True)
    compare(str(a), str(b), alone=True, mixed=True, as_json=True)
    result = json.loads(capsys.readouterr().out)
    assert result["accuracy"]["a"] == pytest.approx(result["accuracy"]["b"], rel=1e-12)
    assert result["accuracy"]["a"] > 0.1
    assert {item["difference"] for item in result["classes"]} == {0.0}
    assert (
        "the classes of B's data have other ids than those of A's: matched by name"
        in (result["notes"])
    )


def test_figures_over_some_classes_are_compared_with_those_over_all_only_when_mixed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset, _ = turned_data(tmp_path)
    found = detect(np.random.default_rng(0), dataset.val, 0.9)
    some = {"protocol": {"classes": ["bolt", "washer"]}, "protocol_hash": "q"}
    a = trial(tmp_path / "all", dataset, found, protocol={}, protocol_hash="p")
    b = trial(tmp_path / "some", dataset, [row for row in found if row["category_id"] != 2], **some)
    with pytest.raises(CompareError, match=r"different protocols \(classes\); --mixed"):
        compare(str(a), str(b), alone=True)
    compare(str(a), str(b), alone=True, mixed=True, as_json=True)
    result = json.loads(capsys.readouterr().out)
    assert {item["name"] for item in result["classes"]} == {"bolt", "washer"}
    assert result["accuracy"]["a"] == result["accuracy"]["b"]
