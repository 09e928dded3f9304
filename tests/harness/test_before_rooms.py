"""What stood before the files of harness/ moved is read, resumed, reported and sent as it was."""

import contextlib
import io
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from harness import cli
from tests.golden.before_rooms import hashes, make

HERE = make.HERE
KILLED, DONE, PRUNED = "c361077be16f", ("52746ce7331d", "b09394ce1bed"), "36830f2aaf0d"
TRAINING = "62b109dd2536"  # of the killed trial
PARTIAL = f".trainings/.partial-{TRAINING}"
CHECKPOINT = f"{PARTIAL}/checkpoint/checkpoint.pt"
STARTED_FROM = "265e94b02642"  # the trial that starts from the weights of the second
CPU = ("--device", "cpu")


class Ran(NamedTuple):
    """One call of the command."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def detbench(*arguments: object) -> Ran:
    """Call the command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = cli.main([str(item) for item in arguments])
    return Ran(status, out.getvalue(), err.getvalue())


@pytest.fixture(autouse=True, scope="module")
def _as_before(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let hotcoco have the version of then, which is part of a protocol; keep locks apart."""
    folder = tmp_path_factory.mktemp("version")
    told = folder / f"hotcoco-{hashes.HOTCOCO}.dist-info"
    told.mkdir()
    text = f"Metadata-Version: 2.1\nName: hotcoco\nVersion: {hashes.HOTCOCO}\n"
    (told / "METADATA").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        for name in ("CACHE", "LOCKS"):
            patch.setenv(f"DETBENCH_{name}", str(folder / name.lower()))
        yield


def copied(folder: Path) -> Path:
    """Copy what was left behind; whoever resumes or sends it writes there."""
    for name in ("data", "runs"):
        shutil.copytree(HERE / name, folder / name)
    for name in make.STUDIES:
        shutil.copy(HERE / name, folder)
    return folder


@pytest.fixture
def left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Go to a folder with all that was left behind."""
    monkeypatch.chdir(copied(tmp_path))
    return tmp_path


class Resumed(NamedTuple):
    """The study, run to its end."""

    folder: Path
    ran: Ran
    began: float


@pytest.fixture(scope="module")
def resumed(tmp_path_factory: pytest.TempPathFactory) -> Resumed:
    folder, began = copied(tmp_path_factory.mktemp("resumed")), time.time()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ran = detbench("run", "before.yaml", *plain(), "--json")
    assert ran.status == 0, ran.err
    return Resumed(folder, ran, began)


def plain() -> tuple[str, ...]:
    return (*CPU, "--no-report", "--no-tracking")


def read(file: Path) -> Any:
    return json.loads(file.read_text())


def test_hashes_are_as_they_were() -> None:
    now = {str((row["of"], row["changes"])): row["hashes"] for row in hashes.compute()}
    before = {str((row["of"], row["changes"])): row["hashes"] for row in read(hashes.FILE)}
    assert {key: now.get(key) for key in before} == before
    assert sum(map(len, before.values())) > 100


def test_finished_trials_are_not_run_again(resumed: Resumed) -> None:
    found = resumed.ran.json
    assert found["skipped"] == 3
    states = {item["trial"]: item["state"] for item in found["trials"]}
    assert states == {**dict.fromkeys((*DONE, KILLED), "done"), PRUNED: "pruned"}
    assert resumed.ran.err.count("stands already") == 3
    for trial in (*DONE, PRUNED):
        for file in (HERE / "runs" / "before" / trial).iterdir():
            left = resumed.folder / "runs" / "before" / trial / file.name
            assert left.read_bytes() == file.read_bytes(), file


def test_a_killed_training_goes_on_from_its_checkpoint(resumed: Resumed) -> None:
    record = read(resumed.folder / "runs" / "before" / KILLED / "record.json")
    state = torch.load(HERE / "runs" / CHECKPOINT, weights_only=True)
    curves, before = record["curves"], state["curves"]
    assert (state["epoch"], len(before)) == (7, 6)  # the seventh was not yet in the curves
    assert [row["epoch"] for row in curves] == [*range(1, 13)]
    assert curves[: len(before)] == before
    assert all(row["time"] < resumed.began for row in before)
    assert all(row["time"] > resumed.began for row in curves[len(before) :])
    assert record["details"]["training"]["details"]["resumed"] == 1
    assert record["state"] == "done"
    assert {"mAP", "macs", "latency_ms", "latency_ratio"} <= record["metrics"].keys()
    assert record["details"]["reference"] == DONE[0]


def test_what_was_trained_goes_to_the_shelf(resumed: Resumed) -> None:
    shelf = resumed.folder / "runs" / ".trainings"
    assert not (resumed.folder / "runs" / PARTIAL).exists()
    names = {item.name for item in shelf.iterdir() if item.is_dir()}
    assert names == {TRAINING, *(item.name for item in (HERE / "runs/.trainings").glob("[!.]*"))}
    assert read(shelf / TRAINING / "training.json")["made_by"] == f"before/{KILLED}"


def test_the_state_of_a_study_is_told(left: Path, resumed: Resumed) -> None:
    found = detbench("status", "before.yaml", "--json").json
    counts = {"done": 2, "pruned": 1, "failed": 0, "running": 1, "waiting": 0}
    assert (found["study"], found["counts"]) == ("before", counts)
    (running,) = found["running"]
    assert (running["trial"], running["name"]) == (KILLED, "width=16")
    assert (running["owner"], running["owner_is_dead"]) == ("elsewhere:1", False)
    after = detbench("status", "before.yaml", "--out", resumed.folder / "runs", "--json").json
    assert after["counts"] == {**counts, "done": 3, "running": 0}
    hunt = detbench("status", "hunt.yaml", "--json").json
    assert hunt["counts"] == {**dict.fromkeys(counts, 0), "done": 4}


def test_a_plan_knows_what_stands(left: Path) -> None:
    check = ("check", "before.yaml", "--device", "cpu", "--no-probe", "--json")
    (found,) = detbench(*check).json
    assert (found["stand_already"], found["trainings_stand"], found["trainings"]) == (3, 2, 1)
    assert [row["trial"] for row in found["trials"]] == [*DONE, PRUNED, KILLED]
    (found,) = detbench(*check, "--set", "name=after").json
    assert (found["stand_already"], found["taken_over"]) == (0, 2)


def test_a_search_goes_on_with_what_it_found(left: Path) -> None:
    before = {item["trial"]: item for item in map(read, (HERE / "runs/hunt").glob("*/record.json"))}
    ran = detbench("run", "hunt.yaml", "--set", "search.trials=5", *plain(), "--json")
    assert ran.status == 0, ran.err
    found = {item["trial"]: item for item in ran.json["trials"]}
    assert (ran.json["skipped"], len(found)) == (4, 5)
    assert {key: found[key]["metrics"] for key in before} == {
        key: item["metrics"] for key, item in before.items()
    }


def test_pages_are_written_from_the_records(left: Path) -> None:
    ran = detbench("report", "runs/before", "hunt.yaml", "--out", "site", "--json")
    assert (ran.status, ran.json) == (0, ["site/before.html", "site/hunt.html"])
    for study, shown in (("before", "width=8"), ("hunt", "assigner.type=Inside")):
        page = (left / "site" / f"{study}.html").read_text()
        assert shown in page
        trials = [file.parent.name for file in (left / "runs" / study).glob("*/record.json")]
        assert len(trials) > 2
        assert all(trial in page for trial in trials)


def test_everything_is_sent_as_it_was(left: Path, empty_tracker: Path) -> None:
    shutil.copy(empty_tracker, left / "mlflow.db")
    uri = f"sqlite:///{left / 'mlflow.db'}"
    ran = detbench("sync", "all", "--tracking-uri", uri, "--json")
    assert ran.status == 0
    sent = {item["study"]: (item["sent"], item["held"], item["failed"]) for item in ran.json}
    assert sent == {"before": (3, 0, {}), "hunt": (4, 0, {})}
    held = read(make.CONTENTS)
    for study in held:
        assert make.contents(uri, study) == held[study]
    marks = read(left / "runs" / "before" / min((*DONE, PRUNED)) / "mlflow.json")
    assert marks.keys() == {*make.TRACKER, uri}
    again = detbench("sync", "all", "--tracking-uri", uri, "--json").json
    assert [(item["sent"], item["held"]) for item in again] == [(0, 3), (0, 4)]


def test_weights_and_detections_are_read(left: Path) -> None:
    trial = left / "runs" / "before" / DONE[1]
    metrics = read(trial / "record.json")["metrics"]
    trusting = ("--data", "data", "--trust", *CPU, "--json")
    ran = detbench("evaluate", f"runs/before/{DONE[1]}", *trusting)
    assert ran.status == 0
    assert ran.json["metrics"]["mAP_50"] == pytest.approx(metrics["mAP_50"], abs=0.02)
    ran = detbench("compare", *(f"runs/before/{name}" for name in DONE), "--json")
    assert ran.status == 0


def test_a_training_from_weights_has_the_hash_that_it_had(left: Path) -> None:
    sets = ("recipe.epochs=1", "recipe.workers=0", "detector.width=8")
    knobs = [part for text in sets for part in ("--set", text)]
    weights = ("--weights", f"runs/before/{DONE[1]}", "--recipe", "smoke", "--data", "data")
    ran = detbench("train", "tests.toy:TOY", *weights, *knobs, *CPU, "--out", "mine", "--json")
    assert ran.status == 0, ran.err
    assert ran.json["trial"] == STARTED_FROM
