"""Several drivers write to one SQLite tracker, which they make themselves, at once."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from harness.records import record
from harness.tracking import Tracker
from tests.harness.tracking.trackers import make, runs, trials


def write(out: Path, uri: str, writer: int, count: int) -> int:
    """Send the records of one driver, and those of all others, which may be at it, too."""
    own = Tracker(uri)
    for number in range(count):
        folder = out / f"w{writer}n{number}"
        own.send(record.read(folder), folder)
    for folder in sorted(out.glob("w*n0")):
        own.send(record.read(folder), folder)
    return count


@pytest.mark.parametrize(
    ("writers", "count"), [(2, 5), pytest.param(4, 20, marks=pytest.mark.slow)]
)
def test_no_writer_fails_and_each_trial_is_there_once(
    tmp_path: Path, writers: int, count: int
) -> None:
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    out = tmp_path / "toy"
    names = [f"w{writer}n{number}" for writer in range(writers) for number in range(count)]
    for name in names:
        make(out / name)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(writers - 1, context) as pool:
        sent = [pool.submit(write, out, uri, writer, count) for writer in range(1, writers)]
        write(out, uri, 0, count)
        assert [item.result() for item in sent] == [count] * (writers - 1)
    assert sorted(run.data.tags["detbench.trial"] for run in trials(uri)) == sorted(names)
    assert {run.info.status for run in runs(uri)} == {"FINISHED"}
    assert len(runs(uri)) == len(names) + 1
