"""The shelf of trainings: made once, used by all who need them, whole or not there."""

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from detectors import weights
from harness import data
from harness.machine import conditions, locks
from harness.records import Record, latencies, record
from harness.study import expand, load
from harness.study.specification import TrialSpec
from harness.training.train import CheckpointError
from harness.trials import learn, trainings, trial
from harness.trials.trainings import Story, find, obtain
from tests.harness.studies import TOY, figures, write
from tests.patience import HANG

THRESHOLDS = {"detector.postprocess.score_threshold": [0.05, 0.2, 0.4]}


@pytest.fixture(autouse=True)
def _own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Don't wait for whatever else is measured on this machine."""
    monkeypatch.setattr(locks, "_folder", lambda: tmp_path)


def specs_of(folder: Path, **changes: Any) -> list[TrialSpec]:
    return expand(load(write(folder, **{"measure": ["accuracy"], **changes})))


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Count the trainings that are really made."""
    seeds: list[int] = []
    original = learn.train

    def watched(*arguments: Any, **keywords: Any) -> Any:
        seeds.append(keywords["seed"])
        return original(*arguments, **keywords)

    monkeypatch.setattr(learn, "train", watched)
    return seeds


def story(training: str = "abc") -> Story:
    return Story(training=training, made_by="toy/1", curves=[], seconds=1.0, finished=2.0)


def fill(folder: Path) -> Story:
    """Make what stands for a training."""
    (folder / weights.WEIGHTS_FILE).write_bytes(b"weights")
    (folder / weights.CONFIG_FILE).write_text("{}", "utf-8")
    return story()


def test_what_a_stranger_left_unfinished_leads_nowhere(tmp_path: Path) -> None:
    """A link in the place of the folder, or in it, would have its files written or removed."""
    shelf, outside = tmp_path / "shelf", tmp_path / "outside"
    shelf.mkdir()
    outside.mkdir()
    (outside / "notes").write_text("notes", "utf-8")
    trainings.partial_folder(shelf, "abc").symlink_to(outside)
    assert obtain(shelf, "abc", fill).folder == shelf / "abc"
    partial = trainings.partial_folder(shelf, "b12")
    partial.mkdir()
    for name, target in ((weights.CONFIG_FILE, "notes"), (trainings.CHECKPOINT, "")):
        (partial / name).symlink_to(outside / target)
    assert obtain(shelf, "b12", fill).folder == shelf / "b12"
    assert [item.name for item in outside.iterdir()] == ["notes"]
    assert (outside / "notes").read_text("utf-8") == "notes"


@pytest.mark.parametrize("text", ["{}", "[5]", '[{"mAP": "x"}]', "[{}]", "[" * 5000])
def test_validations_of_another_shape_are_as_good_as_none(tmp_path: Path, text: str) -> None:
    file = tmp_path / learn.VALIDATIONS_FILE
    file.write_text(text, "utf-8")
    assert learn._read(file) == []
    file.write_text('[{"step": 4, "mAP": 0.5}]', "utf-8")
    assert learn._read(file) == [{"step": 4, "mAP": 0.5}]


def test_only_what_determines_the_weights_is_in_the_hash(tmp_path: Path) -> None:
    def changed(**knobs: Any) -> TrialSpec:
        return specs_of(tmp_path, set={**TOY["set"], **knobs})[0]

    base = changed()
    for path, value in (
        ("detector.postprocess.score_threshold", 0.3),
        ("detector.postprocess.iou_threshold", 0.3),
        ("latency.precision", "bf16"),
        ("latency.runtime", "onnxruntime"),
        ("recipe.workers", 1),
    ):
        assert changed(**{path: value}).training == base.training, path
    for path, value in (
        ("detector.assigner.topk", 5),
        ("detector.input.size", [72, 72]),
        ("recipe.lr", 0.1),
        ("data.shapes.seed", 3),
    ):
        assert changed(**{path: value}).training != base.training, path
    assert specs_of(tmp_path, seeds=[1])[0].training != base.training
    both = specs_of(tmp_path, measure=["latency", "accuracy"])[0]
    assert both.training == base.training


def test_other_initial_weights_are_another_training(tmp_path: Path) -> None:
    spec = specs_of(tmp_path, sweep={"detector.width": [8]})[0]
    weights.save(spec.setup.detector.build(), tmp_path / "a", spec.detector)
    weights.save(spec.setup.detector.build(), tmp_path / "b", spec.detector)

    def from_(source: Path) -> str:
        one = {"detector.width": [8]}
        return specs_of(tmp_path, sweep=one, weights=str(source))[0].training

    found = [from_(tmp_path / name) for name in "ab"]
    assert len({spec.training, *found}) == 3
    assert from_(tmp_path / "a" / weights.WEIGHTS_FILE) == found[0]


def test_trials_that_differ_at_inference_share_one_training(
    tmp_path: Path, counted: list[int]
) -> None:
    specs, shelf = specs_of(tmp_path, sweep=THRESHOLDS), tmp_path / "shelf"
    results = [trial.run(spec, tmp_path / spec.trial, shelf=shelf) for spec in specs]
    assert [result.failure for result in results] == [None] * 3
    assert counted == [0]
    assert len({spec.trial for spec in specs}) == 3
    files = [(tmp_path / spec.trial / weights.WEIGHTS_FILE) for spec in specs]
    assert len({os.stat(file).st_ino for file in files}) == 1
    for spec, result in zip(specs, results, strict=True):
        loaded = weights.load(tmp_path / spec.trial, trusted=(spec.detector,))
        assert loaded.config == spec.setup.detector
        assert result.curves == results[0].curves
        assert "train" in result.timings
    told = [result.details["training"]["validated_with"] for result in results]
    path = "postprocess.score_threshold"
    assert told == [{}, {path: 0.05}, {path: 0.05}]
    alone = trial.run(specs[2], tmp_path / "alone")
    assert figures(alone) == figures(results[2])
    assert not (tmp_path / "alone" / trainings.SHELF).exists()


def test_trials_that_differ_in_the_size_at_inference_share_one_training(
    tmp_path: Path, counted: list[int]
) -> None:
    changes = {**TOY["set"], "detector.input.train_size": [64, 64]}
    sweep = {"detector.input.size": [[32, 32], [64, 64]]}
    specs = specs_of(tmp_path, set=changes, sweep=sweep, measure=["complexity", "accuracy"])
    results = [trial.run(spec, tmp_path / spec.trial, shelf=tmp_path / "s") for spec in specs]
    assert [result.failure for result in results] == [None] * 2
    assert counted == [0]
    small, large = (result.metrics["macs"] for result in results)
    assert large == 4 * small
    assert results[0].details["training"]["validated_with"]["input.size"] == [64, 64]
    plain = specs_of(tmp_path, measure=["accuracy"], sweep={"detector.width": [8, 4]})[0]
    assert plain.training == specs[0].training


def test_who_trains_does_not_matter(tmp_path: Path) -> None:
    specs = specs_of(tmp_path, sweep=THRESHOLDS)
    orders = {"up": specs, "down": specs[::-1]}
    found = {
        name: {
            spec.trial: trial.run(spec, tmp_path / name / spec.trial, shelf=tmp_path / name / "s")
            for spec in order
        }
        for name, order in orders.items()
    }
    for spec in specs:
        up, down = found["up"][spec.trial], found["down"][spec.trial]
        assert figures(up) == figures(down)
        names = ("epoch", "loss", "mAP")
        rows = [[[row[key] for key in names] for row in each.curves] for each in (up, down)]
        assert rows[0] == rows[1]


def test_a_training_stands_whole_and_nothing_else_with_it(tmp_path: Path) -> None:
    def make(folder: Path) -> Story:
        (folder / trainings.CHECKPOINT).mkdir()
        (folder / trainings.CHECKPOINT / "state.pt").write_bytes(b"large")
        (folder / learn.VALIDATIONS_FILE).write_text("[]", "utf-8")
        return fill(folder)

    found = obtain(tmp_path, "abc", make)
    assert {item.name for item in found.folder.iterdir()} == {
        *(weights.WEIGHTS_FILE, weights.CONFIG_FILE, trainings.STORY_FILE)
    }
    assert found == find(tmp_path, "abc")
    assert not trainings.partial_folder(tmp_path, "abc").exists()
    held = trainings.sizes(tmp_path)
    assert (held.finished > 7, held.unfinished) == (True, 0)


@pytest.mark.parametrize("damage", [weights.WEIGHTS_FILE, trainings.STORY_FILE])
def test_a_damaged_training_is_made_anew(tmp_path: Path, damage: str) -> None:
    folder = obtain(tmp_path, "abc", fill).folder
    (folder / damage).unlink()
    assert find(tmp_path, "abc") is None
    assert obtain(tmp_path, "abc", fill).story == story()


def test_an_attempt_that_failed_leaves_its_checkpoint_to_the_next(tmp_path: Path) -> None:
    def die(folder: Path) -> Story:
        (folder / trainings.CHECKPOINT).mkdir()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        obtain(tmp_path, "abc", die)

    def resume(folder: Path) -> Story:
        assert (folder / trainings.CHECKPOINT).is_dir()
        return fill(folder)

    assert obtain(tmp_path, "abc", resume).story == story()


def test_a_training_given_up_leaves_no_checkpoint(tmp_path: Path) -> None:
    (spec, *_) = specs_of(tmp_path)
    checkpoint = trainings.partial_folder(tmp_path, spec.training) / trainings.CHECKPOINT
    seen: list[bool] = []

    def judge(stage: Any, *asked: Any) -> str | None:
        seen.append(checkpoint.is_dir())
        return "hopeless" if stage == "epoch" else None

    result = trial.run(spec, tmp_path / "a", shelf=tmp_path, judge=judge)
    assert (result.state, seen) == ("pruned", [False, True])
    assert not checkpoint.exists()


def test_a_killed_training_goes_on_where_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    changes = {**TOY["set"], "recipe.epochs": 4, "recipe.validate_every": 2}
    (spec, *_) = specs_of(tmp_path, set=changes)
    whole = trial.run(spec, tmp_path / "whole", shelf=tmp_path / "other")
    asked: list[list[float]] = []

    def judge(stage: Any, metrics: Any, curves: list[dict[str, float]]) -> None:
        asked.append([row["epoch"] for row in curves])

    original = learn.evaluate

    def die(*arguments: Any, **keywords: Any) -> Any:
        raise Killed

    monkeypatch.setattr(learn, "evaluate", die)
    with pytest.raises(Killed):
        trial.run(spec, tmp_path / "a", shelf=tmp_path / "shelf", judge=judge)
    monkeypatch.setattr(learn, "evaluate", original)
    resumed = trial.run(spec, tmp_path / "a", shelf=tmp_path / "shelf", judge=judge)
    assert (resumed.failure, figures(resumed)) == (None, figures(whole))
    assert resumed.details["training"]["details"]["resumed"] == 1
    assert asked == [[], [], [2]]  # before training, twice; and after the validation that died
    assert [row["epoch"] for row in resumed.curves] == [1, 2, 3, 4]
    for name in "loss", "mAP":
        found = [[row.get(name) for row in each.curves] for each in (resumed, whole)]
        assert found[0] == found[1]


def test_a_checkpoint_of_another_device_is_not_gone_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (spec, *_) = specs_of(tmp_path)
    checkpoint = trainings.partial_folder(tmp_path, spec.training) / trainings.CHECKPOINT
    checkpoint.mkdir(parents=True)
    original = learn.train

    def refuse(*arguments: Any, **keywords: Any) -> Any:
        if checkpoint.is_dir():
            raise CheckpointError("belongs to a training with device cuda")
        return original(*arguments, **keywords)

    monkeypatch.setattr(learn, "train", refuse)
    assert trial.run(spec, tmp_path / "a", shelf=tmp_path).state == "done"


def _hold(shelf: Path, ready: Any) -> None:
    with FileLock(shelf / ".abc.lock"):
        ready.send(True)
        time.sleep(2 * HANG)


def test_the_lock_of_a_dead_owner_is_free(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainings, "SECONDS_BETWEEN_LOOKS", 0.05)
    context = multiprocessing.get_context("fork")
    ready, told = context.Pipe(duplex=False)
    owner = context.Process(target=_hold, args=(tmp_path, told), daemon=True)
    owner.start()
    ready.recv()
    waited: list[bool] = []

    def wait() -> None:
        waited.append(owner.is_alive())
        if len(waited) == 2:
            assert owner.pid
            os.kill(owner.pid, signal.SIGKILL)

    assert obtain(tmp_path, "abc", fill, wait).story == story()
    owner.join()
    assert waited[:2] == [True, True]


def test_who_waited_for_a_training_uses_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainings, "SECONDS_BETWEEN_LOOKS", 0.05)
    lock = FileLock(tmp_path / ".abc.lock")
    lock.acquire()

    def finish() -> None:
        trainings._make(tmp_path, "abc", fill)
        lock.release()

    def never(folder: Path) -> Story:
        raise AssertionError("it is made twice")

    assert obtain(tmp_path, "abc", never, finish).story == story()


def test_a_training_is_made_beside_that_of_a_process_that_was_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one that was stopped goes on once it is woken, and finds the other's in place."""
    monkeypatch.setattr(trainings, "SECONDS_BETWEEN_LOOKS", 0.01)
    monkeypatch.setattr(trainings, "SECONDS_OF_GRACE", 0.05)
    monkeypatch.setattr(trainings, "SECONDS_BETWEEN_BEATS", HANG)  # which stopped threads don't
    makers: list[str] = []

    def slow(folder: Path) -> Story:
        makers.append(folder.name)
        (folder / trainings.CHECKPOINT).write_text("half way", "utf-8")
        beside = obtain(tmp_path, "abc", quick)  # of another process, while this one is stopped
        assert beside.folder == tmp_path / "abc"
        return fill(folder).model_copy(update={"seconds": 2.0})

    def quick(folder: Path) -> Story:
        makers.append(folder.name)
        assert (folder / trainings.CHECKPOINT).read_text("utf-8") == "half way"
        return fill(folder)

    assert obtain(tmp_path, "abc", slow).story == story(), "the first in place stays"
    assert makers == [".partial-abc", ".partial-abc+2"]
    assert [item.name for item in tmp_path.iterdir() if item.is_dir()] == ["abc"]


