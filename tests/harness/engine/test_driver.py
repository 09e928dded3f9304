import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from filelock import FileLock

from harness.engine import devices, driver, local, server
from harness.engine.driver import Place
from harness.engine.events import Event
from harness.engine.executor import Message
from harness.engine.local import Line, LocalExecutor
from harness.records import record
from harness.records.progress import Progress
from harness.study import StudyError
from harness.trials import folders, trainings
from tests.harness.engine import instant
from tests.harness.engine.instant import Inline
from tests.harness.engine.running import agenda, run
from tests.harness.studies import TOY
from tests.patience import HANG

CRASH = """
import os, signal
from dataclasses import dataclass
from tests.toy import ToyConfig

@dataclass(frozen=True)
class Crashing(ToyConfig):
    def build(self):
        if self.width == 4 and not os.path.exists(CALM):
            os.kill(os.getpid(), signal.SIGKILL)
        if self.width == 5 and not os.path.exists(CALM):
            raise ValueError("no such width")
        return super().build()

CONFIG = Crashing()
CALM = "{calm}"
"""


def test_trials_run_in_workers_and_finished_ones_stand(tmp_path: Path) -> None:
    todo = agenda(tmp_path, [4, 8])
    specs = todo.specs
    summary, events = run(todo, tmp_path / "runs", workers=2)
    assert [item.trial for item in summary.records] == [spec.trial for spec in specs]
    assert (summary.failed, summary.skipped) == ([], 0)
    assert {event.kind for event in events} == {"started", "progress", "finished"}
    assert all(item.environment for item in summary.records)
    files = [tmp_path / "runs" / "toy" / spec.trial / record.FILE for spec in specs]
    before = [file.stat().st_mtime_ns for file in files]
    summary, events = run(todo, tmp_path / "runs")
    assert [event.kind for event in events] == ["skipped", "skipped"]
    assert summary.skipped == 2
    assert [file.stat().st_mtime_ns for file in files] == before


class Slow(Inline):
    """Has two jobs at a time, and ends the older one each time it is asked."""

    slots = 2

    def wait(self, timeout: float) -> list[Message]:
        """Return what came of the older job."""
        said, self.messages = self.messages[:1], self.messages[1:]
        return said


def test_no_slot_waits_for_a_training_while_there_is_something_else_to_do(tmp_path: Path) -> None:
    sweep = {"recipe.lr": [0.1, 0.2], "detector.postprocess.score_threshold": [0.1, 0.2]}
    todo = agenda(tmp_path, [], sweep=sweep, measure=["accuracy"], recipe="smoke")
    first, its_second, other, others_second = (spec.trial for spec in todo.specs)
    executor = Slow(lambda job: instant.made(job.spec))
    run(todo, tmp_path / "runs", executor=executor)
    assert [job.trial for job in executor.jobs] == [first, other, its_second, others_second]


def test_a_training_that_another_process_makes_is_waited_for_last(tmp_path: Path) -> None:
    todo = agenda(tmp_path, [4, 8], measure=["accuracy"], recipe="smoke")
    shelf = record.make_folder(tmp_path / "runs" / trainings.SHELF)
    first, second = todo.specs
    executor = Inline(lambda job: instant.made(job.spec))
    with FileLock(shelf / f".{first.training}.lock"):
        run(todo, tmp_path / "runs", executor=executor)
    assert [job.trial for job in executor.jobs] == [second.trial, first.trial]


