"""Which files are meant, and how photographs are read a few at a time."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from harness.config.data import DataConfig, DataError
from harness.config.photographs import find
from harness.data import Category, load, photographs
from harness.data.photographs import chunks, loose
from tests.harness.data.folders import document, jpeg_on_its_side, write

CLASSES = (Category(1, "cat"),)


def picture(file: Path, height: int = 8, width: int = 6, value: int = 100) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(file), np.full((height, width, 3), value, np.uint8))
    return file


def test_files_folders_and_patterns_are_found_each_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.JPG", "deep/c.png", "x/d.png", "[1].png", ".hidden.png"):
        picture(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    names = [str(file) for file in find(["b.png", ".", "deep", "*.png", "**/[cd].png"])]
    assert names == ["b.png", "[1].png", "a.JPG", "deep/c.png", "x/d.png"]
    assert find(["[1].png"]) == [Path("[1].png")]  # a file of that name is no pattern
    assert find(["notes.txt"]) == [Path("notes.txt")]  # the user says that it is one


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("nowhere.jpg", r"nowhere\.jpg: no such file or folder; name images"),
        ("*.tif", r"\*\.tif: no file is named so; name images"),
        ("empty", r"empty: no images in this folder.* 'empty/\*\*/\*\.jpg' is a pattern"),
        ("pipe", r"pipe: neither a file nor a folder"),
        ("a" * 300, "a: no such file or folder"),
    ],
)
def test_what_is_not_there_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "empty" / "deep" / "a.png")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DataError, match=said):
        find([name])


def test_photographs_are_turned_as_viewers_show_them(tmp_path: Path) -> None:
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:, :30] = 255
    file = tmp_path / "side.jpg"
    file.write_bytes(jpeg_on_its_side(pixels))
    (chunk,) = chunks(loose([file], CLASSES), 8)
    (seen,) = chunk.split.pixels
    assert seen.shape == (60, 40, 3)
    assert seen[:28].min() > 250  # the left half is above
    assert seen[32:].max() < 5
    assert chunk.split.images == ((1, str(file), 60, 40),)


def test_every_depth_and_number_of_channels_becomes_three_of_eight_bits(tmp_path: Path) -> None:
    kinds = {
        "grey": np.full((4, 5), 90, np.uint8),
        "deep": np.full((4, 5, 3), 90 * 257, np.uint16),
        "deep grey": np.full((4, 5), 90 * 257, np.uint16),
        "clear": np.full((4, 5, 4), 90, np.uint8),
        "point": np.full((1, 1, 3), 90, np.uint8),
    }
    files = [tmp_path / f"{name}.png" for name in kinds]
    for file, pixels in zip(files, kinds.values(), strict=True):
        assert cv2.imwrite(str(file), pixels)
    (chunk,) = chunks(loose(files, CLASSES), 8)
    assert chunk.unreadable == []
    for seen, pixels in zip(chunk.split.pixels, kinds.values(), strict=True):
        assert seen.dtype == np.uint8
        assert seen.shape == (*pixels.shape[:2], 3)
        assert set(seen.ravel().tolist()) == {90}


def test_what_cannot_be_read_is_named_and_ids_stay(tmp_path: Path) -> None:
    files = [picture(tmp_path / f"{k}.png", value=k) for k in range(5)]
    files[0].write_bytes(b"")
    files[3].write_bytes(files[3].read_bytes()[:30])
    files[4].unlink()
    found = list(chunks(loose(files, CLASSES), 2))
    assert [[image.id for image in chunk.split.images] for chunk in found] == [[2, 3], []]
    assert [chunk.done for chunk in found] == [3, 5]
    named = [text.partition(": ")[0] for chunk in found for text in chunk.unreadable]
    assert named == [str(files[0]), str(files[3]), str(files[4])]


def test_a_split_is_held_with_its_annotations(tmp_path: Path) -> None:
    val = load(DataConfig(source=str(write(tmp_path, val=document(5, first=50))))).val
    found = list(chunks(val, 2))
    assert [len(chunk.split) for chunk in found] == [2, 2, 1]
    first = 0
    for chunk in found:
        for index in range(len(chunk.split)):
            assert chunk.split.images[index] == val.images[first + index]
            np.testing.assert_array_equal(chunk.split.read(index), val.read(first + index))
            assert chunk.split.objects(index)[0].tolist() == val.objects(first + index)[0].tolist()
        first = chunk.done


def test_large_photographs_come_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photographs, "ROOM", 2 * 8 * 6 * 3)
    files = [picture(tmp_path / f"{k}.png") for k in range(3)]
    files.insert(2, picture(tmp_path / "large.png", 80, 60))
    sizes = [len(chunk.split) for chunk in chunks(loose(files, CLASSES), 8)]
    assert sizes == [2, 1, 1]
