"""Reading a folder in COCO layout, and refusing a broken one."""

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from harness.config.data import DataConfig, DataError
from harness.data import describe, fingerprint, load, load_split
from harness.data.coco import spread
from tests.harness.data.folders import box, document, jpeg_on_its_side, write, write_annotations


def read(folder: Path, **knobs: Any) -> Any:
    return load(DataConfig(source=str(folder), **knobs))


def with_train(**changes: Any) -> dict[str, Any]:
    return document() | changes


def test_reads_both_splits_and_sorts_categories_by_id(tmp_path: Path) -> None:
    data = read(write(tmp_path / "pets"))
    assert data.name == "pets"
    assert [len(data.train), len(data.val)] == [3, 2]
    assert [tuple(category) for category in data.categories] == [(3, "dog"), (7, "cat")]
    assert data.train.label_to_category_id == (3, 7)
    assert data.train.read(2).shape == (42, 60, 3)


def test_names_with_2017_are_found(tmp_path: Path) -> None:
    folder = write(tmp_path)
    for name in ("train", "val"):
        (folder / name).rename(folder / f"{name}2017")
        file = folder / "annotations" / f"instances_{name}.json"
        file.rename(file.with_name(f"instances_{name}2017.json"))
    assert len(read(folder).val) == 2


def test_objects_are_clipped_mapped_and_without_crowd_or_degenerate_ones(tmp_path: Path) -> None:
    annotations = [
        box(1, 0, [-5, 30, 20, 30], category=7),
        box(2, 0, [0, 0, 60, 40], iscrowd=1),
        box(3, 0, [10, 10, 0, 5]),
        box(4, 0, [59.5, 10, 30, 5]),
        box(5, 0, [10, 10, -4, 5]),
        box(6, 1, [1, 2, 3, 4]),
    ]
    data = read(write(tmp_path, with_train(annotations=annotations)))
    boxes, labels = data.train.objects(0)
    assert boxes.dtype == np.float32
    assert boxes.tolist() == [[0, 30, 15, 40]]
    assert labels.tolist() == [1]
    assert data.train.objects(1)[0].tolist() == [[1, 2, 4, 6]]
    assert describe(data)["train"] == {
        "images": 2,
        "images_left_out": 1,
        "boxes": 5,
        "crowd": 1,
        "degenerate": 3,
        "by_class": {"dog": 4, "cat": 1},
        "by_size": {"s": 5, "m": 0, "l": 0},
    }


def test_ground_truth_is_the_files_own_with_crowd_and_area(tmp_path: Path) -> None:
    val = document(2)
    val["annotations"] = [
        box(9, 1, [1.25, 2, 3, 4], area=5.5, iscrowd=1),
        box(4, 0, [3, 3, 0, 4]),
        box(5, 1, [1, 2, 3, 4], category=7),
    ]
    truth = read(write(tmp_path, val=val)).val.ground_truth()
    assert sorted(truth["annotations"], key=lambda row: row["id"]) == [
        box(4, 0, [3, 3, 0, 4], area=0, iscrowd=0),
        box(5, 1, [1, 2, 3, 4], category=7, area=12, iscrowd=0),
        box(9, 1, [1.25, 2, 3, 4], area=5.5, iscrowd=1),
    ]
    assert [image["id"] for image in truth["images"]] == [0, 1]
    json.dumps(truth)


def test_ground_truth_has_no_annotation_id_that_pycocotools_takes_for_none(tmp_path: Path) -> None:
    val = document(2)
    val["annotations"] = [box(0, 0, [1, 1, 5, 5]), box(1, 1, [1, 1, 5, 5])]
    truth = read(write(tmp_path, val=val)).val.ground_truth()
    assert [row["id"] for row in truth["annotations"]] == [1, 2]


def test_train_leaves_out_empty_and_tiny_images_and_val_does_not(tmp_path: Path) -> None:
    train = document(3)
    train["annotations"].pop(0)
    train["images"][2]["height"] = 31
    assert [image.id for image in read(write(tmp_path / "a", train)).train.images] == [1]
    assert len(read(tmp_path / "a", filter_empty=False).train) == 3
    val = document(2) | {"annotations": [box(1, 1, [1, 1, 5, 5])]}
    assert len(read(write(tmp_path / "b", val=val)).val) == 2


