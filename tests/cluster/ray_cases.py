"""What `test_ray.py` runs where loopback is the only network: a Ray cluster of two nodes."""

from __future__ import annotations

import importlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.cluster_utils import Cluster

from harness.engine import driver, ray_task
from harness.engine.driver import Place
from harness.engine.events import Event, Summary
from harness.engine.executor import Asked, Executor, Finished, Job, Lost, Message
from harness.engine.ray import RayExecutor
from harness.records import latencies, record
from harness.study import StudyError
from tests.harness.engine.running import agenda

SECONDS_TO_HANG = 900
HEAD = {"num_cpus": 1, "include_dashboard": False}
CRASH = """
import os, signal
from dataclasses import dataclass
from tests.toy import ToyConfig

@dataclass(frozen=True)
class Crashing(ToyConfig):
    def build(self):
        if self.width == 4:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().build()

CONFIG = Crashing()
"""
OWN = """
from dataclasses import dataclass, replace
from tests.toy import Toy, ToyConfig

@dataclass(frozen=True)
class Own(ToyConfig):
    def build(self):
        from own_sizes import TIMES
        return Toy(replace(self, width=TIMES * self.width))

CONFIG = Own()
"""


def patiently(start: Callable[[], Any]) -> Any:
    """Start a node; Ray itself gives one up after half a minute, which a busy machine may need."""
    for _ in range(10):
        try:
            return start()
        except Exception as error:
            late = error
    raise late


@pytest.fixture(autouse=True)
def _as_it_was() -> None:
    """Ask nothing: Ray notes things in its driver's environment, and the process ends with it."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head with one core, on which every case may rely."""
    one = patiently(lambda: Cluster(initialize_head=True, head_node_args=HEAD))
    os.environ["RAY_ADDRESS"] = one.address
    yield one
    ray.shutdown()
    one.shutdown()


@pytest.fixture
def second(cluster: Cluster) -> Iterator[Any]:
    """A second node, of a kind of its own."""
    node = patiently(lambda: cluster.add_node(num_cpus=1, resources={"fast": 1}))
    yield node
    if node in cluster.worker_nodes:
        cluster.remove_node(node)


def run(
    tmp_path: Path, executor: Executor, widths: range, *, on_event: Any = None, **changes: Any
) -> tuple[Summary, list[Event]]:
    events: list[Event] = []

    def handle(event: Event) -> None:
        events.append(event)
        if on_event:
            on_event(event)

    todo = agenda(tmp_path, widths, **changes)
    return driver.run(todo, executor, Place(tmp_path / "runs"), handle), events


def kinds(events: list[Event], kind: str) -> list[str]:
    return [event.trial for event in events if event.kind == kind]


def until(executor: RayExecutor, kind: type) -> Message:
    """Wait for a message of a kind."""
    deadline = time.monotonic() + SECONDS_TO_HANG
    while time.monotonic() < deadline:
        for message in executor.wait(1.0):
            if isinstance(message, kind):
                return message
    raise AssertionError(f"no {kind.__name__}")


def test_a_study_outlives_a_node_and_each_record_is_there_once(
    tmp_path: Path, cluster: Cluster, second: Any
) -> None:
    lost: list[str] = []

    def watch(event: Event) -> None:
        if event.kind == "finished" and not lost:
            lost.append(event.trial)
            cluster.remove_node(second, allow_graceful=False)

    executor = RayExecutor({"CPU": 1})
    assert executor.slots == 2
    training = {"measure": ["accuracy"]}
    summary, events = run(tmp_path, executor, range(2, 8), on_event=watch, **training)
    assert [item.state for item in summary.records] == ["done"] * 6
    assert len(record.read_all(tmp_path / "runs" / "toy")) == 6
    # a worker that dies once its record is in place is tried again, and the record is found
    over = kinds(events, "finished") + kinds(events, "skipped")
    assert sorted(over) == sorted(set(kinds(events, "started")))
    causes = {event.failure.cause for event in events if event.failure}
    assert causes <= {"lost_worker", "crash"}  # the latter if its worker is missed before the node
    assert "progress" in {event.kind for event in events}


