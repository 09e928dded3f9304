"""A study whose state is kept in PostgreSQL."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest

from harness.engine import driver
from harness.engine.driver import Place
from harness.engine.events import Event
from harness.engine.local import LocalExecutor
from harness.engine.storage import StorageError, open_storage
from harness.records import record
from tests.cluster.conftest import Postgres
from tests.harness.engine.running import agenda, run
from tests.harness.studies import write

ROOT = Path(__file__).parents[2]
SECONDS_TO_HANG = 900
DRIVER = """
import json, sys
from pathlib import Path
from harness.engine.driver import Place
from tests.harness.engine.running import agenda, run

folder, out, url, count = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4])
folder.mkdir(parents=True)
summary, events = run(agenda(folder, range(2, 2 + count)), out, workers=2, storage=url)
print(json.dumps({
    "started": [event.trial for event in events if event.kind == "started"],
    "states": [item.state for item in summary.records],
}))
"""


def states(url: str) -> Counter[str]:
    """Return how many trials Optuna holds in each state."""
    storage = open_storage(url)
    study = optuna.load_study(study_name="toy", storage=storage)
    found = Counter(item.state.name for item in study.get_trials(deepcopy=False))
    storage.remove_session()
    storage.engine.dispose()
    return found


@pytest.mark.parametrize(
    ("count", "workers"), [(12, 2), pytest.param(300, 4, marks=pytest.mark.slow)]
)
def test_each_trial_runs_once_and_none_is_lost(
    tmp_path: Path, postgres: Postgres, count: int, workers: int
) -> None:
    url, out, warned = postgres.database(), tmp_path / "runs", list[str]()
    todo = agenda(tmp_path, range(2, 2 + count))
    summary, events = run(todo, out, workers=workers, storage=url, warned=warned)
    assert warned == []
    assert [item.state for item in summary.records] == ["done"] * count
    started = Counter(event.trial for event in events if event.kind == "started")
    assert started == Counter(spec.trial for spec in todo.specs)
    assert {item.trial for item in record.read_all(out / "toy")} == set(started)
    assert states(url) == {"COMPLETE": count}
    assert not (out / "toy" / "study.db").exists()


def test_a_study_outlives_a_restart_of_its_storage(tmp_path: Path, postgres: Postgres) -> None:
    url, warned, finished = postgres.database(), list[str](), list[str]()
    restart = threading.Thread(target=lambda: (time.sleep(1.5), postgres.start()))

    def watch(event: Event) -> None:
        if event.kind == "finished":
            finished.append(event.trial)
        if event.kind == "finished" and len(finished) == 2:
            postgres.stop()
            restart.start()

    todo = agenda(tmp_path, range(2, 8))
    place = Place(tmp_path / "runs", url)
    summary = driver.run(todo, LocalExecutor(["cpu"]), place, watch, warned.append)
    restart.join()
    assert [item.state for item in summary.records] == ["done"] * 6
    assert sorted(finished) == sorted(spec.trial for spec in todo.specs)
    assert states(url) == {"COMPLETE": 6}
    assert any("the study's storage is away" in text for text in warned)


def test_a_storage_that_is_not_there_is_refused_with_a_reason(
    tmp_path: Path, postgres: Postgres
) -> None:
    url = postgres.database().rpartition("/")[0] + "/nothing"
    with pytest.raises(StorageError, match='database "nothing" does not exist; is the database'):
        run(agenda(tmp_path, [4]), tmp_path / "runs", storage=url)


@pytest.mark.slow
def test_several_drivers_share_a_study(tmp_path: Path, postgres: Postgres) -> None:
    url, out, count = postgres.database(), tmp_path / "runs", 60
    write(tmp_path)
    drivers = [
        subprocess.Popen(
            [sys.executable, "-c", DRIVER, tmp_path / f"driver{i}", out, url, str(count)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        for i in range(3)
    ]
    try:
        told = [json.loads(item.communicate(timeout=SECONDS_TO_HANG)[0]) for item in drivers]
    finally:
        for item in drivers:
            item.kill()
    started = [trial for item in told for trial in item["started"]]
    assert len(started) == len(set(started)) == count
    assert states(url) == {"COMPLETE": count}
    assert len(record.read_all(out / "toy")) == count
