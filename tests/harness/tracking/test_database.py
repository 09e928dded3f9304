import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from harness.tracking import Tracker, database, logged
from harness.tracking.database import TrackerError
from tests.harness.tracking.trackers import make

ODD = ("a%20b", "what?mode=ro", "a#b", "a:b@c", "{x}", "%3F")


@pytest.mark.parametrize("name", ODD)
def test_a_path_is_no_url(name: str, tmp_path: Path, empty_tracker: Path) -> None:
    folder = tmp_path / name
    folder.mkdir()
    shutil.copy(empty_tracker, folder / "mlflow.db")
    uri = f"sqlite:///{folder / 'mlflow.db'}"
    Tracker(uri).send(make(folder / "toy" / "abc"), folder / "toy" / "abc")
    assert logged(folder / "toy" / "abc").keys() == {uri}
    assert Tracker(uri).held("toy")
    assert [item.name for item in tmp_path.iterdir()] == [name]
    assert {"mlflow.db", "mlartifacts"} <= {item.name for item in folder.iterdir()}
    with closing(sqlite3.connect(folder / "mlflow.db")) as connection:
        assert connection.execute("select count(*) from runs").fetchone() == (2,)


def test_options_of_a_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TrackerError, match="takes no options"):
        Tracker(f"sqlite:///{tmp_path}/mlflow.db?timeout=60")


def tables(file: Path) -> int:
    with closing(sqlite3.connect(file)) as connection:
        found: int = connection.execute("select count(*) from sqlite_master").fetchone()[0]
    return found


@pytest.mark.parametrize("before", [None, b""], ids=["none", "empty"])
def test_a_killed_maker_leaves_nothing_in_the_way(before: bytes | None, tmp_path: Path) -> None:
    file = tmp_path / "what?" / "mlflow.db"
    file.parent.mkdir()
    if before is not None:
        file.write_bytes(before)

    class Killed(BaseException):
        pass

    def make(url: str, *, whole: bool) -> None:
        path = url.removeprefix("sqlite:///")
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("create table experiments (id int)")
        if not whole:
            raise Killed

    with pytest.raises(Killed):
        database.ensure(file, lambda url: make(url, whole=False))
    assert (file.read_bytes() if file.exists() else None) == before
    database.ensure(file, lambda url: make(url, whole=True))
    assert tables(file) == 1
    assert [item.name for item in file.parent.iterdir()] == ["mlflow.db"]
    database.ensure(file, lambda url: pytest.fail("it is there"))


def test_a_database_is_made_by_the_tracker_in_one_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, empty_tracker: Path
) -> None:
    """What MLflow makes is there before the file of that name is."""
    file, seen = tmp_path / "mlflow.db", []
    copied = database.os.replace

    def replace(source: Path, target: Path) -> None:
        seen.append((target, target.exists(), tables(source)))
        copied(source, target)

    monkeypatch.setattr(database.os, "replace", replace)
    assert Tracker(f"sqlite:///{file}").close_stale("toy") == 0
    assert seen == [(file, False, tables(empty_tracker))]


def test_a_database_that_was_left_half_made_is_told_with_its_remedy(
    tmp_path: Path, empty_tracker: Path
) -> None:
    """As MLflow leaves one whose process is killed while it makes it."""
    file = Path(shutil.copy(empty_tracker, tmp_path / "mlflow.db"))
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("delete from alembic_version")
        connection.execute("drop table experiment_tags")
        connection.commit()
    with pytest.raises(TrackerError) as told:
        Tracker(f"sqlite:///{file}").close_stale("toy")
    assert str(told.value).startswith(f"{file}: half made or damaged (")
    assert "move it away, and `detbench sync all` fills a new one" in str(told.value)


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    file = tmp_path / "mlflow.db"
    file.write_bytes(b"something else, and enough of it" * 100)
    with pytest.raises(TrackerError, match=r"mlflow\.db: half made or damaged .*move it away"):
        Tracker(f"sqlite:///{file}").close_stale("toy")


def test_marks_hold_no_passwords(tmp_path: Path) -> None:
    from harness.tracking.marks import is_logged, remember

    (tmp_path / "mlflow.json").write_text(json.dumps({"http://a:SECRET@old": "1"}), "utf-8")
    remember(tmp_path, "http://alice:SECRET@host", "2")
    assert logged(tmp_path) == {"http://a:***@old": "1", "http://alice:***@host": "2"}
    assert is_logged(tmp_path, "http://alice:SECRET@host")
    assert not is_logged(tmp_path, "http://bob:SECRET@host")
