"""Two at one trial: who lost a claim writes nothing, and a clash is no failure of the trial."""

import contextlib
import multiprocessing
import os
import signal
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest

from harness.engine import driver, ledger, owner, server, storage
from harness.engine.entries import Claim
from harness.engine.executor import Job
from harness.engine.ledger import Ledger
from harness.engine.local import LocalExecutor
from harness.engine.storage import url
from harness.records import Failure, Record, record
from harness.trials import folders
from tests.harness.engine import instant
from tests.harness.engine.instant import Inline
from tests.harness.engine.running import agenda, run
from tests.patience import wait_for


def opened(folder: Path, widths: list[int]) -> Ledger:
    out = folder / "runs" / "toy"
    out.mkdir(parents=True, exist_ok=True)
    return Ledger(agenda(folder, widths), out, url(None, out))


def claimed(book: Ledger) -> Claim:
    book.adopt({})
    found = book.claim()
    assert found is not None
    return found


def take_over(folder: Path, trial: str) -> Claim:
    """Claim a trial of another driver, as if that were dead."""
    book = opened(folder, [1, 2])  # the same process: what it does not remember it forgot
    found = claimed(book)
    assert found.spec.trial == trial
    return found


def test_a_trial_is_its_last_claims(tmp_path: Path) -> None:
    first = opened(tmp_path, [1, 2])
    one = claimed(first)
    assert first.holds(one)
    two = take_over(tmp_path, one.spec.trial)
    assert one.token != two.token
    assert not first.holds(one)
    first.tell(one, instant.made(one.spec))
    first.give_back(one, "crash")
    (entry, *_) = first.study.get_trials()
    assert entry.state.name == "RUNNING", "what the first says of it does not count"
    assert first.holds(two), "nor does it take the second's claim away"


def test_a_folder_is_put_in_place_by_who_holds_the_claim(tmp_path: Path) -> None:
    study, result = tmp_path / "toy", "result"
    for token in ("old", "new"):
        partial = folders.partial_folder(study, "abc", token)
        partial.mkdir(parents=True)
        (partial / result).write_text(token, "utf-8")
    folders.claim(study, "abc", "old")
    folders.claim(study, "abc", "new")
    folders.place(folders.partial_folder(study, "abc", "new"), study / "abc", "new")
    folders.give_up(study, "abc", "new")
    with pytest.raises(folders.ClaimLost, match="taken this trial over"):
        folders.place(folders.partial_folder(study, "abc", "old"), study / "abc", "old")
    assert (study / "abc" / result).read_text("utf-8") == "new"


def test_what_nobody_runs_is_swept_up_and_nothing_else(tmp_path: Path) -> None:
    kept = [".partial-a-1", ".replaced-a", "done", ".lock-of-mine"]
    for name in (*kept, ".partial-a-0", ".partial-b-1", ".replaced-b"):
        (tmp_path / name).mkdir()
    for trial in ("a", "b"):
        folders.claim(tmp_path, trial, "1")
    folders.sweep(tmp_path, {("a", "1"), (None, "")})
    assert sorted(item.name for item in tmp_path.iterdir()) == sorted([*kept, ".claim-a"])


class Overtaken(Inline):
    """Carries out jobs; during the first, another driver takes its trial over and finishes it."""

    def __init__(self, folder: Path, outcome: Failure | None) -> None:
        super().__init__(lambda job: instant.made(job.spec))
        self.folder, self.outcome = folder, outcome

    def submit(self, job: Job) -> None:
        """Do as a worker does that put its folder nowhere, or failed."""
        if self.jobs:
            super().submit(job)
            return
        self.jobs.append(job)
        theirs = take_over(self.folder, job.trial)
        instant.made(theirs.spec, started=42.0).write(job.folder / job.trial)
        failure = self.outcome or Failure(cause="error", message="record: taken over")
        self.messages.append(driver.Lost(job.trial, failure))


@pytest.mark.parametrize(
    "outcome", [None, Failure(cause="crash", message=""), Failure(cause="timeout", message="")]
)
def test_a_finished_result_of_another_driver_stays(tmp_path: Path, outcome: Failure | None) -> None:
    todo = agenda(tmp_path, [1, 2])
    summary, events = run(todo, tmp_path / "runs", executor=Overtaken(tmp_path, outcome))
    first = todo.specs[0].trial
    assert record.read(tmp_path / "runs" / "toy" / first).timings["started"] == 42.0
    assert [item.state for item in summary.records] == ["done", "done"]
    assert summary.failed == []
    told = [event.kind for event in events if event.trial == first]
    assert told == ["started", "taken_over"], "no tracker hears of it from here"


