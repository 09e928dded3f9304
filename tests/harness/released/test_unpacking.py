"""What comes out of an archive is one folder, whole, and nothing lies anywhere else."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.config.data import DataError
from harness.records.progress import Progress
from harness.released import unpacking
from harness.released.unpacking import unpack


def packed(place: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    """Write an archive in a folder of its own."""
    place.mkdir(exist_ok=True)
    file = place / "val2017.zip"
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return file


def tree(folder: Path) -> dict[str, bytes]:
    """Return all files of a folder, the archive apart."""
    files = (file for file in folder.rglob("*") if file.is_file() and file.suffix != ".zip")
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


def test_one_folder_of_an_archive_comes_out(tmp_path: Path) -> None:
    members = {"val2017/": b"", "val2017/1.jpg": b"one", "val2017/2.jpg": b"second"}
    others = {"train2017/3.jpg": b"", "val2017/.hidden": b"", "val2017/deeper/4.jpg": b""}
    file, steps = packed(tmp_path / "archives", members | others), list[Progress]()
    unpack(file, "val2017", (), tmp_path, steps.append)
    assert tree(tmp_path) == {"val2017/1.jpg": b"one", "val2017/2.jpg": b"second"}
    assert [step[:3] for step in steps] == [("unpack", 3, 9), ("unpack", 9, 9)]


def test_files_that_are_named_join_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "own.json").write_bytes(b"own")
    members = {f"annotations/{name}.json": b"{}" * 999 for name in ("wanted", "other")}
    file = packed(tmp_path / "archives", members, zipfile.ZIP_DEFLATED)
    unpack(file, "annotations", ["wanted.json"], tmp_path)
    assert tree(tmp_path / "annotations") == {"own.json": b"own", "wanted.json": b"{}" * 999}


@pytest.mark.parametrize(
    "name", ["../out.jpg", "val2017/../../out.jpg", "/out.jpg", "..\\out.jpg", "val2017\\..\\o.jpg"]
)
def test_a_member_that_leads_out_is_refused_and_nothing_is_written(
    tmp_path: Path, name: str
) -> None:
    file = packed(tmp_path / "to", {"val2017/1.jpg": b"one", name: b"out"})
    with pytest.raises(DataError, match=r"member '.*' leads out of its folder; remove it") as error:
        unpack(file, "val2017", (), tmp_path / "to")
    assert "\n" not in str(error.value)
    assert tree(tmp_path) == {}
    assert list(tmp_path.rglob(".val2017")) == []


@pytest.mark.parametrize("files", [(), ("wanted.json",)])
def test_an_archive_without_what_is_wanted_is_refused(
    tmp_path: Path, files: tuple[str, ...]
) -> None:
    file = packed(tmp_path / "archives", {"other/1.jpg": b"one"})
    with pytest.raises(DataError, match=r"has no annotations/(wanted.json|photographs)"):
        unpack(file, "annotations", files, tmp_path)


def flipped(content: bytes) -> bytes:
    """Change what a member holds, and leave the archive's own tables as they are."""
    assert content.count(b"first photograph") == 1
    return content.replace(b"first photograph", b"first photogrbph")


@pytest.mark.parametrize("damage", [flipped, lambda content: content[:-30]])
def test_a_damaged_archive_leaves_nothing_behind(
    tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    file = packed(tmp_path / "archives", {"val2017/1.jpg": b"first photograph"})
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(DataError, match=r"val2017.zip: is damaged \(.*\); remove it"):
        unpack(file, "val2017", (), tmp_path)
    assert tree(tmp_path) == {}
    assert not (tmp_path / "val2017").exists()


def test_an_archive_that_grows_beyond_the_disk_is_refused_before_it_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = packed(tmp_path / "archives", {"val2017/1.jpg": bytes(10_000_000)}, zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(unpacking.shutil, "disk_usage", lambda _: SimpleNamespace(free=9_999_999))
    with pytest.raises(OSError, match="No space left"):
        unpack(file, "val2017", (), tmp_path)
    assert tree(tmp_path) == {}


def test_what_a_process_that_died_left_is_not_taken_for_a_photograph(tmp_path: Path) -> None:
    file = packed(tmp_path / "archives", {"val2017/1.jpg": b"one"})
    (file.parent / ".val2017").mkdir()
    (file.parent / ".val2017" / "half.jpg").write_bytes(b"ha")
    (tmp_path / "val2017").mkdir()  # empty, as somebody made it
    unpack(file, "val2017", (), tmp_path)
    assert tree(tmp_path) == {"val2017/1.jpg": b"one"}