def test_a_process_that_dies_is_a_failed_trial_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = tmp_path / "calm"
    (tmp_path / "crashing.py").write_text(CRASH.format(calm=calm), "utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    todo = agenda(tmp_path, [4, 5, 8], detector="crashing:CONFIG")
    summary, events = run(todo, tmp_path / "runs")
    retried = [event.failure.cause for event in events if event.failure]
    assert retried == ["crash"]
    states = [item.state for item in summary.records]
    assert states == ["failed", "failed", "done"]
    crash, error = (item.failure for item in summary.records[:2])
    assert crash is not None
    assert crash.cause == "crash"
    assert "SIGKILL" in crash.message
    assert error is not None
    assert error.message == "build: no such width"
    assert record.read(tmp_path / "runs" / "toy" / todo.specs[0].trial).state == "failed"
    calm.touch()
    summary, events = run(todo, tmp_path / "runs")
    assert summary.failed == []
    assert [event.kind for event in events if event.kind != "progress"] == [
        "skipped",
        *["started", "finished"] * 2,
    ]


def test_what_a_killed_run_left_is_swept_up(tmp_path: Path) -> None:
    todo = agenda(tmp_path, [4])
    specs = todo.specs
    left = tmp_path / "runs" / "toy" / f"{folders.PARTIAL}{specs[0].trial}"
    left.mkdir(parents=True)
    (left / "weights.safetensors").write_bytes(b"half")
    run(todo, tmp_path / "runs")
    assert not left.exists()
    assert not (tmp_path / "runs" / "toy" / specs[0].trial / "weights.safetensors").exists()


def test_an_interrupt_ends_the_trials_under_way(tmp_path: Path) -> None:
    todo = agenda(
        tmp_path, [4, 8], set={**TOY["set"], "recipe.epochs": 100_000}, measure=["accuracy"]
    )

    interrupts = iter([KeyboardInterrupt])

    def interrupt(event: Event) -> None:
        if event.progress is not None and event.progress.phase == "train":
            for once in interrupts:
                raise once

    with pytest.raises(KeyboardInterrupt):
        driver.run(todo, LocalExecutor(["cpu"] * 2), Place(tmp_path / "runs"), interrupt)
    left = [item.name for item in (tmp_path / "runs" / "toy").iterdir() if item.is_dir()]
    assert left == []


def test_a_trial_does_not_outlive_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    import multiprocessing

    died = threading.Event()
    monkeypatch.setattr(local, "die", died.set)
    reader, writer = multiprocessing.Pipe()
    thread = threading.Thread(target=Line(reader).listen, daemon=True)
    thread.start()
    assert not died.wait(0.05)
    writer.close()
    assert died.wait(HANG)
    reader.close()
    thread.join()


def test_progress_is_thinned_out_but_phases_rows_and_ends_come_through() -> None:
    import multiprocessing

    reader, writer = multiprocessing.Pipe(duplex=False)
    report = Line(writer).advance
    row = {"epoch": 1.0, "step": 50.0}
    for done in range(1, 101):
        report(Progress("train", done, 100, {}, row=row if done == 50 else {}))
    report(Progress("evaluate", 1, 100, {}))
    writer.close()
    seen: list[Progress] = []
    while reader.poll() and len(seen) < 100:
        try:
            seen.append(reader.recv().progress)
        except EOFError:
            break
    reader.close()
    assert [(step.phase, step.done) for step in (seen[0], *seen[-2:])] == [
        ("train", 1),
        ("train", 100),
        ("evaluate", 1),
    ]
    assert [step.row for step in seen if step.row] == [row]
    assert len(seen) < 20


@pytest.mark.parametrize("name", ["tpu", "cuda:99", "cpux", "meta"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(StudyError, match=f"--device {name}"):
        devices.device(name)
    assert devices.device("cpu") == "cpu"


FOREVER = """
import os, signal, time
deaf = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
open("importing.part", "w").write(str(deaf))
os.rename("importing.part", "importing")
time.sleep(1000)
"""
LEAVES = """
import os, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts deaf
from harness.engine import server
server.PRELOAD[:] = ["forever"]
server.warm_up()
while not os.path.exists("importing"):
    time.sleep(0.01)
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
"""


def test_the_server_is_deaf_to_interrupts_and_does_not_outlive_its_parent(
    tmp_path: Path,
) -> None:
    (tmp_path / "forever.py").write_text(FOREVER, "utf-8")
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[3])])
    subprocess.run(
        [sys.executable, "-c", LEAVES],
        env={**os.environ, "PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        timeout=HANG,  # the server holds the pipes open as long as it lives
        check=True,
    )
    assert (tmp_path / "importing").read_text("utf-8") == "True", (
        "Ctrl-C would break the imports off"
    )


def test_a_platform_without_a_server_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    with pytest.raises(StudyError, match="WSL"):
        server.warm_up()
