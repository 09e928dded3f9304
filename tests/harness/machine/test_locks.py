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
    shared, free = locks.fcntl.LOCK_SH | locks.fcntl.LOCK_NB, locks.fcntl.LOCK_UN
    assert asked == [shared, shared, free, free, free] * 100


@pytest.fixture
def own_places(tmp_path, monkeypatch):
    """Folders that stand for the system's, and what was told; no other is named."""
    monkeypatch.delenv("DETBENCH_LOCKS")
    monkeypatch.setattr(locks.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(locks, "_told", set())
    monkeypatch.setattr(locks, "_passed", set())
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    (tmp_path / "run").mkdir()
    return tmp_path / f"detbench-{os.getuid()}"


def anybodys(folder):
    folder.mkdir()
    folder.chmod(0o777)


def a_link(folder):
    (folder.parent / "elsewhere").mkdir(mode=0o700)
    folder.symlink_to("elsewhere")


def a_file(folder):
    folder.touch()


def somebody_elses(folder):
    folder.mkdir(mode=0o700)
    try:
        os.chown(folder, 12345, 12345)
    except PermissionError:
        pytest.skip("only root gives folders away")


def test_the_locks_lie_in_a_folder_of_the_users_own(own_places):
    assert locks._folder() == own_places
    assert own_places.stat().st_mode & 0o777 == 0o700
    with measuring("cpu"):
        assert {item.name for item in own_places.iterdir()} == {"cpu-0.lock", "cpu-0.turn"}


@pytest.mark.parametrize("taken", [anybodys, a_link, a_file, somebody_elses])
def test_a_folder_that_others_made_is_not_used(own_places, taken, capfd):
    taken(own_places)
    assert locks._folder() == own_places.parent / "run" / "detbench"
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("taken", [anybodys, a_link, a_file, somebody_elses])
def test_without_any_folder_of_ones_own_all_goes_on_and_one_line_warns(
    own_places, taken, capfd, monkeypatch
):
    taken(own_places)
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    for _ in range(3):
        with measuring("cpu"), working("cpu"):
            pass
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(f"detbench: warning: {own_places} is not this user's own folder")
    assert "$DETBENCH_LOCKS" in line


def test_a_lock_that_cannot_be_opened_holds_nobody_up(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr(locks, "_told", set())
    (tmp_path / "cpu-0.turn").symlink_to(tmp_path / "victim")
    for _ in range(3):
        with measuring("cpu"):
            pass
    assert not (tmp_path / "victim").exists()
    (line,) = capfd.readouterr().err.splitlines()
    assert "nothing keeps measurements apart" in line


def test_what_another_user_holds_is_waited_for_but_not_for_ever(capfd, monkeypatch):
    monkeypatch.setattr(locks, "_told", set())
    monkeypatch.setattr(locks, "_passed", set())
    monkeypatch.setattr(locks, "SECONDS_FOR_OTHERS", 0.05)
    with Elsewhere(hold, "measuring"):
        for _ in range(3):
            with working("cpu"):
                pass
        with measuring("cpu"):
            pass
        monkeypatch.setattr(locks, "SECONDS_FOR_OTHERS", HANG)
        with working("cpu"):  # nobody waits twice
            pass
    (line,) = capfd.readouterr().err.splitlines()
    assert "somebody holds cpu-0 in $DETBENCH_LOCKS for long" in line


def test_others_files_that_can_be_read_can_be_locked(tmp_path, monkeypatch):
    """As in a folder that users share, where each finds the files of the first."""
    with measuring("cpu"):
        pass
    opened = os.open

    def refuse(path, flags, mode=0o777):
        if flags & os.O_RDWR:
            raise PermissionError(13, "Permission denied", path)
        return opened(path, flags, mode)

    with Elsewhere(hold, "measuring"):
        monkeypatch.setattr(locks.os, "open", refuse)
        inside = entered("measuring")
        assert not inside.wait(0.1)
        monkeypatch.setattr(locks.os, "open", opened)
    assert inside.wait(HANG)
    assert (tmp_path / "cpu-0.lock").stat().st_mode & 0o044
