from pathlib import Path

import numpy as np
import pytest

from harness.config.data import DataConfig, DataError
from harness.data import Split, cache, cache_dir, coco, load
from tests.harness.data.folders import box, document, write


@pytest.fixture(autouse=True)
def _for_small_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "SMALLEST", 0)
    monkeypatch.setenv("DETBENCH_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the annotation files that were parsed."""
    names: list[str] = []
    read = coco.read_document

    def watched(file: Path) -> object:
        names.append(file.name)
        return read(file)

    monkeypatch.setattr(coco, "read_document", watched)
    return names


def train(folder: Path) -> Split:
    return load(DataConfig(source=str(folder))).train


def test_a_file_is_parsed_once_and_the_split_is_the_same(tmp_path: Path, reads: list[str]) -> None:
    content = document() | {
        "annotations": [
            box(5, 1, [1, 2, 3.25, 4], 7, iscrowd=1, area=9.5),
            box(2, 0, [10, 5, 20, 10]),
            box(9, 1, [0, 0, 0.5, 40]),
            box(4, 1, [8, 8, 9, 9]),
        ]
    }
    content["images"][1]["file_name"] = "ä b.png"
    folder = write(tmp_path / "pets", train=content)
    first, second = train(folder), train(folder)
    assert reads == ["instances_train.json", "instances_val.json"]
    assert (second.images, second.categories) == (first.images, first.categories)
    assert second.ground_truth() == first.ground_truth()
    for name, column in vars(first.annotations).items():
        again = getattr(second.annotations, name)
        assert again.dtype == column.dtype
        np.testing.assert_array_equal(again, column)


def test_changed_code_parses_anew(
    tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "pets")
    train(folder)
    monkeypatch.setattr(cache, "_code", lambda: "other")
    train(folder)
    assert reads == 2 * ["instances_train.json", "instances_val.json"]


def test_other_bytes_are_parsed_anew(tmp_path: Path, reads: list[str]) -> None:
    folder = write(tmp_path / "pets")
    assert train(folder).categories[0].name == "dog"
    file = folder / "annotations" / "instances_train.json"
    for name in ("train", "val"):
        file = folder / "annotations" / f"instances_{name}.json"
        file.write_text(file.read_text("utf-8").replace("dog", "fox"))
    assert train(folder).categories[0].name == "fox"
    assert len(reads) == 4


@pytest.mark.parametrize("damage", ["empty", "cut", "flipped", "stranger"])
def test_a_damaged_cache_is_rebuilt(tmp_path: Path, reads: list[str], damage: str) -> None:
    folder = write(tmp_path / "pets")
    before = train(folder)
    for file in (cache_dir() / "annotations").iterdir():
        whole = file.read_bytes()
        flipped = whole[:200] + bytes([whole[200] ^ 1]) + whole[201:]
        damaged = {"empty": b"", "cut": whole[:-99], "flipped": flipped, "stranger": b"a"}
        file.write_bytes(damaged[damage])
    assert train(folder).ground_truth() == before.ground_truth()
    assert len(reads) == 4
    train(folder)
    assert len(reads) == 4


def test_a_cache_that_cannot_be_written_only_costs_time(
    tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "pets")
    (tmp_path / "file").touch()
    monkeypatch.setenv("DETBENCH_CACHE", str(tmp_path / "file"))
    assert len(train(folder)) == len(train(folder)) == 3
    assert len(reads) == 4


def test_what_is_refused_is_not_kept(tmp_path: Path) -> None:
    folder = write(tmp_path / "pets")
    broken = document() | {"annotations": [box(1, 99, [1, 1, 9, 9])]}
    write(folder, train=broken)
    for _ in range(2):
        with pytest.raises(DataError, match="image_id 99"):
            train(folder)


def test_small_files_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "SMALLEST", 1 << 22)
    train(write(tmp_path / "pets"))
    assert not (cache_dir() / "annotations").exists()