def test_limits_spread_over_the_split_and_keep_boxes_with_their_images(tmp_path: Path) -> None:
    train = document(10)
    for k, annotation in enumerate(train["annotations"]):
        annotation["bbox"] = [k, 0, 5, 5]
    data = read(write(tmp_path, train), max_train_images=3, max_val_images=1)
    assert [image.id for image in data.train.images] == [0, 3, 6]
    assert [data.train.objects(i)[0][0, 0] for i in range(3)] == [0, 3, 6]
    assert data.train.left_out == 7
    assert len(data.val.ground_truth()["annotations"]) == 1
    assert spread(np.arange(4), 9).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("changes", "pattern"),
    [
        ({"images": []}, "'train' is empty"),
        ({"categories": []}, "'categories' is empty"),
        ({"annotations": {}}, "no list 'annotations'"),
        ({"images": [{"id": 1, "file_name": "a", "height": 9}]}, r"images\[0\] has no 'width'"),
        ({"images": ["a.jpg"]}, r"images\[0\] has no 'id'"),
        ({"annotations": [{"id": 1}]}, r"annotations\[0\] has no 'image_id'"),
        ({"annotations": [box(1, 77, [1, 1, 5, 5])]}, "image_id 77, which is not in 'images'"),
        (
            {"annotations": [box(4, 0, [1, 1, 5, 5], 5), box(6, 0, [1, 1, 5, 5], 6)]},
            "annotation 4 and 1 more has the category_id 5, which is not in 'categories'",
        ),
        ({"annotations": [box(1, 0, [1, 1, 5, 5])] * 2}, "annotations has the id 1 more than once"),
        ({"categories": [{"id": 3, "name": "a"}] * 2}, "categories has the id 3 more than once"),
        ({"images": document()["images"] + document()["images"]}, "images has the id 0 more than"),
        ({"annotations": [box(1, 0, [1, 1, 5])]}, r"annotation 1 has the bbox \[1, 1, 5\]"),
        ({"annotations": [box(1, 0, [1, 1, 5, None])]}, "four|width, height"),
        ({"annotations": [box(1, 0, [1, 1, 5, float("nan")])]}, "annotation 1 has the bbox"),
        ({"annotations": [box(1, "0", [1, 1, 5, 5])]}, r"annotations\[0\].image_id is '0'"),
        ({"annotations": []}, "no image has a usable box"),
        ({"annotations": [box(1, 0, [1, 1, 5, 5], area="big")]}, "area"),
    ],
)
def test_a_broken_annotation_file_is_refused_in_one_line(
    tmp_path: Path, changes: dict[str, Any], pattern: str
) -> None:
    folder = write(tmp_path)
    write_annotations(folder, "train", with_train(**changes))
    with pytest.raises(DataError, match=pattern) as caught:
        read(folder)
    assert "instances_train.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_what_is_missing_is_named_with_the_layout(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"nowhere: no such folder; .*annotations/instances_train"):
        read(tmp_path / "nowhere")
    folder = write(tmp_path / "a")
    shutil.rmtree(folder / "val")
    with pytest.raises(DataError, match=r"val: no such folder of images"):
        read(folder)
    (folder / "annotations" / "instances_train.json").unlink()
    with pytest.raises(DataError, match=r"instances_train.json: no such file"):
        read(folder)


@pytest.mark.parametrize("content", [b"images: 3", b"", b"\xff\xfe{}", b"[" * 100_000])
def test_an_annotation_file_that_is_not_json_is_refused(tmp_path: Path, content: bytes) -> None:
    folder = write(tmp_path)
    (folder / "annotations" / "instances_val.json").write_bytes(content)
    with pytest.raises(DataError, match=r"instances_val.json: not JSON"):
        read(folder)


def test_absent_images_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    folder = write(tmp_path)
    (folder / "train" / "1.png").unlink()
    with pytest.raises(DataError, match=r"1\.png: named in instances_train.json but absent"):
        read(folder)
    (folder / "train" / "2.png").unlink()
    with pytest.raises(DataError, match=r"1\.png and 1 more: named"):
        read(folder)


def test_images_may_lie_in_folders_below(tmp_path: Path) -> None:
    folder = write(tmp_path)
    train = document()
    train["images"][1]["file_name"] = "deep/1.png"
    (folder / "train" / "deep").mkdir()
    (folder / "train" / "1.png").rename(folder / "train" / "deep" / "1.png")
    write_annotations(folder, "train", train)
    assert read(folder).train.read(1).shape == (41, 60, 3)


