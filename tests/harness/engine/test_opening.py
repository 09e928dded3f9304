"""The folder of a study's records is its own."""

from pathlib import Path

import pytest

from harness.engine import opening
from harness.records import FILE, RecordError


@pytest.mark.parametrize("name", ["report.html", "study.json", "notes"])
def test_somebody_elses_folder_is_left_as_it_is(name: str, tmp_path: Path) -> None:
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / name).write_text("mine", encoding="utf-8")
    with pytest.raises(RecordError, match=rf"toy: holds something else .*\({name}\)"):
        opening.make_folder(tmp_path / "toy")
    assert [item.name for item in (tmp_path / "toy").iterdir()] == [name]


@pytest.mark.parametrize("ours", [opening.TOKEN, "study.db", f"abc/{FILE}", ".lock"])
def test_a_folder_that_a_run_began_is_gone_on_with(ours: str, tmp_path: Path) -> None:
    file = tmp_path / "toy" / ours
    file.parent.mkdir(parents=True)
    file.write_text("", encoding="utf-8")
    if ours != ".lock":
        (tmp_path / "toy" / "report.html").write_text("the study's page", encoding="utf-8")
    assert opening.make_folder(tmp_path / "toy") == tmp_path / "toy"


def test_a_new_folder_is_made(tmp_path: Path) -> None:
    assert opening.make_folder(tmp_path / "runs" / "toy").is_dir()
