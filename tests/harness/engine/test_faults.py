"""What goes wrong with trials, disks, records and clocks: a clear word, and nothing lost."""

import errno
import json
import os
import signal
import threading
import time
from functools import partial
from pathlib import Path

import pytest

from harness.engine import driver
from harness.engine.events import Event
from harness.engine.executor import Job
from harness.engine.local import LocalExecutor
from harness.engine.status import status
from harness.records import Failure, Record, record
from harness.records.progress import Progress
from harness.trials import folders
from tests.harness.engine import instant
from tests.harness.engine.instant import Inline
from tests.harness.engine.running import agenda, run

NO_ROOM = os.strerror(errno.ENOSPC)


def failing(cause: str, times: int, message: str = "") -> Inline:
    """Return an executor whose first jobs fail."""
    left = [times]

    def work(job: Job) -> Record | Failure:
        left[0] -= 1
        if left[0] < 0:
            return instant.made(job.spec)
        return Failure(cause=cause, message=message or "on purpose")

    return Inline(work)


@pytest.mark.parametrize(
    ("cause", "times", "given", "state"),
    [
        ("crash", 1, {}, "done"),
        ("crash", 2, {}, "failed"),
        ("crash", 2, {"crash": 2}, "done"),
        ("lost_worker", 3, {}, "done"),
        ("out_of_memory", 1, {}, "failed"),
        ("out_of_memory", 1, {"out_of_memory": 1}, "done"),
        ("crash", 1, {"crash": 0}, "failed"),
    ],
)
def test_each_cause_has_its_number_of_attempts(
    tmp_path: Path, cause: str, times: int, given: dict[str, int], state: str
) -> None:
    todo = agenda(tmp_path, [1, 2], retries=given)
    summary, events = run(todo, tmp_path / "runs", executor=failing(cause, times))
    assert [item.state for item in summary.records] == [state, "done"]
    retried = [event.failure.cause for event in events if event.failure]
    assert retried == [cause] * (times if state == "done" else times - 1)
    if state == "failed":
        found = record.read(tmp_path / "runs" / "toy" / todo.specs[0].trial)
        assert found.failure is not None
        assert found.failure.cause == cause


def test_a_trial_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    class Endless(Inline):
        def submit(self, job: Job) -> None:
            self.jobs.append(job)

    todo, endless = agenda(tmp_path, [1], timeout_hours=1e-9), Endless(lambda job: None)  # type: ignore[arg-type, return-value]
    summary, _ = run(todo, tmp_path / "runs", executor=endless)
    assert endless.killed == [todo.specs[0].trial]
    (failed,) = summary.failed
    assert failed.failure is not None
    assert failed.failure.cause == "timeout"


def test_a_full_disk_ends_the_run_and_no_trial(tmp_path: Path) -> None:
    todo = agenda(tmp_path, [1, 2, 3])
    full = failing("error", 1, f"record: [Errno {errno.ENOSPC}] {NO_ROOM}: 'record.json'")
    summary, _ = run(todo, tmp_path / "runs", executor=full)
    assert summary.records == []
    assert summary.halted is not None
    assert NO_ROOM in summary.halted
    assert summary.halted.endswith("free some, and run again")
    summary, _ = run(todo, tmp_path / "runs", executor=failing("error", 0))
    assert len(summary.records) == 3


def test_a_disk_that_is_full_for_the_driver_ends_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(result: Record, folder: Path) -> Path:
        raise OSError(errno.ENOSPC, NO_ROOM, str(folder))

    todo = agenda(tmp_path, [1])
    with monkeypatch.context() as patch:
        patch.setattr(Record, "write", fails)
        patch.setattr(driver, "SECONDS_TO_STOP", 0.0)  # the job is over, and will say nothing
        summary, _ = run(todo, tmp_path / "runs", executor=failing("out_of_memory", 1))
    assert NO_ROOM in str(summary.halted)
    summary, _ = run(todo, tmp_path / "runs", executor=failing("error", 0))
    assert [item.state for item in summary.records] == ["done"]


@pytest.mark.parametrize(
    "content", [b"", b'{"schema": 1, "stu', b'{"schema": 99}', b"\xff\xfe\x00"]
)
def test_an_unreadable_record_is_set_aside_and_its_trial_run_anew(
    tmp_path: Path, content: bytes
) -> None:
    todo, warned = agenda(tmp_path, [1, 2]), list[str]()
    run(todo, tmp_path / "runs", executor=failing("error", 0))
    folder, trial = tmp_path / "runs" / "toy", todo.specs[0].trial
    (folder / trial / record.FILE).write_bytes(content)
    again = failing("error", 0)
    summary, _ = run(todo, tmp_path / "runs", executor=again, warned=warned)
    assert [job.trial for job in again.jobs] == [trial]
    assert [item.state for item in summary.records] == ["done", "done"]
    (message,) = warned
    assert trial in message
    assert message.endswith("and the trial is run anew")
    kept = folder / f"{folders.UNREADABLE}{trial}-1" / record.FILE
    assert kept.read_bytes() == content
    assert len(record.read_all(folder)) == 2


def test_a_clock_that_goes_backwards_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [2e9]

    def backwards() -> float:
        clock[0] -= 1000
        return clock[0]

    monkeypatch.setattr(time, "time", backwards)
    todo = agenda(tmp_path, [1, 2, 3], timeout_hours=1)
    summary, _ = run(todo, tmp_path / "runs", executor=failing("crash", 1))
    assert [item.state for item in summary.records] == ["done"] * 3
    found = status("toy", 3, tmp_path / "runs" / "toy", None)
    assert found["counts"]["done"] == 3