def test_a_training_that_takes_long_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainings, "SECONDS_BETWEEN_LOOKS", 0.01)
    monkeypatch.setattr(trainings, "SECONDS_OF_GRACE", HANG)
    waited: list[int] = []
    lock = FileLock(tmp_path / ".abc.lock")
    lock.acquire()

    def look() -> None:
        waited.append(1)
        if len(waited) == 20:
            lock.release()

    assert obtain(tmp_path, "abc", fill, look).story == story()
    assert len(waited) == 20


def test_of_processes_that_train_together_the_first_keeps_what_comes_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (spec, *_) = specs_of(tmp_path)
    shelf, trained = tmp_path / "shelf", []
    monkeypatch.setattr(learn.Learner, "learn", lambda self, folder: trained.append(folder))
    monkeypatch.setattr(trainings.record, "write_whole", None)
    monkeypatch.setattr(trial.processes, "is_first", lambda: False)
    shelf.mkdir()
    with FileLock(shelf / f".{spec.training}.lock"):  # which the first holds
        result = trial.run(spec, tmp_path / "out", shelf=shelf)
    assert result.failure is None
    assert trained == [trainings.partial_folder(shelf, spec.training)]
    assert list((tmp_path / "out").iterdir()) == []


def test_of_processes_that_would_train_together_none_does_what_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (spec, *_) = specs_of(tmp_path)
    trial.run(spec, tmp_path / "first", shelf=tmp_path / "shelf")
    monkeypatch.setattr(learn.Learner, "learn", None)
    monkeypatch.setattr(trial.processes, "is_first", lambda: False)
    assert trial.run(spec, tmp_path / "out", shelf=tmp_path / "shelf").failure is None


