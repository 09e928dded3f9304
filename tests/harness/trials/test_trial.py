from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from detectors import weights
from harness import data
from harness.machine import arithmetic, locks
from harness.measure.accuracy import detections
from harness.measure.latency import bench, samples
from harness.measure.runtimes import Verdict
from harness.records import Failure, learning, precision, record
from harness.records.progress import Progress
from harness.study import expand, load
from harness.study.specification import TrialSpec
from harness.tracking import contents
from harness.training.train import NotFiniteError
from harness.trials import folders, learn, timing, trainings, trial
from harness.trials.outcome import blank_failure
from harness.trials.reuse import NO_REFERENCE
from reports import tables
from tests.harness.studies import TOY, figures, write
from tests.patience import HANG

pytestmark = pytest.mark.usefixtures("calm")


@pytest.fixture(autouse=True)
def _own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Don't wait for whatever else is measured on this machine."""
    monkeypatch.setattr(locks, "_folder", lambda: tmp_path)


@pytest.fixture
def specs(tmp_path: Path) -> list[TrialSpec]:
    return expand(load(write(tmp_path)))


def test_what_learnt_nothing_is_told_to_every_reader(tmp_path: Path) -> None:
    changes = {**TOY["set"], "recipe.epochs": 3, "recipe.lr": 1e-12}
    seen: list[Progress] = []
    (spec, _) = expand(load(write(tmp_path, set=changes, measure=["accuracy"])))
    found = trial.run(spec, tmp_path / "first", on_progress=seen.append)
    rows = [step.row for step in seen if step.row]
    assert [row["step"] for row in rows if "live/loss" in row] == [1, 2, 3]
    curves = {row["step"]: row for row in found.curves}
    assert [row for row in rows if "mAP" in row] != []
    assert all(row["mAP"] == curves[row["step"]]["mAP"] for row in rows if "mAP" in row)
    (note,) = [step.note for step in seen if step.note]
    assert note.startswith("learns nothing so far: mAP 0.0")
    told = learning.learnt_nothing(record.read(tmp_path / "first"))
    assert told is not None
    assert "of 3 epochs: try " in told
    assert all(learning.NOTHING in found.caveats[name] for name in figures(found))
    assert contents.tags(found)["detbench.learnt_nothing"] == told
    assert [row["learnt_nothing"] for row in tables.trial_rows([found])] == [told]


def test_arithmetic_that_is_slower_here_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slowdown(precision: str, device: str, *, training: bool = False) -> float | None:
        return (9.0 if training else 25.0) if precision == "bf16" else None

    monkeypatch.setattr(arithmetic, "slowdown", slowdown)
    changes = {**TOY["set"], "recipe.precision": "bf16", "latency.precision": "bf16"}
    seen: list[Progress] = []
    (spec, _) = expand(load(write(tmp_path, set=changes)))
    found = trial.run(spec, tmp_path / "first", on_progress=seen.append)
    asked = {"recipe.precision bf16": 9.0, "latency.precision bf16": 25.0}
    assert found.environment["slowdown"] == asked
    notes = [step.note for step in seen if step.note and "precision" in step.note]
    assert [note.partition(":")[0] for note in notes] == list(asked)
    if "latency_ms" in found.metrics:  # else bf16 finds other objects than float32
        assert "25 times" in found.caveats["latency_ms"]