def test_folders_are_brought_home_from_nodes_that_share_none(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = ray_task.token
    monkeypatch.setattr(ray_task, "token", lambda folder: f"not {own(folder)}")
    summary, _ = run(tmp_path, RayExecutor({}), range(4, 6), measure=["accuracy", "latency"])
    assert [item.state for item in summary.records] == ["done"] * 2
    first, second = summary.records
    folder = tmp_path / "runs" / "toy"
    for item in summary.records:
        assert record.read(folder / item.trial).metrics == item.metrics
        assert all((folder / item.trial / name).is_file() for name in item.artifacts.values())
    assert "weights" in first.artifacts
    assert latencies.rough(first) or second.details["reference"] == first.trial
    assert not list(folder.glob(".partial-*"))


def test_a_process_that_dies_is_a_crash_and_is_tried_again(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "crashing.py").write_text(CRASH)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    summary, events = run(tmp_path, RayExecutor({}), range(4, 6), detector="crashing:CONFIG")
    assert [item.state for item in summary.records] == ["failed", "done"]
    assert [event.failure.cause for event in events if event.failure] == ["crash"]


def write_own(folder: Path, times: int) -> None:
    """Write a package with a detector, and a module beside it that is imported late."""
    (folder / "own_detectors").mkdir(parents=True)
    (folder / "own_detectors" / "__init__.py").write_text("")
    (folder / "own_detectors" / "wide.py").write_text(OWN)
    (folder / "own_sizes.py").write_text(f"TIMES = {times}")


def test_code_of_ones_own_reaches_a_node_as_the_driver_sees_it(
    tmp_path: Path, cluster: Cluster, second: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From a folder on the driver's path alone, which no node can read once the trial runs."""
    write_own(tmp_path / "sent", times=3)
    write_own(tmp_path / "here", times=5)  # older, and found by its place, as on an unlike disk
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.syspath_prepend(str(tmp_path / "sent"))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    own = importlib.import_module("own_detectors.wide").CONFIG
    expected = sum(item.numel() for item in own.build().parameters())
    todo = agenda(tmp_path, [own.width], detector="own_detectors.wide:CONFIG")
    executor = RayExecutor({"fast": 0.001})
    shutil.rmtree(tmp_path / "sent")
    summary = driver.run(todo, executor, Place(tmp_path / "runs"), lambda event: None)
    assert [item.state for item in summary.records] == ["done"]
    assert summary.records[0].metrics["params"] == expected


def test_code_that_is_too_large_to_send_is_refused_with_a_remedy(
    tmp_path: Path, cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_heavy").mkdir()
    (tmp_path / "own_heavy" / "__init__.py").write_text("")
    (tmp_path / "own_heavy" / "weights").write_bytes(os.urandom(2000))
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    importlib.import_module("own_heavy")
    monkeypatch.setattr("ray._private.runtime_env.packaging.GCS_STORAGE_MAX_SIZE", 1000)
    with pytest.raises(StudyError, match=r"upload module .*a \.gitignore in a folder"):
        RayExecutor({})
    assert not ray.is_initialized()


def test_a_question_is_answered_and_a_job_ends_on_request(tmp_path: Path, cluster: Cluster) -> None:
    out = tmp_path / "runs" / "toy"
    out.mkdir(parents=True)
    spec = agenda(tmp_path, [4], measure=["complexity", "accuracy"]).specs[0]
    job = Job(spec, out, judged=True)
    with closing(RayExecutor({})) as executor:
        executor.submit(job)
        asked = until(executor, Asked)
        assert isinstance(asked, Asked)
        assert asked.stage == "cheap"
        assert asked.metrics["params"] > 0
        executor.answer(spec.trial, "too large")
        finished = until(executor, Finished)
        assert isinstance(finished, Finished)
        assert finished.record.state == "pruned"
        executor.submit(job)
        until(executor, Asked)
        executor.stop(spec.trial)
        lost = until(executor, Lost)
        assert isinstance(lost, Lost)
        assert lost.failure.cause == "stopped"
        executor.submit(job)
        until(executor, Asked)
        executor.kill(spec.trial)
        assert executor.busy == {}
    assert not ray.is_initialized()


def test_trials_run_on_the_nodes_that_were_asked_for(
    tmp_path: Path, cluster: Cluster, second: Any
) -> None:
    executor = RayExecutor({"fast": 0.001})
    assert executor.slots == 1
    summary, _ = run(tmp_path, executor, range(4, 6))
    assert [item.state for item in summary.records] == ["done"] * 2
    with pytest.raises(StudyError, match="no node of the Ray cluster offers CPU=1, GPU=0, slow=1"):
        RayExecutor({"slow": 1})
    assert not ray.is_initialized()
