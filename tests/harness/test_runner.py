import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from harness import record, runner, server, study
from harness.progress import Progress
from harness.runner import Event
from harness.specification import TrialSpec
from harness.study import StudyError
from tests.harness.studies import TOY, write

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


def expand(folder: Path, widths: list[int], detector: str = "tests.toy:TOY") -> list[TrialSpec]:
    file = write(
        folder, sweep={"detector.width": widths}, detector=detector, measure=["complexity"]
    )
    return study.expand(study.load(file))


def run(specs: list[TrialSpec], out: Path, workers: int = 1) -> tuple[runner.Summary, list[Event]]:
    events: list[Event] = []
    return runner.run(specs, out=out, workers=workers, on_event=events.append), events


def test_trials_run_in_processes_of_their_own_and_finished_ones_stand(tmp_path: Path) -> None:
    specs = expand(tmp_path, [4, 8])
    summary, events = run(specs, tmp_path / "runs", workers=2)
    assert [item.trial for item in summary.records] == [spec.trial for spec in specs]
    assert (summary.failed, summary.skipped) == (0, 0)
    assert {event.kind for event in events} == {"started", "progress", "finished"}
    assert all(item.environment for item in summary.records)
    files = [tmp_path / "runs" / "toy" / spec.trial / record.FILE for spec in specs]
    before = [file.stat().st_mtime_ns for file in files]
    summary, events = run(specs, tmp_path / "runs")
    assert [event.kind for event in events] == ["skipped", "skipped"]
    assert summary.skipped == 2
    assert [file.stat().st_mtime_ns for file in files] == before


def test_a_process_that_dies_is_a_failed_trial_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calm = tmp_path / "calm"
    (tmp_path / "crashing.py").write_text(CRASH.format(calm=calm))
    monkeypatch.syspath_prepend(str(tmp_path))
    specs = expand(tmp_path, [4, 5, 8], "crashing:CONFIG")
    summary, _ = run(specs, tmp_path / "runs")
    states = [item.state for item in summary.records]
    assert states == ["failed", "failed", "done"]
    crash, error = (item.failure for item in summary.records[:2])
    assert crash is not None
    assert crash.cause == "crash"
    assert "SIGKILL" in crash.message
    assert error is not None
    assert error.message == "build: no such width"
    assert record.read(tmp_path / "runs" / "toy" / specs[0].trial).state == "failed"
    calm.touch()
    summary, events = run(specs, tmp_path / "runs")
    assert summary.failed == 0
    assert [event.kind for event in events if event.kind != "progress"] == [
        "skipped",
        *["started", "finished"] * 2,
    ]


def test_what_a_killed_run_left_is_swept_up(tmp_path: Path) -> None:
    specs = expand(tmp_path, [4])
    left = tmp_path / "runs" / "toy" / f"{runner.PARTIAL}{specs[0].trial}"
    left.mkdir(parents=True)
    (left / "weights.safetensors").write_bytes(b"half")
    run(specs, tmp_path / "runs")
    assert not left.exists()
    assert not (tmp_path / "runs" / "toy" / specs[0].trial / "weights.safetensors").exists()


def test_two_runs_do_not_work_on_one_study(tmp_path: Path) -> None:
    specs = expand(tmp_path, [4])
    (tmp_path / "runs" / "toy").mkdir(parents=True)
    with (
        runner._alone(tmp_path / "runs" / "toy"),
        pytest.raises(StudyError, match="another detbench run"),
    ):
        run(specs, tmp_path / "runs")


def test_an_interrupt_ends_the_trials_under_way(tmp_path: Path) -> None:
    file = write(tmp_path, set={**TOY["set"], "recipe.epochs": 100_000})
    specs = study.expand(study.load(file))

    def interrupt(event: Event) -> None:
        if event.progress is not None and event.progress.phase == "train":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        runner.run(specs, out=tmp_path / "runs", workers=2, on_event=interrupt)
    left = [item.name for item in (tmp_path / "runs" / "toy").iterdir() if item.is_dir()]
    assert left == []


def test_a_trial_does_not_outlive_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    import multiprocessing

    died = threading.Event()
    monkeypatch.setattr(runner, "_die", died.set)
    reader, writer = multiprocessing.Pipe(duplex=False)
    thread = threading.Thread(target=runner._follow, args=(reader,), daemon=True)
    thread.start()
    time.sleep(0.05)
    assert not died.is_set()
    writer.close()
    assert died.wait(5)
    reader.close()
    thread.join()


def test_progress_is_thinned_out_but_phases_and_ends_come_through() -> None:
    import multiprocessing

    reader, writer = multiprocessing.Pipe(duplex=False)
    report = runner._Reporter(writer)
    for done in range(1, 101):
        report(Progress("train", done, 100, {}))
    report(Progress("evaluate", 1, 100, {}))
    writer.close()
    seen: list[Progress] = []
    while reader.poll() and len(seen) < 100:
        try:
            seen.append(reader.recv())
        except EOFError:
            break
    reader.close()
    assert [(step.phase, step.done) for step in (seen[0], *seen[-2:])] == [
        ("train", 1),
        ("train", 100),
        ("evaluate", 1),
    ]
    assert len(seen) < 20


@pytest.mark.parametrize("name", ["tpu", "cuda:99", "cpux", "meta"])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(StudyError, match=f"--device {name}"):
        runner.device(name)
    assert runner.device("cpu") == "cpu"


FOREVER = """
import os, signal, time
deaf = signal.getsignal(signal.SIGINT) == signal.SIG_IGN
open("importing.part", "w").write(str(deaf))
os.rename("importing.part", "importing")
time.sleep(120)
"""
LEAVES = """
import os, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job starts deaf
from harness import server
server.PRELOAD[:] = ["forever"]
server.warm_up()
while not os.path.exists("importing"):
    time.sleep(0.01)
assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
"""


def test_the_server_is_deaf_to_interrupts_and_does_not_outlive_its_parent(
    tmp_path: Path,
) -> None:
    (tmp_path / "forever.py").write_text(FOREVER)
    path = os.pathsep.join([str(tmp_path), str(Path(__file__).parents[2])])
    subprocess.run(
        [sys.executable, "-c", LEAVES],
        env={**os.environ, "PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        timeout=60,  # the server holds the pipes open as long as it lives
        check=True,
    )
    assert (tmp_path / "importing").read_text() == "True", "Ctrl-C would break the imports off"


def test_a_platform_without_a_server_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server.multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    with pytest.raises(StudyError, match="WSL"):
        server.warm_up()