def test_a_trial_leaves_a_whole_record(specs: list[TrialSpec], tmp_path: Path) -> None:
    seen: list[Progress] = []
    first = trial.run(specs[0], tmp_path / "first", on_progress=seen.append)
    assert first.failure is None
    assert first.state == "done"
    assert record.read(tmp_path / "first").to_json() == first.to_json()
    for name in ("mAP", "params", "macs", "flops", "latency_ms", "nms_ms", "network_ms"):
        assert name in first.metrics
    assert not set(first.metrics) & set(first.absent)
    assert first.absent["latency_ratio"] == NO_REFERENCE
    assert first.absent["energy_j"]
    assert len(first.curves) == 2
    assert first.metrics["images_per_second"] == first.curves[1]["images_per_second"]
    assert first.absent["prop_cls"] == "the study does not measure queries"
    assert len(first.samples["latency_ms"]) >= 6
    assert first.config["detector.width"] == 4
    assert first.config["recipe.epochs"] == 2
    assert first.data["fingerprint"] == specs[0].dataset["fingerprint"]
    assert first.environment
    phases = ["data", "build", "complexity", "train", "evaluate", "latency"]
    assert [key for key in first.timings if key in phases] == phases
    assert list(dict.fromkeys(step.phase for step in seen))[:4] == phases[:4]
    assert any("mAP" in step.values for step in seen if step.phase == "train")
    found = detections.read(tmp_path / "first")
    assert isinstance(found, list)
    loaded = weights.load(tmp_path / "first", trusted=(specs[0].detector,))
    assert loaded.config == specs[0].setup.detector

    second = trial.run(specs[1], tmp_path / "second", reference=tmp_path / "first")
    assert second.failure is None
    assert second.details["reference"] == first.trial
    ratio = [second.metrics[f"latency_ratio{end}"] for end in ("_low", "", "_high")]
    assert ratio == sorted(ratio)
    assert len(second.samples["reference_latency_ms"]) == len(second.samples["latency_ms"])
    adjusted = second.metrics["latency_ratio"] * first.metrics["latency_ms"]
    assert second.metrics["latency_adjusted_ms"] == adjusted
    assert first.absent["latency_adjusted_ms"] == first.absent["latency_ratio"]
    assert second.metrics["roofline_fraction"] > 0
    assert second.metrics["reference_ratio_low"] <= second.metrics["reference_ratio_high"]
    stored = samples.read(tmp_path / "second")
    whole = {name.split("/")[0] for name in stored if name.endswith("/whole/latency_ms")}
    assert whole == {"trial", "reference", "reference-1"}
    assert stored["trial/whole/latency_ms"].ravel().tolist() == second.samples["latency_ms"]


def test_a_detector_that_selects_no_queries_says_so(tmp_path: Path) -> None:
    (spec, _) = expand(load(write(tmp_path, measure=["accuracy", "queries"])))
    found = trial.run(spec, tmp_path / "first")
    assert found.state == "done"
    reason = "the detector selects no features of its encoder to become queries"
    assert {found.absent[name] for name in ("prop_cls", "prop_both")} == {reason}
    assert found.protocol["queries"] == {"score": 0.5, "overlap": 0.5}
    assert "harness/measure/accuracy/queries.py" in found.code["queries"]
    assert "queries" in found.timings


RTDETR = {
    "detector": "rtdetr_r18",
    "set": {
        **{key: value for key, value in TOY["set"].items() if not key.startswith("latency.")},
        **{"detector.backbone.width_mult": 0.125, "detector.input.size": [64, 64]},
        **{"detector.neck.hidden_dim": 16, "detector.head.hidden_dim": 16},
        **{"detector.neck.feedforward_dim": 16, "detector.head.feedforward_dim": 16},
        **{"detector.head.num_layers": 1, "detector.head.num_queries": 30},
    },
    "recipe": "rtdetr_short",
    "measure": ["accuracy", "queries"],
    "sweep": {"detector.criterion.query_selection": ["vanilla", "uncertainty_minimal"]},
}


def test_both_ways_of_selecting_queries_are_measured(tmp_path: Path) -> None:
    for spec in expand(load(write(tmp_path, **RTDETR))):
        found = trial.run(spec, tmp_path / spec.trial)
        assert found.failure is None
        counted = found.details["queries"]
        assert counted["selected"] == 4 * 30
        assert found.metrics["prop_cls"] == counted["sure"] / counted["selected"]
        assert found.metrics["prop_both"] == counted["both"] / counted["selected"]
        assert "images_per_second" in found.metrics


