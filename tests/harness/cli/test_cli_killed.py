"""The command, killed in the middle of a study and given again."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness import cli
from tests.harness.studies import TOY, write
from tests.patience import wait_for

ROOT = Path(__file__).parents[3]


def start(folder: Path, *arguments: object) -> subprocess.Popen[str]:
    """Run the command in a process group of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "harness.cli", *map(str, arguments)],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "OMP_NUM_THREADS": "1",
            "TMPDIR": str(folder),  # the lock of the device is then not the machine's
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def _processes(group: int) -> Iterator[int]:
    """Yield the living processes that mention a group's leader or belong to it."""
    for folder in Path("/proc").iterdir():
        try:
            fields = (folder / "stat").read_text("utf-8").rpartition(")")[2].split()
        except (OSError, ValueError):
            continue
        if folder.name.isdigit() and int(fields[3]) == group and fields[0] != "Z":
            yield int(folder.name)


def in_the_second_trial(command: subprocess.Popen[str], folder: Path) -> bool:
    assert command.poll() is None, command.communicate()
    return any(folder.glob("[!.]*/record.json")) and any(folder.glob(".partial-*"))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds processes in /proc")
def test_a_killed_run_is_taken_up_again(
    tmp_path: Path,
    empty_tracker: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    shutil.copy(empty_tracker, tmp_path / "mlflow.db")
    write(tmp_path, set={**TOY["set"], "recipe.epochs": 16, "recipe.validate_every": 16})
    command = ("run", "toy.yaml", "--device", "cpu", "--no-report", "--json")
    first = start(tmp_path, *command)
    study_folder = tmp_path / "runs" / "toy"
    try:
        wait_for(lambda: in_the_second_trial(first, study_folder), "the second trial")
        assert len(list(_processes(first.pid))) >= 3
    finally:
        first.kill()
        first.communicate()
    wait_for(lambda: not list(_processes(first.pid)), "the end of what the killed one started")
    (done,) = study_folder.glob("[!.]*/record.json")
    before = json.loads(done.read_text("utf-8"))["timings"]
    _leave_a_run_open(tmp_path)

    monkeypatch.chdir(tmp_path)
    status = cli.main([*command])  # in this process, which has imported all that it takes
    said = capfd.readouterr()
    assert status == 0, said.err
    found = json.loads(said.out)
    assert [item["state"] for item in found["trials"]] == ["done", "done"]
    assert found["skipped"] == 1
    assert json.loads(done.read_text("utf-8"))["timings"] == before
    assert not list(study_folder.glob(".partial-*"))
    runs = _runs(tmp_path)
    finished = [trial for trial, status in runs if status == "FINISHED"]
    assert sorted(finished) == sorted(item["trial"] for item in found["trials"])
    assert "RUNNING" not in {status for _, status in runs}
    assert ("killed", "KILLED") in runs


def _client(folder: Path) -> Any:
    from mlflow import MlflowClient

    return MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")


def _leave_a_run_open(folder: Path) -> None:
    """Leave what a process leaves that is killed while it logs a trial."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = _client(folder)
        experiment = client.get_experiment_by_name("toy")
        number = experiment.experiment_id if experiment else client.create_experiment("toy")
        client.create_run(number, tags={"detbench.trial": "killed"})


def _runs(folder: Path) -> list[tuple[str, str]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        client = _client(folder)
        experiment = client.get_experiment_by_name("toy").experiment_id
        runs = client.search_runs([experiment])
        tags = ((run.data.tags, run.info.status) for run in runs)
        return [(t["detbench.trial"], status) for t, status in tags if "detbench.trial" in t]
