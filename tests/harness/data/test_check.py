"""`check` finds what is wrong and never raises."""

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from harness.config.data import DataConfig
from harness.data import Report, check, load
from tests.harness.data.folders import box, document, write, write_annotations


def found(report: Report) -> dict[str, Any]:
    return {finding.code: finding for finding in report.findings}


def test_a_sound_data_set_has_no_errors(tmp_path: Path) -> None:
    report = check(write(tmp_path))
    assert report.ok
    assert {finding.severity for finding in report.findings} == {"info"}
    assert Report.model_validate_json(report.model_dump_json()) == report


def test_images_absent_undecodable_of_another_size_and_in_both_splits(tmp_path: Path) -> None:
    val = document(2, first=50)
    val["images"][0]["height"] = 46
    folder = write(tmp_path, document(8), val)
    for name in ("0", "1", "2", "3"):
        (folder / "train" / f"{name}.png").unlink()
    (folder / "train" / "4.png").write_bytes(b"no image")
    (folder / "train" / "5.png").write_bytes((folder / "train" / "6.png").read_bytes()[:900])
    cv2.imwrite(str(folder / "train" / "7.png"), np.zeros((9, 8, 3), np.uint8))
    shutil.copy(folder / "train" / "6.png", folder / "val" / "50.png")
    codes = found(check(folder))
    assert codes["missing_image"].count == 4
    assert codes["missing_image"].examples == ["0.png", "1.png", "2.png"]
    assert codes["undecodable_image"].examples == ["4.png", "5.png"]
    assert codes["wrong_size"].examples == ["7.png: 8x9, not 60x47"]
    assert codes["train_image_in_val"].examples == ["6.png = 50.png"]
    assert codes["train_image_in_val"].severity == "warning"


def test_boxes_and_classes(tmp_path: Path) -> None:
    train = document(3)
    train["annotations"] = [box(1, 0, [1, 1, 5, 5]), box(2, 1, [70, 1, 5, 5])]
    val = document(2, first=50)
    val["annotations"] = [box(1, 50, [1, 1, 5, 5], category=7)]
    codes = found(check(write(tmp_path, train, val)))
    assert codes["degenerate_box"].examples == ["id 2"]
    assert codes["class_only_in_val"].examples == ["cat"]
    assert codes["class_only_in_train"].examples == ["dog"]
    idle = [item for item in check(tmp_path).findings if item.code == "nothing_to_learn"]
    assert [(item.split, item.severity, item.count) for item in idle] == [
        ("train", "info", 2),
        ("val", "info", 1),
    ]


def test_an_unmapped_category_is_an_error_and_images_are_looked_at_all_the_same(
    tmp_path: Path,
) -> None:
    folder = write(tmp_path)
    train = document()
    train["annotations"].append(box(9, 0, [1, 1, 5, 5], category=99))
    write_annotations(folder, "train", train)
    (folder / "train" / "1.png").unlink()
    codes = found(check(folder))
    assert codes["orphan_category_id"].severity == "error"
    assert codes["missing_image"].examples == ["1.png"]


BROKEN: list[dict[str, Any]] = [
    {"images": []},
    {"images": [3, {"id": "x", "file_name": 5}]},
    {"annotations": [{}]},
    {"annotations": [box(1, 0, [1, 1, 5])]},
    {"annotations": [box(1, 0, [1, 1, 5, 5]), box(1, 77, [1, 1, 5, 5], 99)]},
    {"annotations": []},
    {"annotations": [box(1, 2**70, [1, 1, 5, 5])]},
    {"categories": []},
    {"categories": [{"id": 3, "name": "dog"}]},
    {"categories": {}},
    {"images": [{"id": 0, "file_name": "\0", "height": 4, "width": 4}]},
    {"images": [{"id": 0, "file_name": "0.png", "height": 0, "width": -4}]},
]


@pytest.mark.parametrize("changes", BROKEN, ids=str)
def test_whatever_load_refuses_check_calls_an_error(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    folder = write(tmp_path)
    write_annotations(folder, "train", document() | changes)
    report = check(folder)
    assert not report.ok
    assert report.findings[0].severity == "error"
    assert report.findings[0].message
    with pytest.raises(ValueError, match="instances_"):
        load(DataConfig(source=str(folder)))


def test_folders_and_files_that_are_not_there_or_not_json(tmp_path: Path) -> None:
    nowhere = check(tmp_path / "nowhere")
    assert len(nowhere.findings) == 1
    assert "no such folder" in nowhere.findings[0].message
    folder = write(tmp_path / "a")
    (folder / "annotations" / "instances_val.json").write_text("[", "utf-8")
    (finding,) = (item for item in check(folder).findings if item.severity == "error")
    assert (finding.split, finding.code) == ("val", "unusable")
    assert "not JSON" in finding.message
    (folder / "annotations" / "instances_val.json").unlink()
    assert not check(folder).ok


def test_nothing_is_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = write(tmp_path)
    train = document()
    train["annotations"] += train["annotations"]
    write_annotations(folder, "train", train)
    assert "duplicate_ann_id" in found(check(folder))
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("name", ["coco_mini", "bccd"])
def test_real_photographs_are_sound(shared: Path, name: str) -> None:
    report = check(shared / "data" / name)
    assert report.ok, json.dumps(report.model_dump(), indent=1)