def test_splits_with_different_categories_are_refused(tmp_path: Path) -> None:
    val = document(2, first=50) | {"categories": [{"id": 3, "name": "dog"}]}
    with pytest.raises(DataError, match="first 'cat'"):
        read(write(tmp_path, val=val))


def test_an_undecodable_image_and_one_of_another_size_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path)
    data = read(folder)
    (folder / "train" / "0.png").write_bytes(b"no image")
    (folder / "train" / "1.png").write_bytes(b"")
    cv2.imwrite(str(folder / "train" / "2.png"), np.zeros((60, 42, 3), np.uint8))
    for index in (0, 1):
        with pytest.raises(DataError, match=rf"{index}\.png: not an image that can be decoded"):
            data.train.read(index)
    with pytest.raises(DataError, match=r"2\.png: the file is 42x60 pixels.* says 60x42"):
        data.train.read(2)


@pytest.mark.parametrize("stored", [True, False])
def test_a_rotation_tag_is_followed_only_if_the_annotations_do(
    tmp_path: Path, stored: bool
) -> None:
    train = document(1)
    height, width = (40, 60) if stored else (60, 40)
    train["images"][0] |= {"height": height, "width": width}
    folder = write(tmp_path, train)
    (folder / "train" / "0.png").write_bytes(jpeg_on_its_side(np.zeros((40, 60, 3), np.uint8)))
    assert read(folder).train.read(0).shape == (height, width, 3)


def only(folder: Path, split: str) -> Path:
    """Take everything of the other split away."""
    other = "train" if split == "val" else "val"
    (folder / "annotations" / f"instances_{other}.json").unlink()
    shutil.rmtree(folder / other)
    return folder


def one(folder: Path, split: str = "val", **knobs: Any) -> Any:
    return load_split(DataConfig(source=str(folder), **knobs), split)


def test_one_split_is_read_and_hashed_without_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "pets")
    opened: list[str] = []
    real = fingerprint.file_digest
    monkeypatch.setattr(
        fingerprint, "file_digest", lambda path: opened.append(path.name) or real(path)
    )
    whole = one(folder)
    assert sorted(opened) == ["50.png", "51.png", "instances_val.json"]
    alone = one(only(folder, "val"))
    assert alone.fingerprint == whole.fingerprint
    assert alone.summary() == {
        "name": "pets",
        "fingerprint": alone.fingerprint,
        "classes": ["dog", "cat"],
        "val": {"images": 2, "images_left_out": 0, "boxes": 2, "crowd": 0, "degenerate": 0},
    }
    (folder / "val" / "50.png").write_bytes(b"another picture")
    with pytest.raises(fingerprint.DataChangedError, match="pets changed while it was in use"):
        fingerprint.check_unchanged(alone)


def test_a_split_of_any_name_is_found(tmp_path: Path) -> None:
    folder = only(write(tmp_path), "val")
    (folder / "val").rename(folder / "test2017")
    file = folder / "annotations" / "instances_val.json"
    file.rename(file.with_name("instances_test2017.json"))
    assert len(one(folder, "test").split) == 2


def test_an_evaluation_on_the_training_split_takes_all_of_its_images(tmp_path: Path) -> None:
    empty = with_train(annotations=[box(1, 1, [1, 2, 3, 4])])
    folder = only(write(tmp_path, empty), "train")
    assert len(one(folder, "train").split) == 3
    assert len(one(folder, "train", max_val_images=2, max_train_images=1).split) == 2


def test_a_split_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    folder = only(write(tmp_path), "val")
    (folder / "annotations" / "instances_val_easy.json").write_text("{}")  # without images
    (folder / "annotations" / "notes.json").write_text("{}")
    with pytest.raises(DataError, match=r"no split 'train'; it has val\. .* needs train and val$"):
        read(folder)
    with pytest.raises(DataError, match=r"no split 'test'; it has val\. .* --split"):
        one(folder, "test")


@pytest.mark.parametrize("images", [True, False])
def test_classes_in_order_are_in_that_of_the_training_annotations(
    tmp_path: Path, images: bool
) -> None:
    val = document(2, first=50)
    val["categories"] = [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}]
    folder = write(tmp_path, val=val)
    if not images:
        shutil.rmtree(folder / "train")
    config = DataConfig(source=str(folder))
    names = [[item.name for item in load_split(config, in_order=known).categories]
             for known in (False, True)]  # fmt: skip
    assert names == [["cat", "dog"], ["dog", "cat"]]
    only(folder, "val") if images else (folder / "annotations" / "instances_train.json").unlink()
    assert [item.name for item in load_split(config, in_order=True).categories] == ["cat", "dog"]