def test_a_failure_that_another_driver_healed_is_none_in_the_end(tmp_path: Path) -> None:
    todo = agenda(tmp_path, [1, 2])

    class Healed(Inline):
        def submit(self, job: Job) -> None:
            super().submit(job)
            if len(self.jobs) == 2:
                instant.made(todo.specs[0]).write(job.folder / todo.specs[0].trial)

    failure = Failure(cause="error", message="on purpose")
    failed = iter([{"state": "failed", "failure": failure}, {}])
    work = Healed(lambda job: instant.made(job.spec).model_copy(update=next(failed)))
    summary, _ = run(todo, tmp_path / "runs", executor=work)
    assert summary.failed == []
    assert len(summary.records) == 2


def test_only_a_process_that_is_stopped_loses_its_trials_by_silence_here() -> None:
    me = owner.me()
    assert not owner.is_gone(me, silent=True), "it may be slow"
    assert owner.is_gone(me._replace(place="another machine's"), silent=True)
    assert not owner.is_gone(me._replace(place="another machine's"), silent=False)
    child = os.fork()
    if child == 0:
        os.kill(os.getpid(), signal.SIGSTOP)
        os._exit(0)
    try:
        os.waitpid(child, os.WUNTRACED)
        born = owner._born(child)
        assert born is not None
        stopped = me._replace(pid=child, born=born)
        assert owner.is_gone(stopped, silent=True)
        assert not owner.is_gone(stopped, silent=False)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


GRACE = 2


def perform(job: Job, **options: Any) -> Record:
    """Pretend to work; the first process to come waits to be stopped in the middle."""
    first = job.folder / "stopped"
    with contextlib.suppress(FileExistsError):
        first.touch(exist_ok=False)
        instant.note(job.folder, "ready", str(os.getpid()))
        wait_for((job.folder / "woken").exists, "the other driver's end")
        raise RuntimeError("what it runs into once it is awake")
    return instant.perform(job, **options)


def drive(folder: Path, out: Path, driver_file: Path) -> None:
    """Run a study with a short grace, in a process that may be stopped."""
    forkserver._forkserver.ensure_running = lambda: None  # type: ignore[method-assign]
    server.warm_up = lambda: None
    storage.GRACE_SECONDS = ledger.GRACE_SECONDS = GRACE
    storage.HEARTBEAT_SECONDS = ledger.HEARTBEAT_SECONDS = driver.HEARTBEAT_SECONDS = 1
    driver_file.write_text(str(os.getpid()), "utf-8")
    summary, _ = run(agenda(folder, [1, 2, 3]), out, executor=LocalExecutor(["cpu"], perform))
    if [item.state for item in summary.records] != ["done"] * 3:
        os._exit(3)


def test_a_process_that_is_stopped_and_woken_replaces_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.warm_up()
    monkeypatch.setattr(storage, "GRACE_SECONDS", GRACE)
    context = multiprocessing.get_context("forkserver")
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    out, pids = tmp_path / "runs", tmp_path / "pid"
    folder = out / "toy"
    first = context.Process(target=drive, args=(tmp_path / "one", out, pids))
    first.start()
    wait_for(lambda: instant.noted(folder, "ready"), "the first trial")
    ours = [int(pids.read_text("utf-8")), *map(int, instant.noted(folder, "ready"))]
    try:
        for pid in ours:
            os.kill(pid, signal.SIGSTOP)
        wait_for(lambda: _silent(folder), "the end of the first driver's grace")
        second = context.Process(target=drive, args=(tmp_path / "two", out, tmp_path / "other"))
        second.start()
        second.join()
        assert second.exitcode == 0, "it took the trial over and finished everything"
        before = {trial: item.to_json() for trial, item in folders.read_all(folder).items()}
    finally:
        (folder / "woken").touch()
        for pid in ours:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
    first.join()
    assert first.exitcode == 0, "its trial is done, by whomever"
    after = {trial: item.to_json() for trial, item in folders.read_all(folder).items()}
    assert after == before
    left = [item.name for item in folder.iterdir() if item.name.startswith((".partial", ".claim"))]
    assert left == []


def _silent(folder: Path) -> bool:
    """Say whether a running trial's heart has not beaten for longer than the grace."""
    opened = storage.open_storage(url(None, folder))
    return bool(opened._get_stale_trial_ids(opened.get_study_id_from_name("toy")))
