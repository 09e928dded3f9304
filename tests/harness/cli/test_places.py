import json
import shutil
from pathlib import Path

import pytest

from harness import cli
from harness.engine.storage import open_storage, url
from harness.machine import locks
from tests import lanes
from tests.harness.studies import TOY, write
from tests.harness.tracking.nonsense import served

ODD = ("a%20b", "what?mode=ro", "a#b", "a:b@c", "{x}", "%3F")
ALL_AT_ONCE = " ".join(ODD)
SECRET = "SE%40CRET"


def detbench(*arguments: object) -> int:
    return cli.main([str(item) for item in arguments])


@pytest.fixture(autouse=True)
def _own_locks(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.mktemp("locks")
    monkeypatch.setattr(locks, "_folder", lambda: folder)


def study(folder: Path) -> Path:
    shapes = {key: value for key, value in TOY["set"].items() if key.startswith("data.")}
    return write(folder, measure=["complexity"], recipe=None, set=shapes)


@pytest.mark.parametrize("name", lanes.split([ALL_AT_ONCE, *ODD], (ALL_AT_ONCE,)))
def test_a_study_runs_in_a_folder_of_any_name(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    empty_tracker: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / name
    folder.mkdir()
    shutil.copy(empty_tracker, folder / "mlflow.db")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(folder)
    file = study(folder)
    before = {item.name for item in tmp_path.iterdir()}
    assert detbench("run", file, "--device", "cpu", "--json") == 0
    assert "not in MLflow" not in capfd.readouterr().err
    assert (folder / "runs" / "toy" / "study.db").stat().st_size
    assert len(list((folder / "runs" / "toy").glob("*/mlflow.json"))) == 2
    assert detbench("status", file, "--json") == 0
    assert json.loads(capfd.readouterr().out)["counts"]["done"] == 2
    assert detbench("sync", "all") == 0
    assert "0 sent, 2 were there" in capfd.readouterr().out
    assert {item.name for item in tmp_path.iterdir()} == before


def test_passwords_stand_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_PASSWORD", "SECRET")
    with served("html") as server:
        place = server.uri.removeprefix("http://")
        tracker = f"http://alice:{SECRET}@{place}/?token=SECRET"
        arguments = ("run", study(tmp_path), "--device", "cpu", "--tracking-uri", tracker)
        monkeypatch.setattr("sys.argv", ["detbench", *map(str, arguments)])
        assert detbench(*arguments) == 0
        assert detbench("sync", "toy", "--tracking-uri", tracker) == 1
    storage = f"postgresql+nothing://alice:{SECRET}@127.0.0.1:1/db?password=SECRET"
    assert detbench("run", study(tmp_path), "--device", "cpu", "--storage", storage) == 2
    printed = capfd.readouterr()
    assert "http://alice:***@127.0.0.1" in printed.err
    assert "postgresql+nothing://alice:***@127.0.0.1:1/db" in printed.err
    pages = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert any("http://alice:***@" in file.read_text("utf-8", "replace") for file in pages)
    texts = [printed.out, printed.err, *(file.read_bytes().decode("latin-1") for file in pages)]
    assert [text for text in texts if "SECRET" in text or "SE@CRET" in text] == []


def test_a_storage_that_is_no_database_is_named_by_its_path(tmp_path: Path) -> None:
    folder = tmp_path / "a%20b"
    folder.mkdir()
    (folder / "study.db").write_bytes(b"something else, and enough of it" * 100)
    with pytest.raises(ValueError, match=f"--storage {folder}/study.db: .*remove the file"):
        open_storage(url(None, folder))
