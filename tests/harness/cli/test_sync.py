import json
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from harness import cli
from harness.tracking import Outbox, Tracker, is_logged, logged, outbox
from tests.harness.tracking.trackers import Server, make, runs, trials
from tests.patience import HANG, wait_for

AWAY = "http://127.0.0.1:9"  # nobody answers there


@pytest.fixture
def uri(tmp_path: Path, empty_tracker: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    shutil.copy(empty_tracker, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def sync(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, Any]:
    status = cli.main(["sync", *arguments, "--json"])
    return status, json.loads(capsys.readouterr().out)


def test_what_is_missing_is_sent(uri: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "abc":
        make(Path("runs/toy", name))
    Tracker(uri).send(make(Path("runs/toy/d")), Path("runs/toy/d"))
    status, (found,) = sync(capsys, "toy", "--tracking-uri", uri)
    assert (status, found) == (0, {"study": "toy", "sent": 3, "held": 1, "failed": {}})
    assert sorted(run.data.tags["detbench.trial"] for run in trials(uri)) == ["a", "b", "c", "d"]
    status, (found,) = sync(capsys, "runs/toy", "--tracking-uri", uri)
    assert (found["sent"], found["held"]) == (0, 4)


def test_all_studies_share_the_columns_of_their_own_knobs(
    uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make(Path("runs/toy/a"), overrides={"detector.width": 4})
    make(Path("runs/toy/b"), overrides={"detector.knob7": 7})
    make(Path("runs/other/a"), study="other", overrides={})
    Path("runs/empty").mkdir()
    status, found = sync(capsys, "all", "--tracking-uri", uri)
    assert [item["study"] for item in found] == ["other", "toy"]
    assert {(run.data.params["width"], run.data.params["knob7"]) for run in trials(uri)} == {
        ("4", "7")
    }
    assert "width" not in trials(uri, "other")[0].data.params


def test_a_record_that_cannot_be_read_keeps_no_other_study_from_the_tracker(
    uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    make(Path("runs/toy/a"))
    broken = Path("runs/broken/a/record.json")
    broken.parent.mkdir(parents=True)
    broken.write_text("{}", encoding="utf-8")
    status, found = sync(capsys, "all", "--tracking-uri", uri)
    assert (status, len(trials(uri))) == (1, 1)
    assert "not a record of schema 1" in found[0]["failed"]["broken"]


def test_a_tracker_that_lost_runs_is_filled_again(
    uri: str, empty_tracker: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path("runs/toy/a")
    first = Tracker(uri).send(make(folder), folder)
    other = f"sqlite:///{tmp_path / 'lost.db'}"
    shutil.copy(empty_tracker, tmp_path / "lost.db")
    (folder / "mlflow.json").write_text(json.dumps({other: first, uri: first}), "utf-8")
    _, (found,) = sync(capsys, "toy", "--tracking-uri", other)
    assert found["sent"] == 1
    assert logged(folder)[uri] == first
    assert logged(folder)[other] == trials(other)[0].info.run_id != first


def test_what_the_tracker_holds_is_remembered_where_that_was_forgotten(
    uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path("runs/toy/a")
    run = Tracker(uri).send(make(folder), folder)
    (folder / "mlflow.json").unlink()
    _, (found,) = sync(capsys, "toy", "--tracking-uri", uri)
    assert found["held"] == 1
    assert logged(folder) == {uri: run}


def test_figures_that_are_new_since_are_sent_to_the_run_that_is_there(
    uri: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = Path("runs/toy/a")
    run = Tracker(uri).send(make(folder), folder)
    together = {"together": {"session": "ab", "finished": 1010.0}}
    make(folder, metrics={"mAP": 0.5, "latency_ms": 1.5}, details=together)
    _, (found,) = sync(capsys, "toy", "--tracking-uri", uri)
    assert (found["sent"], found["held"]) == (1, 0)
    (held,) = trials(uri)
    assert (held.info.run_id, held.data.metrics["latency_ms"]) == (run, 1.5)
    _, (found,) = sync(capsys, "toy", "--tracking-uri", uri)
    assert (found["sent"], found["held"]) == (0, 1)


def test_a_tracker_that_is_away_makes_the_exit_status_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    make(Path("runs/toy/a"))
    status, (found,) = sync(capsys, "toy", "--tracking-uri", AWAY)
    assert status == 1
    assert "refused" in found["failed"]["a"]
    assert cli.main(["sync", "toy", "--tracking-uri", AWAY]) == 1
    assert "toy: 0 sent, 0 were there, 1 could not be sent (" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["all", "empty"])
def test_a_study_without_records_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    name: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("runs/empty").mkdir(parents=True)
    assert cli.main(["sync", name]) == 2
    assert f"no records of {name} in runs; name their folder with --out" in capsys.readouterr().err


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    one = Server(tmp_path)
    try:
        one.start()
        yield one
    finally:
        one.stop()


def are_logged(folders: list[Path], uri: str) -> bool:
    return all(is_logged(folder, uri) for folder in folders)


@pytest.mark.slow
@pytest.mark.timeout(4 * HANG)
def test_nothing_is_missing_after_an_outage(
    tmp_path: Path,
    server: Server,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(outbox, "SECONDS_BETWEEN_ATTEMPTS", (600.0,))
    folders = [Path("runs/toy", f"t{number}") for number in range(9)]
    warnings: list[str] = []
    with Outbox("toy", server.uri, warn=warnings.append) as box:
        for number, folder in enumerate(folders):
            make(folder)
            box.put(folder)
            if number == 2:
                wait_for(partial(are_logged, folders[:3], server.uri), "that three are sent")
                server.stop()
    assert warnings[1] == "6 trials are not in MLflow; `detbench sync toy` sends them"
    server.start()
    status, (found,) = sync(capsys, "toy", "--tracking-uri", server.uri)
    assert (status, found["sent"], found["held"]) == (0, 6, 3)
    names = sorted(run.data.tags["detbench.trial"] for run in trials(server.uri))
    assert names == [folder.name for folder in folders]
    assert {run.info.status for run in runs(server.uri)} == {"FINISHED"}
