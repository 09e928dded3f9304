"""`detbench predict` finds what an evaluation finds, and shows it; one split is enough for all."""

import contextlib
import io
import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from detectors import weights
from harness import cli
from harness.config.data import DataConfig
from harness.data import load, load_split
from harness.machine import locks
from harness.measure.accuracy.evaluate import evaluate
from tests.harness import colours
from tests.harness.cli.refusals import refusal
from tests.harness.data.folders import jpeg_on_its_side

SCORE = 0.2  # below the best boxes of the detector made by hand


@pytest.fixture(autouse=True)
def _own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Don't wait for whatever else is measured on this machine."""
    monkeypatch.setattr(locks, "_folder", lambda: tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return colours.save(tmp_path / "model")


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """A data set whose ids are in another order than labels, with pictures of many sizes."""
    folder = colours.write(tmp_path / "pets", {"bolt": 3, "nut": 1, "washer": 2})
    file = folder / "annotations" / "instances_val.json"
    document = json.loads(file.read_text())
    for k, image in enumerate(document["images"]):
        path = folder / "val" / image["file_name"]
        size = (80 + 40 * k, 90)
        cv2.imwrite(str(path), cv2.resize(cv2.imread(str(path)), size))
        image |= {"width": size[0], "height": size[1]}
    turned = cv2.imread(str(folder / "val" / "1.png"))  # annotated as it is stored
    (folder / "val" / "1.jpg").write_bytes(jpeg_on_its_side(turned))
    (folder / "val" / "1.png").unlink()
    document["images"][1]["file_name"] = "1.jpg"
    file.write_text(json.dumps(document))
    return folder


def detbench(*arguments: object) -> int:
    return cli.main([*map(str, arguments), "--trust", "--device", "cpu"])


def predicted(capfd: pytest.CaptureFixture[str], *arguments: object) -> dict[str, Any]:
    assert detbench("predict", *arguments, "--json") == 0
    found: dict[str, Any] = json.loads(capfd.readouterr().out)
    return found


def read(file: Path) -> Any:
    return json.loads(file.read_text(encoding="utf-8"))


def only(folder: Path, split: str) -> Path:
    """Leave but the validation split of a data set, under a name."""
    (folder / "annotations" / "instances_train.json").unlink()
    shutil.rmtree(folder / "train")
    if split != "val":
        file = folder / "annotations" / "instances_val.json"
        file.rename(file.with_name(f"instances_{split}.json"))
        (folder / "val").rename(folder / split)
    return folder


def test_a_split_is_predicted_exactly_as_it_is_evaluated(
    pets: Path, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Classes are given the data set's ids, and pictures of several batches its sizes."""
    out = tmp_path / "out"
    said = predicted(capfd, model, "--data", pets, "--out", out, "--score", SCORE)
    detector = weights.load(model, trusted=("tests.toy:TOY",))
    val = load(DataConfig(source=str(pets))).val
    labels = {"bolt": 0, "nut": 1, "washer": 2}
    ids = {labels[item.name]: item.id for item in val.categories}
    as_seen = load_split(DataConfig(source=str(pets))).split
    object.__setattr__(as_seen, "found_ids", tuple(ids[label] for label in range(3)))
    wanted = evaluate(detector, as_seen, device="cpu").detections
    assert len({item["category_id"] for item in wanted}) == 3
    assert read(out / "detections.json") == wanted
    assert said["detections"] == {str(out / "detections.json"): len(wanted)}
    drawn = sum(item["score"] >= SCORE for item in wanted)
    assert said["drawn"] == drawn > 0


def test_results_are_read_by_pycocotools(pets: Path, model: Path, tmp_path: Path) -> None:
    assert detbench("predict", model, "--data", pets, "--out", tmp_path / "split") == 0
    assert detbench("predict", model, pets / "val", "--out", tmp_path / "files") == 0
    truth = pets / "annotations" / "instances_val.json"
    for images, results in ((truth, "split"), (tmp_path / "files" / "images.json", "files")):
        with contextlib.redirect_stdout(io.StringIO()):
            coco = COCO(str(images))
            found = coco.loadRes(str(tmp_path / results / "detections.json"))
        assert set(found.getImgIds()) == set(coco.getImgIds())
        names = {item["name"] for item in coco.loadCats(coco.getCatIds())}
        assert names == set(colours.COLOURS)


def test_photographs_have_pictures_boxes_and_the_weights_classes(
    pets: Path, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    files = pets / "val" / "0.png", pets / "val" / "1.jpg"
    said = predicted(capfd, model, *files, "--out", out, "--score", SCORE)
    assert (said["images"], said["classes"]) == (2, list(colours.COLOURS))
    document = read(out / "images.json")
    assert document["categories"] == [
        {"id": k, "name": name} for k, name in enumerate(colours.COLOURS, start=1)
    ]
    assert document["images"] == [
        {"id": 1, "file_name": str(files[0]), "height": 90, "width": 80,
         "picture": "pictures/0.jpg"},
        {"id": 2, "file_name": str(files[1]), "height": 120, "width": 90,
         "picture": "pictures/1.jpg"},  # as viewers show it
    ]  # fmt: skip
    for image in document["images"]:
        picture = cv2.imread(str(out / image["picture"]))
        scale = picture.shape[0] // image["height"]
        assert picture.shape == (scale * image["height"], scale * image["width"], 3)
    assert said["drawn"] == sum(item["score"] >= SCORE for item in read(out / "detections.json"))


def test_boxes_are_drawn_where_they_are_found(model: Path, tmp_path: Path) -> None:
    photograph = np.full((640, 640, 3), 128, np.uint8)
    cv2.rectangle(photograph, (200, 300), (400, 500), colours.COLOURS["nut"][::-1], -1)
    cv2.imwrite(str(tmp_path / "nut.png"), photograph)
    out = tmp_path / "out"
    assert detbench("predict", model, tmp_path / "nut.png", "--out", out, "--score", SCORE) == 0
    found = [item for item in read(out / "detections.json") if item["score"] >= SCORE]
    picture = cv2.imread(str(out / "pictures" / "nut.jpg")).astype(int)
    apart = np.abs(picture - photograph).max(axis=2) > 40
    assert {item["category_id"] for item in found} == {2}
    left, top, width, height = found[0]["bbox"]
    line = apart[round(top + height), round(left) : round(left + width)]
    assert line.mean() > 0.9
    assert not apart[:100].any()


def test_no_images_writes_results_alone(pets: Path, model: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert detbench("predict", model, pets / "val", "--out", out, "--no-images") == 0
    assert sorted(item.name for item in out.iterdir()) == ["detections.json", "images.json"]
    assert "picture" not in read(out / "images.json")["images"][0]


def test_photographs_of_one_name_get_pictures_of_their_own(
    pets: Path, model: Path, tmp_path: Path
) -> None:
    out, copies = tmp_path / "out", [pets / "val" / "0.png"]
    for name in ("a/0.PNG", "b/0.png", "b/0-2.png", "c/0.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        copies.append(Path(shutil.copy(copies[0], tmp_path / name)))
    assert detbench("predict", model, *copies, copies[0], "--out", out) == 0
    names = [item["picture"] for item in read(out / "images.json")["images"]]
    assert names == [f"pictures/{name}.jpg" for name in ("0", "0-2", "0-3", "0-2-2", "0-4")]
    assert len({name.lower() for name in names}) == len(list((out / "pictures").iterdir())) == 5


@pytest.mark.parametrize("split", [True, False])
def test_what_cannot_be_decoded_is_named_and_left_out(
    pets: Path, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], split: bool
) -> None:
    (pets / "val" / "2.png").write_bytes(b"no image")
    what = ("--data", pets) if split else (pets / "val",)
    out = tmp_path / "out"
    assert detbench("predict", model, *what, "--out", out) == 1
    captured = capfd.readouterr()
    (line,) = [text for text in captured.err.splitlines() if "2.png" in text]
    assert "left out" in line
    assert "not an image that can be decoded" in line
    assert "left out, as they cannot be read: 1" in captured.out
    document = read(out / "images.json")
    assert [image["id"] for image in document["images"]] == [1, 2, 4, 5, 6]
    assert "2.png" in document["info"]["unreadable"][0]
    assert {item["image_id"] for item in read(out / "detections.json")} <= {1, 2, 4, 5, 6}


def test_without_one_photograph_that_can_be_read_there_are_empty_results(
    model: Path, tmp_path: Path
) -> None:
    file = tmp_path / "a.jpg"
    file.write_bytes(b"")
    assert detbench("predict", model, file, "--out", tmp_path / "out") == 1
    assert read(tmp_path / "out" / "detections.json") == []
    assert read(tmp_path / "out" / "images.json")["images"] == []


def test_two_models_are_drawn_side_by_side(
    pets: Path, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each has its detections in a file, and classes of one name have one id."""
    other = weights.save(
        colours.finder(8), tmp_path / "other", "tests.toy:TOY", ["washer", "cog", "bolt"]
    )
    out = tmp_path / "out"
    said = predicted(capfd, model, pets / "val", "--against", other, "--out", out)
    assert said["classes"] == ["bolt", "nut", "washer", "cog"]
    document = read(out / "images.json")
    assert document["info"]["models"] == [str(model), str(other)]
    rows = [read(out / name) for name in ("detections.json", "detections-against.json")]
    assert [{item["category_id"] for item in part} for part in rows] == [{1, 2, 3}, {3, 4, 1}]
    assert [len(part) for part in rows] == list(said["detections"].values())
    for image in document["images"]:
        width = cv2.imread(str(out / image["picture"])).shape[1]
        scale = 1 if image["width"] >= 480 else -(-480 // max(image["width"], image["height"]))
        assert 0 < width - 2 * scale * image["width"] < 20  # and a gap
    assert detbench("predict", model, pets / "val", "--out", tmp_path / "alone") == 0
    assert read(tmp_path / "alone" / "detections.json") == rows[0]
    assert detbench("predict", other, pets / "val", "--out", tmp_path / "second") == 0
    ids = {1: 3, 2: 4, 3: 1}  # of its own classes
    alone = read(tmp_path / "second" / "detections.json")
    assert [item | {"category_id": ids[item["category_id"]]} for item in alone] == rows[1]


def test_classes_that_weights_do_not_name_are_numbered(
    pets: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    nameless = colours.save(tmp_path / "nameless", named=False)
    said = predicted(capfd, nameless, pets / "val", "--out", tmp_path / "out")
    assert said["classes"] == ["0", "1", "2"]
    assert said["notes"] == [f"{nameless} does not name its 3 classes: they are numbered"]
    out = ("--out", tmp_path / "split")
    assert "--classes in-order" in refusal(
        capfd, detbench("predict", nameless, "--data", pets, *out)
    )
    assert detbench("predict", nameless, "--data", pets, *out, "--classes", "in-order") == 0


def test_classes_of_a_split_that_weights_do_not_know_are_left_out_and_named(
    pets: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    other = weights.save(
        colours.finder(), tmp_path / "other", "tests.toy:TOY", ["washer", "cog", "bolt"]
    )
    said = predicted(capfd, other, "--data", pets, "--out", tmp_path / "out")
    assert said["notes"][-1].startswith("results are over 2 of the 3 classes of pets")
    found = read(tmp_path / "out" / "detections.json")
    assert {item["category_id"] for item in found} == {2, 3}  # washer and bolt


def test_bad_input_is_refused_before_anything_is_written(
    pets: Path, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out, photographs = tmp_path / "out", pets / "val"
    to = ("--out", out)
    cases: dict[str, tuple[object, ...]] = {
        "is untrained, so its boxes would say nothing; name weights with --weights":
            ("tests.toy:TOY", photographs, *to),
        "name weights with --against-weights":
            (model, photographs, "--against", "tests.toy:TOY", *to),
        "nowhere.jpg: no such file or folder": (model, tmp_path / "nowhere.jpg", *to),
        "name IMAGE..., files, folders or patterns, or else a data set": (model, *to),
        "or else a data set with --data": (model, photographs, "--data", pets, *to),
        "--split goes with --data": (model, photographs, "--split", "val", *to),
        "--classes goes with --data": (model, photographs, "--classes", "a=b", *to),
        "--against-weights goes with --against":
            (model, photographs, "--against-weights", model, *to),
        "has no split 'test'; it has train, val": (model, "--data", pets, "--split", "test", *to),
        "--score": (model, photographs, "--score", "2", *to),
        "--out": (model, photographs),
        "no.pth: no such file": ("tests.toy:TOY", photographs, "--weights", "no.pth", *to),
        f"{pets}: a folder without config.json; name one that train left":
            (pets, photographs, *to),
        "IMAGE is empty": (model, "", *to),
        "~nobody.jpg: no such file or folder": (model, "~nobody.jpg", *to),
        f"{'n' * 300}: no such file": (model, "n" * 300, *to),
        f"{'n' * 300}.pth: cannot be read: File name too long":
            ("tests.toy:TOY", photographs, "--weights", f"{'n' * 300}.pth", *to),
        f"weights {model} for tests.toys:OTHER: backbone.0.weight":
            (model, photographs, "--against", "tests.toys:OTHER", "--against-weights", model, *to),
    }  # fmt: skip
    for part, arguments in cases.items():
        assert part in refusal(capfd, detbench("predict", *arguments))
        assert not out.exists()
    long = tmp_path / ("n" * 300)
    said = refusal(capfd, detbench("predict", model, photographs, "--out", long))
    assert "File name too long; name a new folder with --out" in said


def test_nothing_is_written_over(
    pets: Path, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    before = {file: file.read_bytes() for file in pets.rglob("*") if file.is_file()}
    for taken in (pets / "val", pets):  # photographs inside, too
        said = refusal(capfd, detbench("predict", model, pets / "val", "--out", taken))
        assert "holds something already" in said
    file = pets / "val" / "0.png"
    assert "is a file" in refusal(capfd, detbench("predict", model, pets / "val", "--out", file))
    assert {file: file.read_bytes() for file in pets.rglob("*") if file.is_file()} == before
    out.mkdir()
    assert detbench("predict", model, pets / "val", "--out", out) == 0
    capfd.readouterr()
    assert "holds something already" in refusal(
        capfd, detbench("predict", model, pets / "val", "--out", out)
    )


@pytest.mark.parametrize("split", ["val", "test"])
def test_one_split_is_enough(
    pets: Path, model: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], split: str
) -> None:
    where = ("--data", pets, *(("--split", split) if split != "val" else ()))
    assert detbench("evaluate", model, "--data", pets, "--json") == 0
    whole = json.loads(capfd.readouterr().out)
    only(pets, split)
    assert detbench("evaluate", model, *where, "--json") == 0
    found = json.loads(capfd.readouterr().out)
    assert found["metrics"] == whole["metrics"]
    named = {} if split == "val" else {"split": split}
    assert found["protocol"] == {"max_detections": [1, 10, 100], **named}
    assert found["data"][split] == whole["data"]["val"]
    assert "train" not in found["data"]
    if split == "val":
        assert found["data"] == whole["data"]
    assert detbench("predict", model, *where, "--out", tmp_path / "out") == 0
    assert len(read(tmp_path / "out" / "images.json")["images"]) == 6
    quick = [f"latency.{key}" for key in ("seconds=0.2", "warmup_seconds=0.1", "images=2")]
    sets = [part for text in quick for part in ("--set", text)]
    capfd.readouterr()
    assert detbench("measure", model, *where, *sets, "--json") == 0
    assert json.loads(capfd.readouterr().out)["models"][0]["metrics"]["latency_ms"] > 0
    for command in ("evaluate", "measure"):
        said = refusal(capfd, detbench(command, model, "--data", pets, "--split", "none"))
        assert f"no split 'none'; it has {split}." in said
    to = ("--recipe", "smoke", "--out", tmp_path / "trained", "--device", "cpu")
    arguments = ("train", "tests.toy:TOY", "--data", pets, *to)
    assert cli.main([str(item) for item in arguments]) == 2
    said = capfd.readouterr().err
    assert "no split 'train'; it has" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "trained").exists()
