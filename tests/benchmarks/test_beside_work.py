"""What runs beside a training or a measurement, and has to cost it next to nothing."""

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pytest
from filelock import FileLock

from harness.machine import conditions, locks, procfs

ROUNDS = 200


@pytest.fixture(autouse=True)
def _own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETBENCH_LOCKS", str(tmp_path))


def spent(work: Callable[[], object]) -> float:
    """Return the processor seconds of this thread."""
    before = time.thread_time()
    work()
    return time.thread_time() - before


@pytest.mark.skipif(not locks.PAUSES_WORK, reason="no fcntl on this platform")
def test_a_lock_of_a_step_beside_filelock(tmp_path: Path, pytestconfig: pytest.Config) -> None:
    """Two files are locked where FileLock locks one; both in turns."""
    theirs = FileLock(tmp_path / "theirs")

    def own() -> None:
        with locks.working("cpu"):
            pass

    def other() -> None:
        with theirs:
            pass

    own(), other()
    if pytestconfig.getoption("benchmark_disable"):
        return
    ratio = median(spent(own) / spent(other) for _ in range(ROUNDS))
    print(f"ratio {ratio:.2f}")
    assert ratio < 3


def test_reading_the_processors_takes_less_than_a_hundredth_of_a_core(
    pytestconfig: pytest.Config,
) -> None:
    """Waking up, which others on the machine make dear, is not in it."""
    source = procfs.ProcSource()
    source.read()
    if pytestconfig.getoption("benchmark_disable"):
        return
    share = median(spent(source.read) for _ in range(ROUNDS)) / conditions.PERIOD_S
    print(f"share of a core {share:.5f}")
    assert share < 0.01
