"""Classes by name: one table for both splits, and the labels of detectors trained on others."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.config.data import DataConfig, DataError
from harness.data import DataSet, check, load
from harness.data.classes import (
    Choice,
    ClassError,
    Known,
    Matched,
    match,
    read_choice,
    seen_by,
    select,
)
from tests.harness.data.folders import box, document, write

PETS = ("cat", "dog", "fox")
KNOWN = Known("weights", 3, PETS)


def content(ids: dict[str, int], first: int = 0) -> dict[str, Any]:
    """Return two images, with a cat, a fox and two dogs under these ids."""
    rows = (("cat", 0), ("dog", 0), ("dog", 1), ("fox", 1))
    annotations = [
        box(first + k + 1, first + image, [10 + k, 5, 20, 10], ids[name], area=200.0 + k, iscrowd=0)
        for k, (name, image) in enumerate(rows)
    ]
    categories = [{"id": key, "name": name} for name, key in ids.items()]
    return document(2, first) | {"annotations": annotations, "categories": categories}


def pets(folder: Path, train: dict[str, int], val: dict[str, int] | None = None) -> DataSet:
    write(folder, content(train), content(val or train, first=50))
    return load(DataConfig(source=str(folder)))


def test_both_splits_have_one_table_whatever_their_ids_are(tmp_path: Path) -> None:
    data = pets(tmp_path / "a", {"cat": 1, "dog": 2, "fox": 3}, {"cat": 9, "dog": 4, "fox": 1})
    for split in (data.train, data.val):
        assert [category.name for category in split.categories] == ["cat", "dog", "fox"]
        assert split.annotations.labels.tolist() == [0, 1, 1, 2]
    assert data.val.label_to_category_id == (9, 4, 1)
    truth = data.val.ground_truth()
    assert [row["category_id"] for row in truth["annotations"]] == [9, 4, 4, 1]
    assert check(tmp_path / "a").ok


def test_two_classes_of_one_name_are_refused_by_name_and_ids(tmp_path: Path) -> None:
    twice = content({"cat": 1, "dog": 2, "fox": 3})
    twice["categories"][2]["name"] = "cat"
    folder = write(tmp_path, twice, content({"cat": 1, "dog": 2, "fox": 3}, first=50))
    said = "instances_train.json: categories 1 and 3 are both named 'cat'; give each a name of its"
    with pytest.raises(DataError, match=said):
        load(DataConfig(source=str(folder)))
    refused = [item.message for item in check(folder).findings if item.severity == "error"]
    assert [said in message for message in refused] == [True]


def test_some_classes_bring_their_annotations_alone(tmp_path: Path) -> None:
    split = pets(tmp_path, {"cat": 1, "dog": 2, "fox": 3}).train
    assert select(split, [0, 1, 2]) is split
    part = select(split, [2, 0])
    assert [category.name for category in part.categories] == ["fox", "cat"]
    truth = part.ground_truth()
    assert [(row["id"], row["category_id"]) for row in truth["annotations"]] == [(1, 1), (4, 3)]
    assert part.annotations.offsets.tolist() == [0, 1, 2]
    assert part.objects(1)[1].tolist() == [0]
    assert len(part.images) == 2


@pytest.mark.parametrize(
    ("wanted", "choice", "labels", "note"),
    [
        (("cat", "dog", "fox"), Choice(), (0, 1, 2), None),
        (("fox", "cat", "dog"), Choice(), (2, 0, 1), "another order in farm: matched by name"),
        (("cat", "fox"), Choice(), (0, 2), "farm does not have, so left out: dog"),
        (("fox", "hen"), Choice(shared=True), (2, None), "over 1 of the 2 classes of farm; the"),
        (("hen", "cat", "fox"), Choice({"hen": "dog"}), (1, 0, 2), "as --classes says: hen=dog"),
        (("hen", "cow", "pig"), Choice({"hen": "2", "cow": "0", "pig": "1"}), (2, 0, 1), "hen=2"),
        (("hen", "cow", "pig"), Choice(in_order=True), (0, 1, 2), "those of farm in its order"),
    ],
)
def test_classes_are_matched_by_name(
    wanted: tuple[str, ...], choice: Choice, labels: tuple[int | None, ...], note: str | None
) -> None:
    found = match(KNOWN, "farm", wanted, choice)
    assert found.labels == labels
    assert note in found.notes[-1] if note else found.notes == ()


def test_labels_without_names_are_told_one_by_one() -> None:
    unnamed = Known("old.pth", 3, None)
    with pytest.raises(ClassError) as refusal:
        match(unnamed, "farm", ("hen", "cow", "pig"), Choice(shared=True))
    assert str(refusal.value) == (
        "old.pth does not say which classes its 3 labels are. If they are those of data set farm in"
        " its order (hen, cow, pig), add --classes in-order; else name the label of each, as in"
        " --classes hen=0,cow=1,pig=2"
    )
    told = Choice({"hen": "1", "cow": "0"})
    assert match(unnamed, "farm", ("hen", "cow"), told).labels == (1, 0)
    assert match(unnamed, "farm", ("0", "1", "2"), Choice(in_order=True)).labels == (0, 1, 2)
    with pytest.raises(ClassError, match="does not say"):  # a name like a number is no label
        match(unnamed, "farm", ("0", "1", "2"), Choice())


@pytest.mark.parametrize(
    ("wanted", "choice", "part"),
    [
        (("hen", "cow"), Choice(), "knows no class of data set farm: that has hen, cow, the model"),
        (("hen", "cow"), Choice(shared=True), "knows no class of data set farm"),
        (
            ("cat", "hen", "cow"),
            Choice(shared=False),
            "does not know 2 of the 3 classes of data set farm: hen, cow; it knows cat, dog, fox."
            " --classes DATA=MODEL,... says which have another name, --shared-classes leaves",
        ),
        (("cat", "hen"), Choice(), r"which have another name$"),
        (("cat", "hen"), Choice({"hem": "dog"}), "--classes hem=dog: data set farm has no class"),
        (("cat", "hen"), Choice({"hen": "cow"}), "--classes hen=cow: weights has no class 'cow'"),
        (("cat", "hen"), Choice({"hen": "3"}), "has no class '3'; it has cat, dog, fox"),
        (("cat", "hen"), Choice({"hen": "cat"}), "'cat' and 'hen' of data set farm are both label"),
        (("cat", "dog"), Choice(in_order=True), "tells 3 classes apart, data set farm has 2; give"),
    ],
)
def test_classes_that_do_not_belong_together_are_refused(
    wanted: tuple[str, ...], choice: Choice, part: str
) -> None:
    with pytest.raises(ClassError, match=part.replace("...", r"\.\.\.")):
        match(KNOWN, "farm", wanted, choice)


def test_a_name_that_two_labels_have_matches_neither() -> None:
    twice = Known("weights", 3, ("cat", "dog", "cat"))
    with pytest.raises(ClassError, match="does not know 1 of the 2 classes"):
        match(twice, "farm", ("cat", "dog"), Choice())
    assert match(twice, "farm", ("cat", "dog"), Choice({"cat": "2"})).labels == (2, 1)


def test_what_a_detector_finds_gets_the_ids_of_the_split(tmp_path: Path) -> None:
    split = pets(tmp_path, {"cat": 1, "dog": 2, "fox": 3}).val
    assert seen_by(split, Matched((0, 1, 2), ())) is split
    assert split.ids_found == (1, 2, 3)
    other = seen_by(split, Matched((4, 0, 2), ()))
    assert other.ids_found == (2, None, 3, None, 1)
    assert other.ground_truth() == split.ground_truth()
    part = seen_by(split, Matched((None, 1, 0), ()))
    assert part.ids_found == (3, 2)
    assert [category.name for category in part.categories] == ["dog", "fox"]
    assert len(part.ground_truth()["annotations"]) == 3


def test_a_part_of_the_images_keeps_what_a_detector_finds(tmp_path: Path) -> None:
    from harness.data.coco import take  # the only test that needs it

    split = seen_by(pets(tmp_path, {"cat": 1, "dog": 2, "fox": 3}).val, Matched((1, 0, 2), ()))
    assert take(split, np.array([1])).ids_found == (2, 1, 3)


def test_pairs_are_read_as_they_are_written() -> None:
    assert read_choice(["cat=a, dog=b", "fox=c"]).pairs == {"cat": "a", "dog": "b", "fox": "c"}
    assert read_choice(["dog, small=dog"]).pairs == {"dog, small": "dog"}
    assert read_choice([], shared=True) == Choice(shared=True)
    assert read_choice(["in-order"]).in_order
    for texts, part in ((["cat"], "expected DATA=MODEL"), (["cat="], "expected"),
                        (["in-order", "cat=a"], "does not go with pairs")):  # fmt: skip
        with pytest.raises(ClassError, match=part):
            read_choice(texts)
