"""Many trials, several workers and drivers: each once, none lost, and little time between them."""

import multiprocessing
import statistics
import time
from functools import partial
from multiprocessing import forkserver
from pathlib import Path

import optuna
import pytest

from harness.engine import driver, server
from harness.engine.driver import Place
from harness.engine.events import Event
from harness.engine.local import LocalExecutor
from harness.engine.storage import open_storage, url
from tests.harness.engine import instant
from tests.harness.engine.running import agenda, run


def states(folder: Path) -> list[str]:
    storage = open_storage(url(None, folder))
    study = optuna.load_study(study_name="toy", storage=storage)
    return [item.state.name for item in study.get_trials(deepcopy=False)]


@pytest.mark.parametrize("count", [40, pytest.param(300, marks=pytest.mark.slow)])
def test_each_trial_runs_once_and_none_is_lost(tmp_path: Path, count: int) -> None:
    todo, warned = agenda(tmp_path, range(1, count + 1)), list[str]()
    executor = LocalExecutor(["cpu"] * 4, instant.perform)
    summary, events = run(todo, tmp_path / "runs", executor=executor, warned=warned)
    folder = tmp_path / "runs" / "toy"
    assert warned == []
    assert [item.trial for item in summary.records] == [spec.trial for spec in todo.specs]
    assert instant.noted(folder, instant.RAN) == dict.fromkeys(
        (spec.trial for spec in todo.specs), 1
    )
    assert [event.kind for event in events].count("finished") == count
    assert states(folder) == ["COMPLETE"] * count
    assert len(instant.noted(folder, instant.PIDS)) == 4, "workers stay warm"


def test_a_warm_worker_gets_its_next_trial_at_once(tmp_path: Path) -> None:
    times: list[float] = []

    def note(event: Event) -> None:
        if event.kind == "finished":
            times.append(time.monotonic())

    todo = agenda(tmp_path, range(1, 21))
    executor = LocalExecutor(["cpu"], instant.perform)
    driver.run(todo, executor, Place(tmp_path / "runs"), note)
    gaps = [after - before for before, after in zip(times, times[1:], strict=False)]
    assert statistics.median(gaps) < 0.3


def drive(folder: Path, out: Path, count: int) -> None:
    """Run a study, in a process that another driver works beside."""
    forkserver._forkserver.ensure_running = lambda: None  # type: ignore[method-assign]
    server.warm_up = lambda: None
    executor = LocalExecutor(["cpu"], partial(instant.perform, seconds=0.02))
    run(agenda(folder, range(1, count + 1)), out, executor=executor)


def test_drivers_share_a_study(tmp_path: Path) -> None:
    server.warm_up()
    context = multiprocessing.get_context("forkserver")
    processes = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        target = (tmp_path / name, tmp_path / "runs", 30)
        processes.append(context.Process(target=drive, args=target))
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    folder = tmp_path / "runs" / "toy"
    ran = instant.noted(folder, instant.RAN)
    assert len(ran) == 30
    assert set(ran.values()) == {1}
    assert states(folder) == ["COMPLETE"] * 30
    assert len(instant.noted(folder, instant.PIDS)) == 2, "both had a part in it"
