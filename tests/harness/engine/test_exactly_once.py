"""Many trials, several workers and drivers: each once, none lost, and little time between them."""

import multiprocessing
import os
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import optuna
import pytest

from harness.engine import driver, server
from harness.engine.driver import Place
from harness.engine.executor import Finished, Job, Message
from harness.engine.local import LocalExecutor
from harness.engine.storage import open_storage, url
from harness.records import Record
from tests.harness.engine import instant
from tests.harness.engine.running import agenda, run
from tests.patience import HANG, wait_for


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


class Noting(LocalExecutor):
    """Notes what the driver asks of it, and what it had to say."""

    def __init__(self) -> None:
        super().__init__(["cpu"], instant.perform)
        self.asked: list[str] = []

    def submit(self, job: Job) -> None:
        """Note a job."""
        self.asked.append("submit")
        super().submit(job)

    def wait(self, timeout: float) -> list[Message]:
        """Note whether a job was over; to hear nothing is to have waited for nothing."""
        said = super().wait(timeout)
        assert said, (
            f"nothing happened in {timeout} s: the driver waits for time and not for events"
        )
        self.asked.append("over" if any(isinstance(one, Finished) for one in said) else "step")
        return said


def test_a_warm_worker_gets_its_next_trial_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two trials the driver neither waits nor sleeps, and no process is started."""
    monkeypatch.setattr(driver, "SECONDS_A_ROUND", HANG)
    monkeypatch.setattr(driver, "SECONDS_BETWEEN_CLAIMS", HANG)
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("the driver sleeps"))
    todo, executor = agenda(tmp_path, range(1, 21)), Noting()
    driver.run(todo, executor, Place(tmp_path / "runs"), lambda event: None)
    turns = [what for what in executor.asked if what != "step"]
    assert turns == ["submit", "over"] * 20
    after = [
        executor.asked[at + 1] for at, what in enumerate(executor.asked[:-1]) if what == "over"
    ]
    assert after == ["submit"] * 19
    assert len(instant.noted(tmp_path / "runs" / "toy", instant.PIDS)) == 1


def perform_once_both_are_there(job: Job, **options: Any) -> Record:
    """Pretend to work, but not before the worker of the other driver has work as well."""
    instant.note(job.folder, "there", str(os.getpid()))
    wait_for(lambda: len(instant.noted(job.folder, "there")) == 2, "the other driver's first trial")
    return instant.perform(job, **options)


def drive(folder: Path, out: Path, count: int) -> None:
    """Run a study, in a process that another driver works beside."""
    forkserver._forkserver.ensure_running = lambda: None  # type: ignore[method-assign]
    server.warm_up = lambda: None
    executor = LocalExecutor(["cpu"], perform_once_both_are_there)
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
