import itertools
import multiprocessing
import os
import signal
import threading
import types
from contextlib import ExitStack

import pytest

from harness.machine import locks
from harness.machine.locks import measuring, working
from tests.patience import HANG

pytestmark = pytest.mark.skipif(not locks.PAUSES_WORK, reason="no fcntl on this platform")
SPAWN = multiprocessing.get_context("spawn")
SHORTER = HANG / 4  # where several waits follow each other in one test


@pytest.fixture(autouse=True)
def _own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("DETBENCH_LOCKS", str(tmp_path))


def hold(name, parent):
    with getattr(locks, name)("cpu"):
        parent.send("ready")
        parent.poll(HANG)


def hold_and_fork(child):
    with working("cpu"):
        orphan = os.fork()
        if orphan == 0:
            child.poll(HANG)
            os._exit(0)
        child.send(orphan)
        child.poll(HANG)


def step_for_ever(parent):
    while True:
        with working("cpu"):
            if parent:
                parent.send("ready")
                parent = None
            threading.Event().wait(0.1)  # that measurements come in the middle of a step


class Elsewhere:
    """Another process, which runs a function until it is left."""

    def __init__(self, function, *arguments):
        self.ours, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=function, args=(*arguments, theirs))

    def __enter__(self):
        self.process.start()
        assert self.ours.poll(HANG)
        self.said = self.ours.recv()
        return self

    def __exit__(self, *_):
        if self.process.is_alive():
            self.ours.send("leave")
        self.process.join(HANG)
        self.ours.close()


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
    assert inside.wait(HANG)


def test_work_is_shared():
    with Elsewhere(hold, "working"):
        assert entered("working").wait(HANG)


def test_devices_are_independent():
    with measuring("cuda:0"):
        assert entered("measuring", "cuda:1").wait(HANG)
        assert entered("measuring", "cpu").wait(HANG)


def test_a_gpu_has_one_lock_whatever_its_number(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    with measuring("cuda:1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
        inside = entered("measuring", "cuda")
        assert not inside.wait(0.1)
    assert inside.wait(HANG)


def kill(process):
    os.kill(process.pid, signal.SIGKILL)
    process.join(HANG)


def test_a_killed_process_lets_go():
    with Elsewhere(hold, "measuring") as other:
        kill(other.process)
        assert entered("measuring").wait(HANG)


def test_a_killed_process_lets_go_though_a_forked_child_lives_on():
    with Elsewhere(hold_and_fork) as other:
        os.kill(other.process.pid, signal.SIGKILL)
        alone = entered("measuring").wait(SHORTER)
        os.kill(other.said, signal.SIGKILL)
        other.process.join(SHORTER)
        assert alone


def test_work_that_never_pauses_does_not_starve_a_measurement():
    with ExitStack() as stack:
        workers = [stack.enter_context(Elsewhere(step_for_ever)) for _ in range(4)]
        waits = [entered("measuring").wait(SHORTER) for _ in range(3)]
        for worker in workers:
            kill(worker.process)
        assert all(waits)


def test_locks_nest_within_a_thread():
    with measuring("cpu"), measuring("cpu") as waited, working("cpu"):
        assert waited == 0
    with working("cpu"), working("cpu"):
        pass
    assert entered("measuring").wait(HANG)


def test_measuring_inside_working_is_refused():
    with working("cpu"), pytest.raises(RuntimeError, match="waits for itself"), measuring("cpu"):
        pass


def test_an_error_lets_go():
    with pytest.raises(KeyError), measuring("cpu"):
        raise KeyError
    assert entered("measuring").wait(HANG)


def test_without_fcntl_measurements_still_exclude_each_other(monkeypatch):
    monkeypatch.setattr(locks, "PAUSES_WORK", False)
    with measuring("cpu"):
        assert entered("working").wait(HANG)
        inside = entered("measuring")
        assert not inside.wait(0.1)
    assert inside.wait(HANG)


def test_a_measurement_says_how_long_it_waited(monkeypatch):
    clock = itertools.count(100, 7)
    monkeypatch.setattr(locks, "time", types.SimpleNamespace(monotonic=lambda: next(clock)))
    with measuring("cpu") as waited:
        assert waited == 7


def test_a_step_waits_for_nothing_when_nobody_measures(monkeypatch):
    """What it costs beside another lock of files is measured in tests/benchmarks."""
    asked, flock = [], locks.fcntl.flock

    def at_once(descriptor, mode):
        asked.append(mode)
        flock(descriptor, mode | locks.fcntl.LOCK_NB)  # raises where it would have to wait

    monkeypatch.setattr(locks.fcntl, "flock", at_once)
    monkeypatch.setattr("time.sleep", lambda seconds: pytest.fail("a step sleeps"))
    for _ in range(100):
        with working("cpu"), working("cpu"):
            pass
    shared, free = locks.fcntl.LOCK_SH, locks.fcntl.LOCK_UN
    assert asked == [shared, shared, free, free, free] * 100