def test_coco2017_is_looked_for_where_the_variable_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETBENCH_COCO", str(tmp_path / "none"))
    with pytest.raises(DataError, match="DETBENCH_COCO names .*none"):
        load(DataConfig(source="coco2017"))
    monkeypatch.setenv("DETBENCH_COCO", str(write(tmp_path / "coco")))
    assert load(DataConfig(source="coco2017")).name == "coco2017"
    monkeypatch.delenv("DETBENCH_COCO")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DataError, match="set DETBENCH_COCO to the folder"):
        load(DataConfig(source="coco2017"))


def test_coco_mini_as_pycocotools_reads_it(
    shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shared / "data" / "coco_mini"
    data = read(folder)
    oracle = COCO(str(folder / "annotations" / "instances_val.json"))
    capsys.readouterr()
    assert data.val.label_to_category_id == tuple(sorted(oracle.getCatIds()))
    truth = data.val.ground_truth()
    assert len(truth["annotations"]) == len(oracle.anns) == 1456
    for row in truth["annotations"]:
        assert {key: oracle.anns[row["id"]][key] for key in row} == row
    person = data.val.ground_truth()["categories"][0]
    assert person["name"] == "person"
    assert [len(data.train), data.train.left_out] == [362, 2]


def with_splits(first: int = 0) -> dict[str, Any]:
    """Return annotations whose images say where they are from, and some how good they are."""
    content = document(4, first)
    for number, image in enumerate(content["images"]):
        image["origin"] = "val2017" if number % 2 else "train2017"
    content["images"][3]["grade"] = 1
    return content


def test_images_are_selected_by_a_field_of_the_annotations(tmp_path: Path) -> None:
    folder = write(tmp_path, with_splits(), with_splits(50))
    chosen = read(folder, where={"origin": "val2017"})
    for split, ids in ((chosen.train, [1, 3]), (chosen.val, [51, 53])):
        assert [image.id for image in split.images] == ids
        assert [row["image_id"] for row in split.ground_truth()["annotations"]] == ids
        assert split.left_out == 2
    alone = load_split(DataConfig(source=str(folder), where={"origin": "val2017", "grade": 1}))
    assert [image.id for image in alone.split.images] == [53]
    limited = read(folder, where={"origin": "val2017"}, max_val_images=1)
    assert [image.id for image in limited.val.images] == [51]


def test_the_images_selected_are_part_of_the_identity_of_the_data(tmp_path: Path) -> None:
    folder = write(tmp_path, with_splits(), with_splits(50))
    configs = [{}, {"where": {"origin": "val2017"}}, {"where": {"origin": "train2017"}}]
    assert len({read(folder, **config).fingerprint for config in configs}) == 3
    assert len({DataConfig(source=str(folder), **config) for config in configs}) == 3
    assert DataConfig(where={"origin": "x"}) in {DataConfig(where={"origin": "x"})}


def test_only_the_images_selected_need_be_there(tmp_path: Path) -> None:
    folder = write(tmp_path, with_splits(), with_splits(50))
    (folder / "val" / "50.png").unlink()
    assert len(read(folder, where={"origin": "val2017"}).val) == 2


@pytest.mark.parametrize(
    ("where", "told"),
    [
        (
            {"origins": "val2017"},
            "no image has a field 'origins'; did you mean origin? There is id, ",
        ),
        (
            {"origin": "val2018"},
            'no image is left with origin: val2018; origin is "train2017", "val2017"',
        ),
        ({"grade": "1"}, "no image is left with grade: 1; grade is null, 1"),
        ({"grade": True}, "no image is left with grade: True; grade is null, 1"),
        ({"origin": "train2017", "grade": 1}, "no image is left with origin: train2017, grade: 1"),
    ],
)
def test_a_selection_that_cannot_be_is_refused(
    tmp_path: Path, where: dict[str, Any], told: str
) -> None:
    folder = write(tmp_path, with_splits(), with_splits(50))
    with pytest.raises(DataError, match="instances_train.json: data.where: ") as refused:
        read(folder, where=where)
    assert told in str(refused.value)
