"""The fingerprint: what changes it and what must not."""

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.config.data import DataConfig, DataError, cache_dir
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


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[str]:
    """Names of the files that are read, with a cache of the test's own that remembers at once."""
    monkeypatch.setenv("DETBENCH_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(fingerprint, "SETTLED_NS", 0)
    names: list[str] = []
    real = fingerprint.file_digest
    monkeypatch.setattr(
        fingerprint, "file_digest", lambda path: names.append(path.name) or real(path)
    )
    return names


def replaced(file: Path, where: str) -> None:
    """Write other bytes of the same number, with the same time, as a restored backup has them."""
    before = file.stat()
    content = file.read_bytes()[:-1] + b" "  # which no reader minds at the end
    if where == "a new file":
        (file.parent / "new").write_bytes(content)
        (file.parent / "new").replace(file)
    elif where == "a link to another file":
        other = file.parent.parent / "elsewhere"
        other.write_bytes(content)
        file.unlink()
        file.symlink_to(other)
    else:
        with file.open("r+b") as stream:
            stream.write(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def test_files_are_read_once(tmp_path: Path, reads: list[str]) -> None:
    folder = write(tmp_path / "data")
    first = of(folder)
    assert len(reads) == 7
    reads.clear()
    assert of(folder) == first
    assert reads == []
    os.utime(folder / "val" / "50.png", ns=(5, 5))
    assert of(folder) == first
    assert reads == ["50.png"]


@pytest.mark.parametrize("where", ["the same file", "a new file", "a link to another file"])
@pytest.mark.parametrize("name", ["val/50.png", "annotations/instances_val.json"])
def test_other_bytes_of_the_same_size_and_time_are_noticed(
    tmp_path: Path, reads: list[str], where: str, name: str
) -> None:
    folder = write(tmp_path / "data")
    with (folder / name).open("ab") as file:
        file.write(b"\n")
    before = of(folder)
    reads.clear()
    replaced(folder / name, where)
    assert of(folder) != before
    assert len(reads) == 1


@pytest.mark.parametrize("part", ["st_size", "st_mtime_ns", "st_ctime_ns", "st_ino"])
def test_a_file_is_read_again_whatever_of_its_stamp_differs(
    tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    folder = write(tmp_path / "data")
    first = of(folder)
    reads.clear()
    real = Path.stat

    def stat(path: Path, **options: Any) -> Any:
        found = real(path, **options)
        if path.name != "50.png":
            return found
        names = ("st_size", "st_mtime_ns", "st_ctime_ns", "st_ino", "st_mode")
        values = {name: getattr(found, name) for name in names}
        return SimpleNamespace(**values | {part: values[part] + 1})

    monkeypatch.setattr(Path, "stat", stat)
    assert of(folder) == first
    assert reads == ["50.png"]


def test_stamps_of_size_and_time_alone_are_not_believed(tmp_path: Path, reads: list[str]) -> None:
    folder = write(tmp_path / "data")
    first = of(folder)
    for file in (cache_dir() / "digests").iterdir():
        known = json.loads(file.read_bytes())
        assert {len(row) for row in known.values()} == {5}
        older = {name: [*row[:2], "0" * 64] for name, row in known.items()}
        file.write_text(json.dumps(older), "utf-8")
    reads.clear()
    assert of(folder) == first
    assert len(reads) == 7
    reads.clear()
    assert of(folder) == first
    assert reads == []


def test_a_file_that_changed_a_moment_ago_is_not_remembered_yet(
    tmp_path: Path, reads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = write(tmp_path / "data")
    monkeypatch.setattr(fingerprint, "SETTLED_NS", 1 << 62)
    first = of(folder)
    assert of(folder) == first
    assert len(reads) == 14
    monkeypatch.setattr(fingerprint, "SETTLED_NS", 0)
    of(folder)
    reads.clear()
    assert of(folder) == first
    assert reads == []


def test_data_that_changed_while_in_use_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "pets")
    dataset = load(DataConfig(source=str(folder)))
    fingerprint.check_unchanged(dataset)
    replaced(folder / "train" / "1.png", "a new file")
    with pytest.raises(DataError, match=r"pets changed while it was in use: .*; run again once"):
        fingerprint.check_unchanged(dataset)
    (folder / "train" / "1.png").unlink()
    with pytest.raises(DataError, match=r"1\.png: No such file"):
        fingerprint.check_unchanged(dataset)


def test_a_folder_has_one_fingerprint_by_whatever_name(tmp_path: Path) -> None:
    folder = write(tmp_path / "data")
    (tmp_path / "link").symlink_to(folder)
    assert of(tmp_path / "link") == of(tmp_path / "link" / ".." / "data") == of(folder)


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