def test_an_interrupt_gives_trials_back_and_the_next_run_goes_on(tmp_path: Path) -> None:
    todo = agenda(tmp_path, range(1, 5))
    seen: list[Event] = []

    def interrupt(event: Event) -> None:
        seen.append(event)
        if event.kind == "finished":
            os.kill(os.getpid(), signal.SIGINT)

    slow = LocalExecutor(["cpu"], partial(instant.perform, seconds=0.3))
    with pytest.raises(KeyboardInterrupt):
        driver.run(todo, slow, driver.Place(tmp_path / "runs"), interrupt)
    folder = tmp_path / "runs" / "toy"
    finished = [event.trial for event in seen if event.kind == "finished"]
    assert len(finished) in (1, 2)
    assert {item.trial for item in record.read_all(folder)} == set(finished)
    assert not list(folder.glob(".partial*"))
    counts = status("toy", 4, folder, None)["counts"]
    assert (counts["running"], counts["waiting"]) == (0, 4 - len(finished))
    summary, events = run(todo, tmp_path / "runs", executor=LocalExecutor(["cpu"], instant.perform))
    assert summary.skipped == len(finished)
    assert len(summary.records) == 4


def test_status_tells_who_runs_what_and_what_failed(tmp_path: Path) -> None:
    todo = agenda(tmp_path, [1, 2, 3, 4])
    folder = tmp_path / "runs" / "toy"
    assert status("toy", 4, folder, None)["counts"]["waiting"] == 4
    told: list[dict[str, object]] = []

    def look(job: Job) -> Record | Failure:
        if job.spec.overrides["detector.width"] == 1:
            return Failure(cause="not_finite", message="loss is NaN at step 3")
        told.append(status("toy", 4, folder, None))
        return instant.made(job.spec)

    run(todo, tmp_path / "runs", executor=Inline(look))
    found = told[1]
    assert found["counts"] == {"done": 1, "pruned": 0, "failed": 1, "running": 1, "waiting": 1}
    (running,) = found["running"]  # type: ignore[misc]
    assert running["name"] == "width=3"  # type: ignore[index]
    assert running["owner"].endswith(f":{os.getpid()}")  # type: ignore[index]
    assert not running["owner_is_dead"]  # type: ignore[index]
    assert found["failures"] == [
        {
            "cause": "not_finite",
            "trials": [todo.specs[0].trial],
            "message": "loss is NaN at step 3",
        }
    ]
    assert "eta_s" in found
    json.dumps(found)
    (folder / "study.db").unlink()
    assert status("toy", 4, folder, None)["counts"]["done"] == 3, "the records know"


def test_the_judge_is_asked_and_what_it_gives_up_is_pruned(tmp_path: Path) -> None:
    todo = agenda(tmp_path, [1, 5], constraints={"macs": "<= 3000"})
    executor = LocalExecutor(["cpu"], instant.perform)
    summary, _ = run(todo, tmp_path / "runs", executor=executor)
    assert [item.state for item in summary.records] == ["done", "pruned"]
    assert "macs is 5000" in str(summary.records[1].stopped)
    assert summary.failed == []
    assert status("toy", 2, tmp_path / "runs" / "toy", None)["counts"]["pruned"] == 1


@pytest.mark.parametrize(("limit", "states"), [("<= 4000", ["done", "pruned"]),
                                               ("<= 6000", ["done", "done"])])  # fmt: skip
def test_what_a_limit_ruled_out_is_run_once_the_limit_is_lifted(
    tmp_path: Path, limit: str, states: list[str]
) -> None:
    for text in ("<= 3000", limit):
        todo = agenda(tmp_path, [1, 5], constraints={"macs": text})
        executor = LocalExecutor(["cpu"], instant.perform)
        summary, events = run(todo, tmp_path / "runs", executor=executor)
    assert [item.state for item in summary.records] == states
    assert [item.trial for item in events if item.kind == "started"] == [
        item.trial for item in summary.records[1:] if item.state == "done"
    ]


SEARCH = {
    "space": {"detector.width": {"low": 1, "high": 6}},
    "objectives": {"macs": "minimize"},
    "sampler": {"type": "random"},
    "trials": 4,
}


def test_a_search_finds_as_many_configurations_as_it_may(tmp_path: Path) -> None:
    todo = agenda(tmp_path, [], sweep=None, search=SEARCH)
    executor = failing("crash", 1)
    summary, _ = run(todo, tmp_path / "runs", executor=executor)
    assert len({item.trial for item in summary.records}) == 4
    assert {item.state for item in summary.records} == {"done"}
    (tmp_path / "runs" / "toy" / "study.db").unlink()
    more = agenda(tmp_path, [], sweep=None, search={**SEARCH, "trials": 9})
    summary, events = run(more, tmp_path / "runs", executor=failing("error", 0))
    assert summary.skipped == 4, "a search that lost its storage knows its records"
    assert len(summary.records) == 6, "there are no more configurations"
    assert [event.kind for event in events].count("started") == 2


def test_progress_of_a_step_reaches_the_watcher(tmp_path: Path) -> None:
    executor = LocalExecutor(["cpu"], partial(instant.perform, seconds=1.0))
    _, events = run(agenda(tmp_path, [1]), tmp_path / "runs", executor=executor)
    steps = [event.progress for event in events if event.progress]
    assert steps[0] == Progress("train", 0, instant.STEPS, {})
    assert len(steps) > 2


def test_interrupts_are_heeded_in_the_main_thread_only() -> None:
    from harness.engine.interrupt import heeded

    def elsewhere() -> None:
        with heeded() as asked:
            results.append(asked())

    results: list[bool] = []
    before = signal.getsignal(signal.SIGINT)
    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert results == [False]
    with heeded() as asked:
        signal.raise_signal(signal.SIGINT)
        assert asked()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
