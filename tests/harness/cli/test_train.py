import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from safetensors.torch import load_file

from harness import cli
from harness.cli import train
from harness.machine import locks
from harness.records import record
from harness.training import loop
from harness.trials import trainings, trial
from tests.harness.studies import TOY, write

KNOBS = [f"--set={key}={value}" for key, value in TOY["set"].items() if "latency" not in key]
TRAIN = ("train", "tests.toy:TOY", "--data", "shapes", "--recipe", "smoke", "--device", "cpu")
CONSTANT = "--set=recipe.schedule=constant"
WEIGHTS = "weights.safetensors"


def detbench(*arguments: object) -> int:
    return cli.main([str(item) for item in arguments])


def trained(*arguments: object) -> int:
    return detbench(*TRAIN, *KNOBS, *arguments)


def everything(folder: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def refused(capfd: pytest.CaptureFixture[str], *words: str) -> None:
    line = capfd.readouterr().err.splitlines()[-1]
    assert line.startswith("detbench: error: ")
    for word in words:
        assert word in line


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locks, "_folder", lambda: tmp_path)
    monkeypatch.chdir(tmp_path)


def test_the_folder_of_studies_is_refused_and_left_as_it_is(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    shared = tmp_path / "runs" / trainings.SHELF / f"{trainings.PARTIAL}abc"
    shared.mkdir(parents=True)
    (shared / "checkpoint.pt").write_bytes(b"hours of work")
    before = everything(tmp_path / "runs")
    assert trained("--out", "runs") == 2
    refused(capfd, "runs: holds something else than a training", "--out")
    assert everything(tmp_path / "runs") == before


def test_a_folder_of_ones_own_things_is_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("...", "utf-8")
    assert trained("--out", "thesis") == 2
    refused(capfd, "thesis: holds something else")
    assert [item.name for item in (tmp_path / "thesis").iterdir()] == ["chapter.tex"]


def test_a_trial_of_ones_own_shares_no_shelf_with_the_folder_it_is_in(tmp_path: Path) -> None:
    """As a program that calls `trial.run` may have it, without the command's refusal."""
    from harness.study import expand, load

    spec = expand(load(write(tmp_path, measure=["accuracy"])))[0]
    shelf = tmp_path / "runs" / trainings.SHELF / spec.training
    shelf.mkdir(parents=True)
    (shelf / "mine").touch()
    assert trial.run(spec, tmp_path / "runs").failure is None
    assert (shelf / "mine").exists()
    assert not (tmp_path / "runs" / trainings.OWN_SHELF).exists()


@pytest.mark.parametrize("other", [(), ("--set=recipe.lr=0.1",), ("--seed", "1")])
def test_a_finished_training_is_not_written_over(
    other: tuple[str, ...], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert trained("--out", "one") == 0
    before = everything(tmp_path / "one")
    assert trained("--out", "one", *other) == 2
    refused(capfd, "one: holds a finished training", "name a new folder with --out. To begin")
    assert everything(tmp_path / "one") == before


def test_weights_whose_record_is_of_another_training_are_not_written_over(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """As earlier versions of the command left them."""
    assert trained("--out", "one") == 0
    found = record.read(tmp_path / "one")
    found.model_copy(update={"state": "failed", "trial": "other"}).write(tmp_path / "one")
    weights = (tmp_path / "one" / WEIGHTS).read_bytes()
    assert trained("--out", "one") == 2
    refused(capfd, "one: holds a finished training")
    assert (tmp_path / "one" / WEIGHTS).read_bytes() == weights


def test_a_trial_of_a_study_is_not_written_over(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert trained("--out", "one") == 0
    found = record.read(tmp_path / "one")
    found.model_copy(update={"study": "toy", "state": "failed"}).write(tmp_path / "toy" / "abc")
    assert trained("--out", "toy/abc") == 2
    refused(capfd, "toy/abc: is the folder of a trial of the study toy")


def test_an_unfinished_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    end_epoch = loop.Loop.end_epoch

    def interrupt(self: loop.Loop, row: dict[str, float]) -> None:
        end_epoch(self, row)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "end_epoch", interrupt)
        assert trained("--out", "one") == 130
    assert trained("--out", "one", "--json") == 0
    result = json.loads(capfd.readouterr().out)
    assert result["details"]["training"]["details"]["resumed"] == 1
    assert not (tmp_path / "one" / trainings.OWN_SHELF).exists()


def test_what_failed_after_training_takes_its_own_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: object, **options: object) -> None:
        raise ValueError("no")

    with monkeypatch.context() as patch:
        patch.setattr(trial, "_evaluate", fail)
        assert trained("--out", "one") == 1
    monkeypatch.setattr(loop, "Loop", fail)  # nothing is trained again
    assert trained("--out", "one") == 0
    assert record.read(tmp_path / "one").state == "done"


def test_two_at_one_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    shelf = tmp_path / "one" / trainings.OWN_SHELF
    shelf.mkdir(parents=True)
    with FileLock(shelf / train.LOCK):
        assert trained("--out", "one") == 2
    refused(capfd, "one: another process trains there")
    assert trained("--out", "one") == 0


def test_more_epochs_are_those_of_a_longer_training(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert trained("--out", "short", CONSTANT) == 0
    assert "state to go on from: short/checkpoint (" in capfd.readouterr().out
    before = everything(tmp_path / "short")
    assert detbench("train", "--resume", "short", "--epochs", 4, "--device", "cpu", "--json") == 0
    more = json.loads(capfd.readouterr().out)
    assert everything(tmp_path / "short") == before
    assert trained("--out", "long", CONSTANT, "--set=recipe.epochs=4", "--json") == 0
    long = json.loads(capfd.readouterr().out)
    assert more["trial"] == long["trial"]
    for metrics in (more["metrics"], long["metrics"]):
        del metrics["images_per_second"]  # the only one that differs from run to run
    assert more["metrics"] == long["metrics"]
    assert [row["epoch"] for row in more["curves"]] == [1, 2, 3, 4]
    assert [row["loss"] for row in more["curves"]] == [row["loss"] for row in long["curves"]]
    one, other = (load_file(tmp_path / name / WEIGHTS) for name in ("short-4-epochs", "long"))
    assert all(torch.equal(one[name], other[name]) for name in other)
    assert detbench("train", "--resume", "short-4-epochs", "--epochs", 5, "--out", "more") == 0
    assert len(record.read(tmp_path / "more").curves) == 5


def test_more_epochs_do_not_begin_from_nothing_where_their_state_is_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def interrupt(self: loop.Loop, row: dict[str, float]) -> None:
        raise KeyboardInterrupt

    assert trained("--out", "short", CONSTANT) == 0
    more = ("train", "--resume", "short", "--epochs", 4, "--device", "cpu", "--json")
    with monkeypatch.context() as patch:
        patch.setattr(loop.Loop, "end_epoch", interrupt)
        assert detbench(*more) == 130
    (state,) = (tmp_path / "short-4-epochs").rglob("checkpoint.pt")
    state.write_bytes(state.read_bytes()[:1000])
    capfd.readouterr()
    assert detbench(*more) == 0
    told = json.loads(capfd.readouterr().out)["details"]["training"]["details"]
    assert (told["resumed"], told["deviations"]) == (1, [])


@pytest.mark.parametrize(
    ("knobs", "reason"),
    [
        ((), "its schedule, flat_cosine, depends on the number of epochs"),
        (("--set=recipe.schedule=step",), "its schedule, step,"),
        ((CONSTANT, "--set=recipe.last_epochs=1"), "ends with 1 epochs of their own augmentation"),
    ],
)
def test_more_epochs_where_the_schedule_is_over(
    knobs: tuple[str, ...], reason: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert trained("--out", "one", *knobs) == 0
    assert not (tmp_path / "one" / trainings.CHECKPOINT).exists()
    assert detbench("train", "--resume", "one", "--epochs", 4, "--device", "cpu") == 2
    refused(capfd, "one: cannot go on to 4 epochs", reason, "--weights one begins a new training")
    assert not (tmp_path / "one-4-epochs").exists()


def without_state(folder: Path) -> None:
    shutil.rmtree(folder / trainings.CHECKPOINT)


def cut(folder: Path) -> None:
    (folder / trainings.CHECKPOINT / "checkpoint.pt").write_bytes(b"PK")


def rewritten(folder: Path, **changes: object) -> None:
    file = folder / record.FILE
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), **changes}), "utf-8")