def test_the_same_trial_gives_the_same_figures(specs: list[TrialSpec], tmp_path: Path) -> None:
    spec = specs[0].model_copy(update={"measure": ("accuracy",)})
    first = trial.run(spec, tmp_path / "a")
    second = trial.run(spec, tmp_path / "b")
    assert figures(first) == figures(second)
    files = [(tmp_path / name / "weights.safetensors").read_bytes() for name in "ab"]
    assert files[0] == files[1]


@pytest.mark.parametrize("when", ["train", "evaluate"])
def test_data_that_change_meanwhile_leave_no_result(
    specs: list[TrialSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str
) -> None:
    spec = specs[0].model_copy(update={"measure": ("accuracy",)})
    file = data.load(spec.data).val.path(0)
    before = file.read_bytes()

    def changing(step: Progress) -> None:
        if step.phase == when and step.done == 0:
            file.write_bytes(before + b" ")

    try:
        result = trial.run(spec, tmp_path / "a", on_progress=changing, shelf=tmp_path / "shelf")
    finally:
        file.write_bytes(before)
    assert result.failure is not None
    assert result.failure.cause == "data"
    assert "changed while it was in use" in result.failure.message
    assert "mAP" not in result.metrics
    stands = trainings.find(tmp_path / "shelf", spec.training) is not None
    assert stands == (when == "evaluate")  # which the pictures of that time were not part of
    kept = list((tmp_path / "shelf").glob(f".partial-*/{trainings.CHECKPOINT}"))
    assert kept == []


def test_what_is_not_measured_is_absent_with_a_reason(
    specs: list[TrialSpec], tmp_path: Path
) -> None:
    spec = specs[0].model_copy(update={"measure": ("complexity",)})
    result = trial.run(spec, tmp_path / "a")
    assert result.state == "done"
    assert result.absent["mAP"] == "the study does not measure accuracy"
    assert result.absent["latency_ms"] == "the study does not measure latency"
    assert result.artifacts == {}


def test_an_untrained_detector_is_timed_with_a_caveat(
    specs: list[TrialSpec], tmp_path: Path
) -> None:
    spec = specs[0].model_copy(update={"measure": ("latency",)})
    result = trial.run(spec, tmp_path / "a")
    assert result.failure is None
    assert "untrained" in result.caveats["nms_ms"]
    assert (tmp_path / "a" / "weights.safetensors").is_file()


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (torch.OutOfMemoryError("CUDA out of memory"), "out_of_memory"),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried"), "out_of_memory"),
        (NotFiniteError("loss is nan"), "not_finite"),
        (data.DataError("gone"), "data"),
        (KeyError("two\nlines"), "error"),
    ],
)
def test_a_failure_is_a_record_that_keeps_what_was_measured(
    specs: list[TrialSpec],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    cause: str,
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise error

    monkeypatch.setattr(learn, "train", fail)
    result = trial.run(specs[0], tmp_path / "a")
    assert result.state == "failed"
    assert result.failure is not None
    assert result.failure.cause == cause
    assert result.failure.message.startswith("train: ")
    assert "\n" not in result.failure.message
    assert "Traceback" in result.failure.details
    assert result.metrics["params"] > 0
    assert "failed" in result.absent["mAP"]
    assert record.read(tmp_path / "a").to_json() == result.to_json()


def test_a_data_set_that_changed_is_refused(specs: list[TrialSpec], tmp_path: Path) -> None:
    spec = specs[0].model_copy(update={"dataset": {"fingerprint": "another"}})
    result = trial.run(spec, tmp_path / "a")
    assert result.failure is not None
    assert result.failure.cause == "data"
    assert "changed" in result.failure.message


def test_training_can_start_from_weights(specs: list[TrialSpec], tmp_path: Path) -> None:
    spec = specs[0].model_copy(update={"measure": ("accuracy",)})
    trial.run(spec, tmp_path / "a")

    def from_(source: Path) -> TrialSpec:
        given = {"weights": str(source), "sweep": {"detector.width": [4]}}
        return expand(load(write(tmp_path, measure=["accuracy"], **given)))[0]

    again = from_(tmp_path / "a")
    assert again.trial != spec.trial
    assert again.trial == from_(tmp_path / "a" / "weights.safetensors").trial
    result = trial.run(again, tmp_path / "b")
    assert result.failure is None
    assert result.details["start"]["taken"] == "taken: backbone, head"
    assert result.details["start"]["fresh_parameters"] == 0
    assert result.config["weights.from"] == str(tmp_path / "a")
    (tmp_path / "a" / "weights.safetensors").write_bytes(b"another file")
    changed = trial.run(again, tmp_path / "c").failure
    assert changed is not None
    assert "changed since the study was started" in changed.message


def test_a_measurement_gets_in_between_two_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[str] = []
    original: Callable[[str], Any] = locks.working

    def working(device: str) -> Any:
        order.append("take")
        return original(device)

    monkeypatch.setattr(locks, "working", working)
    with trial.sharing("cuda:77", lambda step: order.append(step.phase)) as on_progress:
        on_progress(Progress("train", 1, 2, {}))
        on_progress(Progress("train", 2, 2, {}))
    assert order == ["take", "take", "train", "take", "train"]
    with locks.measuring("cuda:77") as waited:
        assert waited < 1


def test_a_crash_leaves_a_record_with_reasons(specs: list[TrialSpec]) -> None:
    result = blank_failure(specs[0], Failure(cause="crash", message="gone"), 1.0)
    assert result.state == "failed"
    assert result.absent["mAP"] == "the trial failed before: crash"
    assert result.timings["started"] == 1.0


def test_a_sweep_over_how_latency_is_measured_claims_no_ratio(tmp_path: Path) -> None:
    file = write(tmp_path, measure=["latency"], sweep={"latency.batch_size": [1, 2]})
    specs = expand(load(file))
    trial.run(specs[0], tmp_path / "first")
    second = trial.run(specs[1], tmp_path / "second", reference=tmp_path / "first")
    assert second.failure is None
    assert "latency_ratio" not in second.metrics
    assert "other knobs" in second.absent["latency_ratio"]


def test_a_reference_that_is_done_meanwhile_is_found_when_it_is_time(tmp_path: Path) -> None:
    specs = expand(load(write(tmp_path, measure=["latency"])))
    folder = tmp_path / "study"
    find = partial(folders.first_done, folder)
    first = trial.run(specs[0], folder / specs[0].trial, find_reference=find)
    assert first.absent["latency_ratio"] == NO_REFERENCE
    second = trial.run(specs[1], folder / ".partial-b", find_reference=find)
    assert second.details["reference"] == first.trial
    assert second.metrics["latency_ratio"] > 0


def test_a_trial_that_lets_go_of_the_device_is_given_time_to_be_written(
    specs: list[TrialSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = specs[0].model_copy(update={"measure": ("latency",)})
    first = trial.run(spec, tmp_path / "first")
    answers = iter([None, None, tmp_path / "first"])

    @contextmanager
    def had_to_wait(device: str) -> Iterator[float]:
        with measuring(device):
            yield 0.2

    measuring = locks.measuring
    monkeypatch.setattr(timing.locks, "measuring", had_to_wait)
    monkeypatch.setattr(timing, "SECONDS_TO_WRITE", HANG)
    second = trial.run(spec, tmp_path / "b", find_reference=lambda: next(answers))
    assert second.details["reference"] == first.trial


def test_a_trial_that_found_the_device_free_waits_for_no_other(
    specs: list[TrialSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = specs[0].model_copy(update={"measure": ("latency",)})
    answers = iter([None])
    monkeypatch.setattr(timing, "SECONDS_TO_WRITE", HANG)
    alone = trial.run(spec, tmp_path / "a", find_reference=lambda: next(answers))
    assert alone.absent["latency_ratio"] == NO_REFERENCE


def test_an_unavailable_runtime_fails_the_trial(tmp_path: Path) -> None:
    file = write(tmp_path, measure=["latency"], sweep={"latency.runtime": ["tensorrt"]})
    result = trial.run(expand(load(file))[0], tmp_path / "a")
    assert result.failure is not None
    assert result.failure.message.startswith("latency: tensorrt needs an NVIDIA GPU")


def test_a_trial_that_fails_the_gate_is_done_and_has_no_latency(
    specs: list[TrialSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gate(*arguments: Any, **options: Any) -> Verdict:
        return Verdict(False, "it sees ghosts", {"apart": 7.0}, {})

    monkeypatch.setattr(bench, "gate", gate)
    monkeypatch.setattr(bench, "_is_gated", lambda config: True)
    spec = specs[0].model_copy(update={"measure": ("latency",)})
    trial.run(spec, tmp_path / "first")
    result = trial.run(spec, tmp_path / "a", reference=tmp_path / "first")
    assert result.state == "done"
    assert result.absent["latency_ms"] == "it sees ghosts"
    assert result.absent["latency_ratio"] == "the first trial has no latency"
    assert result.details["latency"]["gate"]["figures"] == {"apart": 7.0}
    assert "samples" not in result.artifacts
    monkeypatch.setattr(bench, "_is_gated", lambda config: False)
    trial.run(spec, tmp_path / "first")
    monkeypatch.setattr(bench, "_is_gated", lambda config: True)
    result = trial.run(spec, tmp_path / "b", reference=tmp_path / "first")
    assert result.absent["latency_ratio"] == "it sees ghosts"
    assert record.read(tmp_path / "b").to_json() == result.to_json()


def test_a_trial_that_begins_does_not_disturb_a_measurement(
    specs: list[TrialSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[str] = []

    @contextmanager
    def working(device: str) -> Iterator[None]:
        held.append(device)
        yield
        held.pop()

    monkeypatch.setattr(locks, "working", working)
    outside: list[str] = []

    def look(module: Any, name: str) -> None:
        function = getattr(module, name)

        def watched(*arguments: Any, **keywords: Any) -> Any:
            if not held:
                outside.append(name)
            return function(*arguments, **keywords)

        monkeypatch.setattr(module, name, watched)

    look(data, "load")
    look(trial.complexity, "count")
    look(bench, "read_inputs")
    look(bench, "prepare")
    spec = specs[0].model_copy(update={"measure": ("complexity", "latency")})
    assert trial.run(spec, tmp_path / "a").failure is None
    assert outside == []


def test_a_detector_made_for_more_classes_is_scored_on_those_there_are(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        set={**TOY["set"], "detector.num_classes": 9, "detector.postprocess.score_threshold": 0.0},
        measure=["accuracy"],
    )
    result = trial.run(expand(load(file))[0], tmp_path / "a")
    assert result.failure is None
    assert "mAP" in result.metrics
    found = detections.read(tmp_path / "a")
    assert {item["category_id"] for item in found} <= set(range(1, 7))


def test_files_of_an_earlier_training_are_not_passed_off_as_a_failed_ones(
    specs: list[TrialSpec], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = specs[0].model_copy(update={"measure": ("accuracy",)})
    first = trial.run(spec, tmp_path / "a")
    assert set(first.artifacts) == {"weights", "config", "detections", "precision"}
    beside = precision.read(tmp_path / "a", first)
    assert beside is not None
    assert beside.objects > 0

    def fail(*arguments: Any, **keywords: Any) -> None:
        raise NotFiniteError("loss is nan")

    monkeypatch.setattr(learn, "train", fail)
    assert trial.run(spec, tmp_path / "a").artifacts == {}
