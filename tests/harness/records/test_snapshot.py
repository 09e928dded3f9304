from pathlib import Path

from harness.records import snapshot
from harness.records.snapshot import Snapshot


def made(version: str, *trials: str) -> Snapshot:
    return Snapshot(study="toy", total=len(trials), version=version, trials=list(trials))


def test_an_edited_file_is_a_new_version_and_the_old_one_is_kept(tmp_path: Path) -> None:
    snapshot.update(tmp_path, made("one", "a", "b"))
    found = snapshot.update(tmp_path, made("two", "b", "c"))
    assert snapshot.load(tmp_path) == found
    assert found.trials == ["b", "c"]
    assert [item.version for item in found.earlier] == ["one"]
    versions = {trial: found.version_of(trial) for trial in "abcd"}
    assert versions == {"a": "one", "b": "two", "c": "two", "d": None}


def test_a_file_that_is_edited_back_is_its_old_version_again(tmp_path: Path) -> None:
    snapshot.update(tmp_path, made("one", "a"))
    snapshot.add(tmp_path, ["racing"])
    snapshot.update(tmp_path, made("two", "b"))
    found = snapshot.update(tmp_path, made("one", "a"))
    assert found.trials == ["a", "racing"]
    assert [item.version for item in found.earlier] == ["two"]


def test_trials_that_come_in_are_added_once_and_another_run_keeps_them(tmp_path: Path) -> None:
    snapshot.add(tmp_path, ["early"])
    assert snapshot.load(tmp_path) is None, "there is no file that it could be of"
    snapshot.update(tmp_path, made("one", "a"))
    snapshot.add(tmp_path, ["b", "b", "a"])
    assert snapshot.update(tmp_path, made("one", "a")).trials == ["a", "b"]


def test_a_damaged_snapshot_counts_as_none(tmp_path: Path) -> None:
    (tmp_path / snapshot.FILE).write_text("{", "utf-8")
    assert snapshot.load(tmp_path) is None
