"""The fingerprint: what changes it and what must not."""

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness.config.data import DataConfig, cache_dir
from harness.data import fingerprint, load
from tests.harness.data.folders import document, write, write_annotations


def of(folder: Path, **knobs: Any) -> str:
    return load(DataConfig(source=str(folder), **knobs)).fingerprint


def test_the_place_and_the_times_of_files_do_not_matter(tmp_path: Path) -> None:
    before = of(write(tmp_path / "a"))
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    os.utime(tmp_path / "a" / "train" / "0.png", ns=(1, 1))
    assert of(tmp_path / "b") == of(tmp_path / "a") == before


def test_one_byte_of_an_image_or_of_the_annotations_changes_it(tmp_path: Path) -> None:
    folder = write(tmp_path)
    seen = {of(folder)}
    for name in ("train/0.png", "val/50.png"):
        with (folder / name).open("ab") as file:
            file.write(b"\0")
        seen.add(of(folder))
    with (folder / "annotations" / "instances_val.json").open("a") as file:
        file.write(" ")
    seen.add(of(folder))
    assert len(seen) == 4


def test_limits_the_filter_and_the_split_change_it(tmp_path: Path) -> None:
    train = document(4)
    train["annotations"].pop()
    folder = write(tmp_path / "a", train)
    whole = of(folder)
    assert len({whole, of(folder, max_train_images=2), of(folder, max_val_images=1)}) == 3
    assert of(folder, filter_empty=False) != whole
    swapped = write(tmp_path / "b", document(2, first=50), document(3))
    assert of(swapped) != of(write(tmp_path / "c"))


def test_files_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETBENCH_CACHE", str(tmp_path / "cache"))
    folder = write(tmp_path / "data")
    first, reads = of(folder), []
    real = fingerprint.file_digest
    monkeypatch.setattr(fingerprint, "file_digest", lambda path: reads.append(path) or real(path))
    assert of(folder) == first
    assert reads == []
    os.utime(folder / "val" / "50.png", ns=(5, 5))
    assert of(folder) == first
    assert [path.name for path in reads] == ["50.png"]


def test_a_broken_or_unwritable_cache_only_costs_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "data")
    first = of(folder)
    for file in (cache_dir() / "digests").iterdir():
        file.write_text("{", "utf-8")
    assert of(folder) == first
    (tmp_path / "file").touch()
    monkeypatch.setenv("DETBENCH_CACHE", str(tmp_path / "file"))
    assert of(folder) == first


def test_annotations_beside_the_same_images_change_it(tmp_path: Path) -> None:
    folder = write(tmp_path)
    before = of(folder)
    changed = document()
    changed["annotations"][0]["bbox"][0] += 1
    write_annotations(folder, "train", changed)
    assert of(folder) != before