def test_the_judge_is_asked_after_each_validation_but_the_last(tmp_path: Path) -> None:
    asked: list[tuple[str, dict[str, float], list[dict[str, float]]]] = []

    def judge(stage: Any, metrics: dict[str, float], curves: list[dict[str, float]]) -> None:
        asked.append((stage, metrics, list(curves)))

    changes = {**TOY["set"], "recipe.epochs": 3}
    (spec, *_) = specs_of(tmp_path, measure=["complexity", "accuracy"], set=changes)
    result = trial.run(spec, tmp_path / "a", judge=judge)
    assert result.state == "done"
    assert [stage for stage, *_ in asked] == ["cheap", "epoch", "epoch"]
    assert asked[0][1]["params"] == result.metrics["params"]
    assert "mAP" not in asked[0][1]
    assert asked[1][1]["params"] == result.metrics["params"]
    assert [row["epoch"] for row in asked[2][2]] == [1, 2]
    assert [row["mAP"] for row in asked[2][2]] == [row["mAP"] for row in result.curves[:2]]


def test_what_the_judge_rules_out_for_free_is_never_trained(
    tmp_path: Path, counted: list[int]
) -> None:
    (spec, *_) = specs_of(tmp_path, measure=["complexity", "accuracy", "latency"])
    result = trial.run(spec, tmp_path / "a", judge=lambda *asked: "too many parameters")
    assert (result.state, result.stopped, result.failure) == (
        *("pruned", "too many parameters", None),
    )
    assert counted == []
    assert "train" not in result.timings
    assert result.metrics["params"] > 0
    assert result.absent["mAP"] == "the trial was given up: too many parameters"
    assert record.read(tmp_path / "a").to_json() == result.to_json()