def of_another_seed(folder: Path) -> None:
    rewritten(folder, seed=7)


def of_unknown_code(folder: Path) -> None:
    rewritten(folder, code={})


def of_other_code(folder: Path) -> None:
    code = record.read(folder).code
    rewritten(
        folder, code={**code, "training": {**code["training"], "harness/training/loop.py": "0"}}
    )


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (of_unknown_code, "one: was trained by other code (code unknown)"),
        (of_other_code, "one: was trained by other code (harness/training/loop.py changed)"),
        (without_state, "no state that training goes on from"),
        (cut, "no state that training goes on from"),
        (of_another_seed, "belongs to a training with seed 0, this one has 7"),
    ],
)
def test_more_epochs_without_the_state(
    damage: Callable[[Path], None],
    reason: str,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    assert trained("--out", "one", CONSTANT) == 0
    damage(tmp_path / "one")
    assert detbench("train", "--resume", "one", "--epochs", 4, "--device", "cpu") == 2
    refused(capfd, reason, "--weights one")
    assert not (tmp_path / "one-4-epochs").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--resume", "one"), "--resume FOLDER and --epochs N go together"),
        (("--epochs", 3), "--resume FOLDER and --epochs N go together"),
        (("--resume", "one", "--epochs", 3, "--recipe", "smoke"), "leave out --recipe"),
        (("--resume", "one", "--epochs", 3, "--seed", 0), "leave out --seed"),
        (("tests.toy:TOY", "--epochs", 3), "here it is --set recipe.epochs=3"),
        (("tests.toy:TOY", "--out", "one"), "train needs --data, --recipe, or --resume"),
        (("--resume", "one", "--epochs", 3), "one: holds no finished training"),
    ],
)
def test_options_that_do_not_go_together(
    arguments: tuple[object, ...], words: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert detbench("train", *arguments) == 2
    refused(capfd, words)


def test_as_many_epochs_as_there_are(capfd: pytest.CaptureFixture[str]) -> None:
    assert trained("--out", "one", CONSTANT) == 0
    assert detbench("train", "--resume", "one", "--epochs", 2, "--device", "cpu") == 2
    refused(capfd, "one: cannot go on to 2 epochs: it has 2 epochs already")


def test_more_epochs_of_the_folder_that_one_is_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert trained("--out", "one", CONSTANT) == 0
    monkeypatch.chdir(tmp_path / "one")
    assert detbench("train", "--resume", ".", "--epochs", 3, "--device", "cpu") == 0
    assert len(record.read(tmp_path / "one-3-epochs").curves) == 3


def test_a_record_of_another_program_is_refused_as_something_else(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "album").mkdir()
    (tmp_path / "album" / record.FILE).write_text('{"an": "album"}', "utf-8")
    assert trained("--out", "album") == 2
    refused(capfd, "album: holds something else", "--out")
    assert detbench("train", "--resume", f"album/{record.FILE}", "--epochs", 3) == 2
    refused(capfd, "holds no finished training")
