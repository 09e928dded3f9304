"""What another study has found already is taken over, as far as it holds."""

from pathlib import Path
from typing import Any

import pytest

from detectors import weights
from harness.machine import environment, locks
from harness.measure.latency import samples
from harness.records import Record, latencies, record
from harness.records.progress import ignore
from harness.study import expand, load
from harness.study.specification import TrialSpec
from harness.trials import folders, learn, together, trainings, trial
from tests.harness.studies import write

pytestmark = pytest.mark.usefixtures("calm")
BOTH = ("latency_ratio", "latency_adjusted_ms")


@pytest.fixture(autouse=True)
def _own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Don't wait for whatever else is measured on this machine."""
    monkeypatch.setattr(locks, "_folder", lambda: tmp_path)


def specs_of(folder: Path, name: str, **changes: Any) -> list[TrialSpec]:
    return expand(load(write(folder, name=name, **changes)))


def run(out: Path, spec: TrialSpec, reference: TrialSpec | None = None) -> Record:
    against = out / reference.study / reference.trial if reference else None
    folder = out / spec.study / spec.trial
    return trial.run(spec, folder, reference=against, shelf=out / trainings.SHELF)


def moved(spec: TrialSpec) -> TrialSpec:
    """Return the same trial in another study."""
    return spec.model_copy(update={"study": "two"})


def never(*arguments: Any, **keywords: Any) -> None:
    raise AssertionError("it is done twice")


def forbid(monkeypatch: pytest.MonkeyPatch, *, latency: bool) -> None:
    """Let nothing be trained, evaluated or counted again."""
    monkeypatch.setattr(learn, "train", never)
    monkeypatch.setattr(learn, "evaluate", never)
    monkeypatch.setattr(trial.complexity, "count", never)
    if latency:
        monkeypatch.setattr("harness.measure.latency.measure", never)


def move(out: Path, spec: TrialSpec) -> None:
    """Pretend that a trial was run on another machine."""
    folder = out / spec.study / spec.trial
    found = record.read(folder)
    found.environment = {**found.environment, "host": "elsewhere"}
    found.write(folder)


def test_a_trial_of_another_study_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = specs_of(tmp_path, "one")
    first, second = run(tmp_path, a), run(tmp_path, b, a)
    forbid(monkeypatch, latency=True)
    c = moved(a).model_copy(update={"name": "small", "overrides": {"detector.width": 4}})
    d = moved(b)
    again, beside = run(tmp_path, c), run(tmp_path, d, c)
    assert (again.state, again.study, again.name) == ("done", "two", "small")
    assert again.overrides == {"detector.width": 4}
    assert again.metrics == first.metrics
    assert again.curves == first.curves
    assert again.details["reused"] == {"from": f"one/{a.trial}", "latency": True}
    assert beside.metrics == second.metrics  # timed against the same trial
    assert beside.details["reference"] == c.trial
    assert record.read(tmp_path / "two" / d.trial).to_json() == beside.to_json()
    loaded = weights.load(tmp_path / "two" / d.trial, trusted=(d.detector,))
    assert loaded.config == d.setup.detector
    assert samples.read(tmp_path / "two" / d.trial).keys()


def test_a_latency_that_was_taken_over_is_rough_until_it_is_timed_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = specs_of(tmp_path, "one", measure=["complexity", "latency"])
    first = run(tmp_path, a)
    first.details["together"] = {"session": "theirs"}
    first.write(tmp_path / "one" / a.trial)
    with monkeypatch.context() as patch:
        forbid(patch, latency=True)
        borrowed = run(tmp_path, moved(a))
    folder = tmp_path / "two"
    assert latencies.rough(borrowed) == (
        f"timed for one/{a.trial}, at another time than this study's trials"
    )
    assert latencies.session(borrowed) is None
    assert borrowed.metrics["latency_ms"] == first.metrics["latency_ms"]
    assert not [name for name in latencies.firm(borrowed) if latencies.is_time(name)]
    assert latencies.firm(borrowed)["macs"] == first.metrics["macs"]
    assert not folders.can_be_reference(borrowed)
    assert folders.first_done(folder) is None
    own = run(tmp_path, moved(b), moved(a))
    assert own.metrics["latency_ratio"] > 0  # timed in turns with the other's detector
    assert own.absent["latency_adjusted_ms"].startswith("the latency of the first trial is rough")
    study = load(write(tmp_path, name="two", measure=["complexity", "latency"]))
    (group,) = together.groups(study, [borrowed, own], folder, "cpu")
    assert not together.share_rounds(group.trials)
    together.write(together.measure(group, folder, "cpu", ignore), folder)
    found = [record.read(folder / spec.trial) for spec in (a, b)]
    assert [latencies.rough(item) for item in found] == [None, None]
    assert together.share_rounds(found)
    ratio = found[1].metrics["latency_ms"] / found[0].metrics["latency_ms"]
    assert ratio == pytest.approx(found[1].metrics["latency_ratio"])
    assert found[0].details["alone"]["metrics"]["latency_ms"] == first.metrics["latency_ms"]


