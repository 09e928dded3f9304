import multiprocessing
import os
import signal
import threading
import time
from contextlib import ExitStack

import pytest

from harness.machine import locks
from harness.machine.locks import measuring, working

pytestmark = pytest.mark.skipif(not locks.PAUSES_WORK, reason="no fcntl on this platform")
SPAWN = multiprocessing.get_context("spawn")
PATIENCE = 30.0


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DETBENCH_LOCKS", str(tmp_path))


def hold(name, parent):
    with getattr(locks, name)("cpu"):
        parent.send("ready")
        parent.poll(PATIENCE)


def hold_and_fork(child):
    with working("cpu"):
        orphan = os.fork()
        if orphan == 0:
            time.sleep(PATIENCE)
            os._exit(0)
        child.send(orphan)
        child.poll(PATIENCE)


def step_for_ever(parent):
    while True:
        with working("cpu"):
            if parent:
                parent.send("ready")
                parent = None
            time.sleep(0.1)


class Elsewhere:
    """Another process, which runs a function until it is left."""

    def __init__(self, function, *arguments):
        self.ours, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=function, args=(*arguments, theirs))

    def __enter__(self):
        self.process.start()
        assert self.ours.poll(PATIENCE)
        self.said = self.ours.recv()
        return self

    def __exit__(self, *_):
        if self.process.is_alive():
            self.ours.send("leave")
        self.process.join(PATIENCE)


def entered(name, device="cpu"):
    """Start a thread that takes a lock, and return the event that says it has it."""
    inside = threading.Event()

    def enter():
        with getattr(locks, name)(device):
            inside.set()

    threading.Thread(target=enter, daemon=True).start()
    return inside


@pytest.mark.parametrize(
    ("held", "wanted"),
    [("measuring", "measuring"), ("measuring", "working"), ("working", "measuring")],
)
def test_waits_for_another_process(held, wanted):
    with Elsewhere(hold, held):
        inside = entered(wanted)
        assert not inside.wait(0.1)
    assert inside.wait(PATIENCE)


def test_work_is_shared():
    with Elsewhere(hold, "working"):
        assert entered("working").wait(PATIENCE)


def test_devices_are_independent():
    with measuring("cuda:0"):
        assert entered("measuring", "cuda:1").wait(PATIENCE)
        assert entered("measuring", "cpu").wait(PATIENCE)


def test_a_gpu_has_one_lock_whatever_its_number(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    with measuring("cuda:1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
        inside = entered("measuring", "cuda")
        assert not inside.wait(0.1)
    assert inside.wait(PATIENCE)


def kill(process):
    os.kill(process.pid, signal.SIGKILL)
    process.join(PATIENCE)


def test_a_killed_process_lets_go():
    with Elsewhere(hold, "measuring") as other:
        kill(other.process)
        assert entered("measuring").wait(PATIENCE)


def test_a_killed_process_lets_go_though_a_forked_child_lives_on():
    with Elsewhere(hold_and_fork) as other:
        os.kill(other.process.pid, signal.SIGKILL)
        alone = entered("measuring").wait(PATIENCE / 3)
        os.kill(other.said, signal.SIGKILL)
        other.process.join(PATIENCE)
        assert alone


def test_work_that_never_pauses_does_not_starve_a_measurement():
    with ExitStack() as stack:
        workers = [stack.enter_context(Elsewhere(step_for_ever)) for _ in range(4)]
        waits = [entered("measuring").wait(PATIENCE / 3) for _ in range(3)]
        for worker in workers:
            kill(worker.process)
        assert all(waits)


def test_locks_nest_within_a_thread():
    with measuring("cpu"), measuring("cpu") as waited, working("cpu"):
        assert waited == 0
    with working("cpu"), working("cpu"):
        pass
    assert entered("measuring").wait(PATIENCE)


def test_measuring_inside_working_is_refused():
    with working("cpu"), pytest.raises(RuntimeError, match="waits for itself"), measuring("cpu"):
        pass


def test_an_error_lets_go():
    with pytest.raises(KeyError), measuring("cpu"):
        raise KeyError
    assert entered("measuring").wait(PATIENCE)


def test_without_fcntl_measurements_still_exclude_each_other(monkeypatch):
    monkeypatch.setattr(locks, "PAUSES_WORK", False)
    with measuring("cpu"):
        assert entered("working").wait(PATIENCE)
        inside = entered("measuring")
        assert not inside.wait(0.1)
    assert inside.wait(PATIENCE)


def test_a_step_costs_little_when_nobody_measures():
    start = time.perf_counter()
    for _ in range(1000):
        with working("cpu"):
            pass
    assert (time.perf_counter() - start) / 1000 < 1e-3
