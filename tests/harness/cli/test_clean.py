import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from harness import cli
from harness.cli import train
from harness.engine import leftovers, opening, owner, storage
from harness.engine.storage import open_storage, url
from harness.records import Record
from harness.trials import folders, trainings
from tests.patience import HANG

NEEDED, UNNEEDED = "aaaaaaaaaaaa", "bbbbbbbbbbbb"


def record_of(training: str, **changes: Any) -> Record:
    fields: dict[str, Any] = {
        "study": "toy",
        "trial": "t",
        "name": "n",
        "detector": "d",
        "overrides": {},
        "config": {},
        "seed": 0,
        "state": "done",
        "details": {"training": {"training": training}},
    }
    return Record(**{**fields, **changes})


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A folder of studies after some accidents."""
    out = tmp_path / "runs"
    toy, shelf = out / "toy", out / trainings.SHELF
    record_of(NEEDED).write(toy / "t")
    for name in (NEEDED, UNNEEDED):
        (shelf / name).mkdir(parents=True)
        (shelf / name / "weights.safetensors").write_bytes(b"w" * 1000)
        (shelf / name / trainings.STORY_FILE).touch()
    (shelf / ".partial-cccccccccccc").mkdir()
    (shelf / ".partial-cccccccccccc" / "checkpoint.pt").write_bytes(b"c" * 3_000_000)
    for name in (".partial-u", ".unreadable-v-1"):
        (toy / name).mkdir()
    (toy / ".unreadable-v-1" / "record.json").write_text("{", "utf-8")
    record_of(NEEDED, metrics={"mAP": 0.1}).write(toy / ".replaced-t")
    (toy / "t" / ".record.json.01234567").write_text("{", "utf-8")
    (out / "alone" / trainings.OWN_SHELF / ".partial-d").mkdir(parents=True)
    return out


GONE = {
    ".trainings/.partial-cccccccccccc",
    f".trainings/{UNNEEDED}",
    "toy/.partial-u",
    "toy/.unreadable-v-1",
    "toy/.replaced-t",
    "toy/t/.record.json.01234567",
    "alone/.training/.partial-d",
}


def clean(out: Path, *arguments: object, status: int = 0) -> int:
    found = cli.main(["clean", "--out", str(out), *map(str, arguments)])
    assert found == status
    return found


def listed(out: Path, capfd: pytest.CaptureFixture[str], *arguments: object) -> set[str]:
    capfd.readouterr()
    clean(out, "--json", *arguments)
    items = json.loads(capfd.readouterr().out)["items"]
    return {str(Path(item["path"]).relative_to(out)) for item in items}


def everything(folder: Path) -> set[str]:
    return {str(item.relative_to(folder)) for item in folder.rglob("*")}


def test_it_lists_and_removes_nothing_unless_asked(
    runs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = everything(runs)
    assert listed(runs, capfd) == GONE
    clean(runs)
    printed = capfd.readouterr().out
    assert "to be removed with --yes: 7 items, 3.0 MB" in printed
    assert "training that was given up" in printed
    assert everything(runs) == before


def test_it_removes_what_no_study_needs_and_no_record(
    runs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = everything(runs)
    clean(runs, "--yes")
    assert "removed: 7 items, 3.0 MB" in capfd.readouterr().out
    left = everything(runs)
    assert {name for name in before - left if name in GONE} == GONE
    assert all(name.startswith(tuple(GONE)) for name in before - left)
    assert {"toy/t/record.json", f".trainings/{NEEDED}/weights.safetensors"} <= left
    assert listed(runs, capfd) == set()


def test_by_age_and_size(runs: Path, capfd: pytest.CaptureFixture[str]) -> None:
    old = runs / "toy" / ".partial-u"
    os.utime(old, (time.time() - 10 * 86400,) * 2)
    assert listed(runs, capfd, "--older-than", 7) == {"toy/.partial-u"}
    assert listed(runs, capfd, "--larger-than", 1) == {".trainings/.partial-cccccccccccc"}
    assert listed(runs, capfd, "--older-than", 7, "--larger-than", 1, "--yes") == set()
    assert old.exists()


def test_a_record_that_stands_nowhere_else_is_kept(
    runs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As a process leaves it that is killed while it puts a new one in its place."""
    toy = runs / "toy"
    record_of(NEEDED, trial="x").write(toy / ".replaced-x")
    record_of(NEEDED, trial="y").write(toy / ".earlier-y-1")
    clean(runs, "--yes")
    assert (toy / ".replaced-x" / "record.json").is_file()
    assert (toy / ".earlier-y-1" / "record.json").is_file()
    (toy / ".replaced-x" / "record.json").rename(toy / ".record")


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"details": 3}'])
def test_where_a_record_cannot_be_read_any_training_may_be_needed(
    content: str, runs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (runs / "toy" / "damaged").mkdir()
    (runs / "toy" / "damaged" / "record.json").write_text(content, "utf-8")
    assert listed(runs, capfd) == GONE - {f".trainings/{UNNEEDED}"}
    clean(runs)
    assert "a record cannot be read, and may refer to any training" in capfd.readouterr().out


def a_running_trial(out: Path, who: owner.Owner) -> None:
    import optuna

    opened = open_storage(url(None, out / "toy"))
    study = optuna.create_study(storage=opened, study_name="toy")
    study.add_trial(optuna.trial.create_trial(state=optuna.trial.TrialState.WAITING))
    (number,) = (item._trial_id for item in study.get_trials())
    opened.set_trial_user_attr(number, "owner", list(who))
    opened.set_trial_state_values(number, optuna.trial.TrialState.RUNNING)
    opened.record_heartbeat(number)
    opened.engine.dispose()


def of_this_process(out: Path) -> None:
    a_running_trial(out, owner.me())


def of_another_machine(out: Path) -> None:
    a_running_trial(out, owner.me()._replace(host="elsewhere"))


def in_another_storage(out: Path) -> None:
    (out / "toy" / opening.TOKEN).write_text("1", "utf-8")
    (out / "toy" / ".partial-u" / "detections.npz").touch()


@pytest.mark.parametrize("work", [of_this_process, of_another_machine, in_another_storage])
def test_beside_a_study_that_is_under_way(
    work: Callable[[Path], None], runs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    work(runs)
    clean(runs, "--yes")
    printed = capfd.readouterr().out
    assert f"kept: {runs / 'toy'}: is under way" in printed
    assert "what is under way may need any training" in printed
    assert (runs / "toy" / ".partial-u").is_dir()
    assert (runs / trainings.SHELF / UNNEEDED).is_dir()
    assert not (runs / trainings.SHELF / ".partial-cccccccccccc").exists()


def silent(out: Path) -> None:
    of_another_machine(out)
    with closing(sqlite3.connect(out / "toy" / storage.FILE)) as database:
        database.execute("update trial_heartbeats set heartbeat = '2020-01-01 00:00:00'")
        database.commit()


def dead(out: Path) -> None:
    a_running_trial(out, owner.me()._replace(born="before"))


def long_ago(out: Path) -> None:
    in_another_storage(out)
    for item in (out / "toy" / ".partial-u", out / "toy" / ".partial-u" / "detections.npz"):
        os.utime(item, (0, 0))


@pytest.mark.parametrize("work", [silent, dead, long_ago])
def test_a_study_that_nobody_runs_any_more_is_not_under_way(
    work: Callable[[Path], None], runs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    work(runs)
    assert listed(runs, capfd) == GONE


@pytest.mark.parametrize("when", ["before", "meanwhile"])
def test_a_training_that_is_being_made_is_kept(
    when: str, runs: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    shelf = runs / trainings.SHELF
    lock = FileLock(shelf / ".cccccccccccc.lock")
    find = leftovers.find

    def found(out: Path) -> leftovers.Found:
        result = find(out)
        lock.acquire()
        return result

    if when == "before":
        lock.acquire()
    else:
        monkeypatch.setattr(leftovers, "find", found)
    clean(runs, "--yes", status=0 if when == "before" else 1)
    assert (shelf / ".partial-cccccccccccc" / "checkpoint.pt").is_file()
    assert (shelf / UNNEEDED).is_dir() == (when == "before")
    lock.release()


def test_a_train_command_under_way_keeps_its_folder(
    runs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shelf = runs / "alone" / trainings.OWN_SHELF
    (runs / "alone" / ".record.json.01234567").touch()
    with FileLock(shelf / train.LOCK):
        found = listed(runs, capfd)
    assert not [name for name in found if name.startswith("alone")]


def test_links_are_left_alone(runs: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis").touch()
    for place in (runs / trainings.SHELF / ".partial-l", runs / "toy" / ".partial-l", runs / "l"):
        place.symlink_to(tmp_path / "mine")
    clean(runs, "--yes")
    assert (tmp_path / "mine" / "thesis").exists()


def test_folders_of_other_programs_are_left_alone(
    runs: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As `--out` is a home folder, where others have names like ours."""
    docs = runs / "docs"
    for folder in (runs / trainings.SHELF / "notes", docs / ".partial-mine", docs / ".earlier-1"):
        folder.mkdir(parents=True)
        (folder / "mine").touch()
    (docs / ".draft.txt.01234567").touch()
    (docs / "sub").mkdir()
    (docs / "sub" / "record.json").write_text('{"an": "album"}', "utf-8")
    before = everything(docs) | everything(runs / trainings.SHELF / "notes")
    clean(runs, "--yes")
    assert everything(docs) | everything(runs / trainings.SHELF / "notes") == before


def test_a_folder_that_is_not_there(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    clean(tmp_path / "none", status=2)
    assert "no such folder; name that of the records with --out" in capfd.readouterr().err
    (tmp_path / "empty").mkdir()
    clean(tmp_path / "empty")
    assert "nothing that no study needs" in capfd.readouterr().out


def test_it_is_quick_and_knows_the_names_that_others_give() -> None:
    assert leftovers.SHELVES == (trainings.SHELF, trainings.OWN_SHELF)
    assert leftovers.LOCK == train.LOCK
    assert leftovers.TOKEN == opening.TOKEN
    assert leftovers.STORY == trainings.STORY_FILE
    assert leftovers.PARTIAL == trainings.PARTIAL == folders.PARTIAL
    assert leftovers.REPLACED == folders.REPLACED
    assert leftovers.UNREADABLE == folders.UNREADABLE
    assert storage.GRACE_SECONDS < leftovers.SECONDS_ALIVE
    code = "import sys, harness.cli.clean; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=HANG)