def judged_by_time(folder: Path) -> Record:
    """Run a trial that is given up as soon as a bound of its latency is known."""

    def judge(stage: Any, metrics: dict[str, float], curves: Any) -> str | None:
        return "too slow" if "latency_ms" in metrics else None

    (spec, *_) = specs_of(folder, measure=["complexity", "accuracy", "latency"])
    spec = spec.model_copy(update={"cheap_latency": True})
    return trial.run(spec, folder / "a", judge=judge)


@pytest.mark.usefixtures("calm")
def test_latency_is_bounded_before_training_where_it_matters(
    tmp_path: Path, counted: list[int]
) -> None:
    result = judged_by_time(tmp_path)
    assert (result.state, counted) == ("pruned", [])
    assert result.metrics["network_ms"] > 0
    assert result.caveats["network_ms"] == trial.UNTRAINED
    assert "latency_ms" not in result.metrics
    assert "nms_ms" not in result.metrics


def test_a_bound_that_others_disturbed_rules_nothing_out(
    tmp_path: Path, counted: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def disturbed(windows: Any, *_: Any) -> list[conditions.Taint]:
        return [conditions.Taint(index, "others", "") for index in range(len(windows))]

    monkeypatch.setattr(conditions, "taint", disturbed)
    result = judged_by_time(tmp_path)
    assert (result.state, len(counted)) == ("done", 1)
    assert latencies.rough(result) is not None


def test_a_training_given_up_is_not_repeated_for_the_same_verdict(
    tmp_path: Path, counted: list[int]
) -> None:
    def judge(stage: Any, metrics: dict[str, float], curves: list[Any]) -> str | None:
        return "hopeless" if stage == "epoch" and len(curves) == 1 else None

    first, second, third = specs_of(tmp_path, sweep=THRESHOLDS)
    shelf = tmp_path / "shelf"
    for spec in (first, second):
        result = trial.run(spec, tmp_path / spec.trial, shelf=shelf, judge=judge)
        assert (result.state, result.stopped) == ("pruned", "hopeless")
    assert len(counted) == 1
    result = trial.run(third, tmp_path / third.trial, shelf=shelf)
    assert (result.state, len(result.curves), len(counted)) == ("done", 2, 2)


def test_a_data_error_is_still_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **keywords: Any) -> None:
        raise data.DataError("gone")

    monkeypatch.setattr(learn, "evaluate", fail)
    (spec, *_) = specs_of(tmp_path)
    result = trial.run(spec, tmp_path / "a", judge=lambda *asked: None)
    assert (result.state, result.stopped) == ("failed", None)
