import os
import stat
from pathlib import Path

import pytest

from harness.records import files, record


@pytest.mark.parametrize("mask", [0o002, 0o022, 0o077])
def test_a_file_has_the_rights_that_the_user_gives_to_new_files(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        file = record.write_whole(tmp_path / "file.json", "{}")
    finally:
        os.umask(before)
    assert stat.S_IMODE(file.stat().st_mode) == 0o666 & ~mask


def test_a_block_that_raises_leaves_what_was_there(tmp_path: Path) -> None:
    file = tmp_path / "a b.bin"
    file.write_bytes(b"old")
    with pytest.raises(TypeError), files.whole(file) as new:
        new.writelines([b"half", None])  # type: ignore[list-item]
    assert file.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [file]


def test_the_content_takes_its_place_at_once(tmp_path: Path) -> None:
    file = tmp_path / "file.bin"
    with files.whole(file) as new:
        new.write(b"whole")
        assert not file.exists()
    assert file.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [file]


def test_links_are_taken_out_of_a_folder_and_lead_nowhere(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "inner").mkdir(parents=True)
    (outside / "kept").write_text("kept", "utf-8")
    folder = tmp_path / "folder"
    folder.symlink_to(outside)
    assert files.own_folder(folder) == folder
    assert not folder.is_symlink()
    assert list(folder.iterdir()) == []
    (folder / "inner").mkdir()
    (folder / "inner" / "file").write_text("own", "utf-8")
    (folder / "inner" / "link").symlink_to(outside / "kept")
    (folder / "checkpoint").symlink_to(outside)
    os.mkfifo(folder / "inner" / "pipe")
    files.own_folder(folder)
    assert sorted(item.name for item in folder.rglob("*")) == ["file", "inner"]
    assert (outside / "kept").read_text("utf-8") == "kept"
    assert (outside / "inner").is_dir()
