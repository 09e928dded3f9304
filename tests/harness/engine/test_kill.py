"""Whatever is killed, and whenever: run again, a study ends as if nothing had happened."""

import contextlib
import multiprocessing
import os
import random
import shutil
import signal
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from functools import partial
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from harness import study
from harness.engine import server
from harness.engine.agenda import Agenda, of
from harness.engine.driver import Place, run
from harness.engine.events import Event
from harness.engine.local import LocalExecutor
from harness.records import record
from harness.tracking import Outbox
from tests.harness.engine import instant
from tests.harness.engine.running import agenda
from tests.patience import wait_for

WIDTHS, WORKERS, KILLS, ROUNDS = range(1, 9), 2, 3, 10
SECONDS_A_TRIAL, LONGEST_LIFE = 0.3, 1.2


def drive(file: Path, out: Path, tracker: str) -> None:
    """Run a study as `detbench run` does, in a process that may be killed."""
    forkserver._forkserver.ensure_running = lambda: None  # type: ignore[method-assign]
    server.warm_up = lambda: None
    todo = of(study.load(file))
    folder = out / todo.study
    work = partial(instant.perform, seconds=SECONDS_A_TRIAL)
    with Outbox(todo.study, tracker, warn=lambda text: None) as outbox:

        def handle(event: Event) -> None:
            if event.record is not None:
                outbox.put(folder / event.trial)

        run(todo, LocalExecutor(["cpu"] * WORKERS, work), Place(out), handle)


def start(file: Path, out: Path, tracker: str) -> BaseProcess:
    context = multiprocessing.get_context("forkserver")
    process = context.Process(target=drive, args=(file, out, tracker))
    process.start()
    return process


def kill(driver: BaseProcess, folder: Path, draw: random.Random) -> str:
    """Kill a worker, the driver, or both, at a random moment of their lives."""
    wait_for(lambda: instant.noted(folder, instant.PIDS) or not driver.is_alive(), "a trial")
    time.sleep(draw.uniform(0, LONGEST_LIFE))
    victim = draw.choice(("worker", "driver", "both"))
    if victim != "driver":
        workers = sorted(instant.noted(folder, instant.PIDS))  # none if nothing was left to do
        for pid in draw.sample(workers, min(1, len(workers))):
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
    if victim != "worker":
        driver.kill()
    driver.join()
    (folder / instant.PIDS).unlink(missing_ok=True)
    return victim


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A folder that is written to without a disk, where there is one: MLflow waits for the disk."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else tmp_path) as folder:
        yield Path(folder)


@pytest.mark.slow
def test_a_killed_study_ends_like_an_undisturbed_one(memory: Path, empty_tracker: Path) -> None:
    server.warm_up()
    todo = agenda(memory, WIDTHS, retries={"crash": KILLS})
    draw, killed = random.Random(ROUNDS), Counter[str]()
    for number in range(ROUNDS):
        out = memory / f"runs-{number}"
        tracker = f"sqlite:///{shutil.copy(empty_tracker, memory / f'mlflow-{number}.db')}"
        for _ in range(KILLS):
            killed[kill(start(memory / "toy.yaml", out, tracker), out / "toy", draw)] += 1
        last = start(memory / "toy.yaml", out, tracker)
        last.join()
        assert last.exitcode == 0
        check(todo, out / "toy", tracker)
    assert killed.total() == ROUNDS * KILLS


def check(todo: Agenda, folder: Path, tracker: str) -> None:
    """Compare the records, the folder and MLflow with those of an undisturbed run."""
    found = {item.trial: item for item in record.read_all(folder)}
    assert set(found) == {spec.trial for spec in todo.specs}
    for spec in todo.specs:
        assert found[spec.trial].state == "done"
        assert found[spec.trial].metrics == instant.made(spec).metrics
    assert not [
        item for item in folder.iterdir() if item.name.startswith((".partial", ".replaced"))
    ]
    assert logged(tracker) == Counter({trial: 1 for trial in found})


def logged(tracker: str) -> Counter[str]:
    """Count the finished runs of each trial; no run may be left open."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from mlflow import MlflowClient

        client = MlflowClient(tracking_uri=tracker)
        experiment = client.get_experiment_by_name("toy")
        runs = client.search_runs([experiment.experiment_id], max_results=1000)
    trials = [item for item in runs if "detbench.trial" in item.data.tags]
    assert {item.info.status for item in trials} <= {"FINISHED", "KILLED"}
    finished = (item for item in trials if item.info.status == "FINISHED")
    return Counter(item.data.tags["detbench.trial"] for item in finished)