def test_a_ratio_to_a_trial_of_another_study_is_not_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = specs_of(tmp_path, "one", measure=["latency"])
    run(tmp_path, a)
    assert "latency_ratio_low" in run(tmp_path, b, a).metrics
    forbid(monkeypatch, latency=True)
    alone = run(tmp_path, moved(b))
    assert not [name for name in alone.metrics if name in trial.reuse.RATIOS]
    assert alone.metrics["latency_ms"] > 0
    assert {alone.absent[name] for name in BOTH} == {trial.reuse.NO_REFERENCE}
    assert "reference" not in alone.details
    assert "reference_latency_ms" not in alone.samples
    beside = run(tmp_path, moved(a), moved(b))
    assert "not in turns with a trial of this study" in beside.absent["latency_ratio"]


def test_latency_is_measured_again_on_another_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (a, _) = specs_of(tmp_path, "one")
    first = run(tmp_path, a)
    move(tmp_path, a)
    forbid(monkeypatch, latency=False)
    again = run(tmp_path, moved(a))
    assert (again.state, again.failure) == ("done", None)
    assert again.metrics["mAP"] == first.metrics["mAP"]
    assert again.metrics["macs"] == first.metrics["macs"]
    assert again.metrics["latency_ms"] != first.metrics["latency_ms"]
    assert again.details["reused"]["latency"] is False
    assert "latency" in again.timings
    assert "train" not in again.timings
    assert again.environment["host"] != "elsewhere"
    assert "untrained" not in again.caveats.get("nms_ms", "")


def test_only_what_is_whole_and_done_is_taken_over(tmp_path: Path) -> None:
    (a, _) = specs_of(tmp_path, "one", measure=["accuracy"])
    facts = environment.capture("cpu")
    result = run(tmp_path, a)
    other = moved(a)
    assert trial.reuse.find(a, tmp_path, facts) is None  # its own study's
    assert trial.reuse.find(other, tmp_path, facts)
    file = tmp_path / "one" / a.trial / weights.WEIGHTS_FILE
    file.unlink()
    assert trial.reuse.find(other, tmp_path, facts) is None
    file.touch()
    result.model_copy(update={"state": "pruned"}).write(file.parent)
    assert trial.reuse.find(other, tmp_path, facts) is None
    (file.parent / record.FILE).write_text("{", "utf-8")
    assert trial.reuse.find(other, tmp_path, facts) is None


def test_a_machine_is_known_by_what_makes_it_fast() -> None:
    facts = {"device": "cuda:0", "host": "a", "cpu": {"model": "x", "load": 0.5}}
    facts["gpu"] = {"name": "g", "memory_bytes": 8, "clock_mhz": 900, "driver": "1"}
    same = facts | {"device": "cuda:1", "cpu": {"model": "x", "load": 3.0}, "threads": 4}
    same["gpu"] = {"name": "g", "memory_bytes": 8, "clock_mhz": 1500, "driver": "1"}
    assert environment.identity(same) == environment.identity(facts)
    for change in ({"host": "b"}, {"device": "cpu"}, {"variables": {"OMP_NUM_THREADS": "1"}}):
        assert environment.identity(facts | change) != environment.identity(facts)
