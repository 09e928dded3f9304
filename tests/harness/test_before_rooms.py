"""What stood before the files of harness/ moved is read, reported and sent as it was.

Its code is unknown, so it is not taken for a result of the code of now.
"""

import contextlib
import io
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

import pytest

from harness import cli
from harness.study.code import Fingerprints
from harness.tracking import logged
from tests.golden.before_rooms import hashes, make

HERE = make.HERE
KILLED, DONE, PRUNED = "c361077be16f", ("52746ce7331d", "b09394ce1bed"), "36830f2aaf0d"
TRAINING = "62b109dd2536"  # of the killed trial
PARTIAL = f".trainings/.partial-{TRAINING}"
CHECKPOINT = f"{PARTIAL}/checkpoint/checkpoint.pt"
STARTED_FROM = "8d98c60c5fd3"  # the trial that starts from the weights of the second
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
    """Keep caches and locks apart."""
    folder = tmp_path_factory.mktemp("apart")
    with pytest.MonkeyPatch.context() as patch:
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


class Rerun(NamedTuple):
    """The study, run by the code of now."""

    folder: Path
    ran: Ran


@pytest.fixture(scope="module")
def rerun(tmp_path_factory: pytest.TempPathFactory) -> Rerun:
    folder = copied(tmp_path_factory.mktemp("rerun"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        ran = detbench("run", "before.yaml", *plain(), "--json")
    assert ran.status == 0, ran.err
    return Rerun(folder, ran)


def plain() -> tuple[str, ...]:
    return (*CPU, "--no-report", "--no-tracking")


def read(file: Path) -> Any:
    return json.loads(file.read_text())


def test_hashes_are_as_they_were() -> None:
    now = {str((row["of"], row["changes"])): row["hashes"] for row in hashes.compute()}
    before = {str((row["of"], row["changes"])): row["hashes"] for row in read(hashes.FILE)}
    assert sum(map(len, before.values())) > 100
    for name, sets, meant in hashes.FROM_NOTHING:
        key = str((name, sets))
        assert now[key] != before[key]
        now[key] = hashes.of_single(name, [*sets, *meant])["hashes"]
    for name, said in hashes.OF_CHANGED_FILES.items():
        key = str((name, []))
        assert now[key] != before[key]
        now[key] = hashes.of_study(name, said)["hashes"]
    assert {key: now.get(key) for key in before} == before


def test_trials_whose_code_is_unknown_are_run_again_beside_the_old_ones(rerun: Rerun) -> None:
    found = rerun.ran.json
    assert found["skipped"] == 0
    states = {item["name"]: item["state"] for item in found["trials"]}
    assert states == {
        **dict.fromkeys(("width=4", "width=8", "width=16"), "done"),
        "width=64": "pruned",
    }
    assert {item["trial"] for item in found["trials"]}.isdisjoint((*DONE, PRUNED, KILLED))
    for trial in (*DONE, PRUNED):
        for file in (HERE / "runs" / "before" / trial).iterdir():
            left = rerun.folder / "runs" / "before" / trial / file.name
            assert left.read_bytes() == file.read_bytes(), file


def test_a_training_whose_code_is_unknown_is_not_gone_on_with(rerun: Rerun) -> None:
    for item in rerun.ran.json["trials"]:
        record = read(rerun.folder / item["record"])
        if record["state"] == "done":
            assert record["details"]["training"]["details"]["resumed"] == 0
            assert {"mAP", "macs", "latency_ms"} <= record["metrics"].keys()
    shelf, before = rerun.folder / "runs" / ".trainings", HERE / "runs" / ".trainings"
    assert (rerun.folder / "runs" / CHECKPOINT).read_bytes() == (
        HERE / "runs" / CHECKPOINT
    ).read_bytes()
    names = {item.name for item in shelf.glob("[!.]*")}
    assert {item.name for item in before.glob("[!.]*")} < names
    assert len(names) == 5


def test_old_and_new_are_compared(rerun: Rerun) -> None:
    new = next(item for item in rerun.ran.json["trials"] if item["name"] == "width=4")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(rerun.folder)
        ran = detbench("compare", f"runs/before/{DONE[0]}", f"runs/before/{new['trial']}", "--json")
    assert ran.status == 0, ran.err


def test_finished_trials_are_used_on_request(left: Path) -> None:
    ran = detbench("run", "before.yaml", *plain(), "--keep-stale", "--json")
    assert ran.status == 0, ran.err
    assert ran.json["skipped"] == 2
    kept = {item["trial"]: item for item in ran.json["trials"] if item["trial"] in DONE}
    assert set(kept) == set(DONE)
    for item in kept.values():
        assert set(item["caveats"]) >= set(item["metrics"])
        assert item["caveats"]["mAP"].startswith("of other code: code unknown")


def test_the_state_of_a_study_is_told(left: Path) -> None:
    found = detbench("status", "before.yaml", "--json").json
    counts = {"done": 0, "pruned": 0, "failed": 0, "running": 0, "waiting": 4}
    assert (found["study"], found["counts"]) == ("before", counts)
    told = [(item["record"], item["files"]) for item in found["out_of_date"]]
    assert told == [(trial, []) for trial in DONE]
    hunt = detbench("status", "hunt.yaml", "--json").json
    assert (hunt["counts"]["done"], len(hunt["out_of_date"])) == (0, 4)


def test_a_plan_knows_what_is_of_unknown_code(left: Path) -> None:
    check = ("check", "before.yaml", "--device", "cpu", "--no-probe", "--json")
    (found,) = detbench(*check).json
    assert (found["stand_already"], found["trainings_stand"], found["trainings"]) == (0, 0, 3)
    assert [item["record"] for item in found["out_of_date"]] == list(DONE)
    shown = detbench(*check[:-1]).out
    assert "2 finished trials are of other code (code unknown) and will be run again" in shown
    (found,) = detbench(*check, "--set", "name=after").json
    assert (found["stand_already"], found["taken_over"]) == (0, 0)


def test_a_search_begins_anew_beside_what_it_found(left: Path) -> None:
    before = {file.parent.name for file in (HERE / "runs/hunt").glob("*/record.json")}
    ran = detbench("run", "hunt.yaml", *plain(), "--json")
    assert ran.status == 0, ran.err
    found = {item["trial"] for item in ran.json["trials"]}
    assert (ran.json["skipped"], len(before), len(found)) == (0, 4, 4)
    assert before.isdisjoint(found)
    there = {file.parent.name for file in (left / "runs/hunt").glob("*/record.json")}
    assert there == before | found


def test_pages_are_written_from_the_records(left: Path) -> None:
    ran = detbench("report", "runs/before", "hunt.yaml", "--earlier", "--out", "site", "--json")
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
        found = make.contents(uri, study)
        assert found["the study"]["tags"].pop("detbench.answer")  # which nothing had then
        for trial in (run for run in found.values() if run["params"]):
            trial["tags"].pop("detbench.code_changed", None)  # likewise
            left_out = trial["tags"].pop("detbench.model_left_out", "tests.toy:TOY")
            assert "tests.toy:TOY" in left_out  # its code was not named
        found["the study"]["tags"].pop("detbench.code_changed", None)
        assert found == held[study]
    marks = logged(left / "runs" / "before" / min((*DONE, PRUNED)))
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
    with mock.patch.object(Fingerprints, "of", return_value={}):
        ran = detbench("train", "tests.toy:TOY", *weights, *knobs, *CPU, "--out", "mine", "--json")
    assert ran.status == 0, ran.err
    assert ran.json["trial"] == STARTED_FROM
