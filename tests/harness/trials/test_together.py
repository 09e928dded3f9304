"""Finished trials timed once more, together, by a clock that goes as it is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detectors import weights
from detectors.config import flatten
from harness import data
from harness.config.latency import LatencyConfig
from harness.data import DataError
from harness.machine import conditions, environment
from harness.machine.conditions import Taint
from harness.measure.latency import Subject, Timing, samples
from harness.records import Record, latencies, record
from harness.records.progress import ignore
from harness.study import Study, expand, load
from harness.trials import together
from harness.trials.together import NotTimedError, brief, groups, share_rounds
from tests.harness.measure.latency.timing import FakeClock, slowed, timed
from tests.harness.studies import TOGETHER, TOY, write
from tests.toy import TOY as CONFIG

TIMES = {"a": 3.0, "b": 7.0, "c": 15.0, "d": 31.0}
"""Milliseconds that trials claim to take, one more for the clock's own reading."""


class Unwatched:
    """Conditions of which nothing was read."""

    def __init__(self) -> None:
        self.samples: list[Any] = []
        self.absent: dict[str, str] = {}
        self.share_of_core = 0.0

    def __enter__(self) -> Unwatched:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class Clockwork:
    """Takes the place of `latency.measure`; the machine slows down from one call to the next."""

    def __init__(self, drift: Sequence[float] = (1.0,)) -> None:
        self.drift = drift
        self.calls: list[list[str]] = []
        self.configs: list[LatencyConfig] = []

    def __call__(
        self, subjects: Mapping[str, Subject], split: Any, config: LatencyConfig, **_: Any
    ) -> dict[str, Timing]:
        slower = self.drift[len(self.calls) % len(self.drift)]
        self.calls.append(list(subjects))
        self.configs.append(config)
        clock = FakeClock()
        made = {
            name: slowed(clock, backbone=slower * (TIMES[name] + 1) - 1, postprocess=0)
            for name in subjects
        }
        return timed(made, clock, sampler=Unwatched())


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return load(write(tmp_path, set=TOGETHER))


@pytest.fixture
def clockwork(monkeypatch: pytest.MonkeyPatch) -> Clockwork:
    found = Clockwork()
    monkeypatch.setattr(together.latency, "measure", found)
    monkeypatch.setattr(conditions, "taint", lambda *arguments: [])
    return found


def made(folder: Path, study: Study, trial: str, **changes: Any) -> Record:
    """Write the record of a finished trial, and its weights."""
    weights.save(CONFIG.build(), folder / trial, "tests.toy:TOY")
    (folder / trial / "samples.npz").write_bytes(b"raw")
    config = study.setup()
    facts: dict[str, Any] = {
        "study": study.name,
        "trial": trial,
        "name": trial,
        "detector": "tests.toy:TOY",
        "overrides": {"detector.width": 4},
        "config": {},
        "seed": 0,
        "state": "done",
        "metrics": {"mAP": 0.5, "latency_ms": 99.0, "latency_ratio": 9.0, "energy_j": 1.5},
        "absent": {"nms_ms": "not taken apart", "mAP_s": "no small object"},
        "caveats": {"latency_ms": f"{latencies.ROUGH}timed for another", "energy_j": "short"},
        "details": {"reference": "z", "training": {}, "latency": {"energy": {"a": 1}, "rounds": 6}},
        "samples": {"latency_ms": [99.0], "reference_latency_ms": [11.0]},
        "protocol": {"latency": config.latency.of_result()},
        "data": {"fingerprint": data.load(config.data).fingerprint},
        "environment": environment.capture("cpu"),
        "timings": {"started": 1.0, "finished": 2.0},
        "artifacts": {
            "weights": "weights.safetensors",
            "config": "config.json",
            "samples": "samples.npz",
        },
    }
    result = Record(**{**facts, **changes})
    result.write(folder / trial)
    return result


def time_all(study: Study, folder: Path, trials: str = "abc") -> list[Record]:
    """Time trials together, and return the records as they stand then."""
    found = [record.read(folder / trial) for trial in trials]
    (group,) = groups(study, found, folder, "cpu")
    together.write(together.measure(group, folder, "cpu", ignore), folder)
    return [record.read(folder / trial) for trial in trials]


def test_a_row_tells_one_story(tmp_path: Path, study: Study, clockwork: Clockwork) -> None:
    for trial in "abc":
        made(tmp_path, study, trial)
    first, *others = time_all(study, tmp_path)
    assert first.metrics["latency_ms"] == 4.0
    assert [item.metrics["latency_ms"] for item in others] == pytest.approx([8.0, 16.0])
    for item in others:
        metrics = item.metrics
        for end in ("", "_low", "_high"):
            assert metrics[f"latency_adjusted{end}_ms"] == metrics[f"latency{end}_ms"]
        times_first = metrics["latency_ratio"] * first.metrics["latency_ms"]
        assert metrics["latency_ms"] == pytest.approx(times_first, rel=1e-12)
        assert metrics["latency_low_ms"] <= metrics["latency_ms"] <= metrics["latency_high_ms"]
        assert item.details["reference"] == "a"
        assert item.samples["reference_latency_ms"] == first.samples["latency_ms"]
    assert "latency_ratio" not in first.metrics
    assert first.absent["latency_ratio"] == "the others are compared with this trial"
    assert "reference" not in first.details
    assert [latencies.rough(item) for item in (first, *others)] == [None] * 3
    assert share_rounds([first, *others])
    told = first.details["together"]
    assert told["trials"] == ["a", "b", "c"]
    assert told["finished"] > 0
    assert told["seconds"] > 0
    assert clockwork.calls == [["a", "b", "c"]]


def test_what_is_no_time_stays_and_the_earlier_times_are_a_detail(
    tmp_path: Path, study: Study, clockwork: Clockwork
) -> None:
    before = made(tmp_path, study, "a")
    made(tmp_path, study, "b")
    after, _ = time_all(study, tmp_path, "ab")
    parts = {"metrics", "absent", "caveats", "details", "samples", "artifacts"}
    assert after.model_dump(exclude=parts) == before.model_dump(exclude=parts)
    assert (after.metrics["mAP"], after.metrics["energy_j"]) == (0.5, 1.5)
    assert after.caveats == {"energy_j": "short"}
    assert after.absent["mAP_s"] == "no small object"
    assert "nms_ms" in after.metrics
    assert "nms_ms" not in after.absent
    assert after.details["training"] == {}
    assert after.details["latency"]["energy"] == {"a": 1}
    assert after.details["alone"] == {
        "metrics": {"latency_ms": 99.0, "latency_ratio": 9.0},
        "absent": {"nms_ms": "not taken apart"},
        "caveats": {"latency_ms": f"{latencies.ROUGH}timed for another"},
        "latency": before.details["latency"],
        "reference": "z",
    }
    assert after.artifacts["samples_alone"] == "samples.npz"
    assert (tmp_path / "a" / "samples.npz").read_bytes() == b"raw"
    again, _ = time_all(study, tmp_path, "ab")
    assert again.details["alone"] == after.details["alone"]
    assert latencies.session(again) != latencies.session(after)
    files = {file.name for file in (tmp_path / "a").glob("samples*")}
    assert files == {"samples.npz", again.artifacts["samples"]}


def test_samples_of_the_shared_rounds_give_the_figures_again(
    tmp_path: Path, study: Study, clockwork: Clockwork
) -> None:
    made(tmp_path, study, "a")
    made(tmp_path, study, "b")
    first, second = time_all(study, tmp_path, "ab")
    stored = samples.read(tmp_path / "b", second.artifacts["samples"])
    own, reference = (stored[f"{name}/whole/latency_ms"] for name in ("trial", "reference"))
    assert own.ravel().tolist() == second.samples["latency_ms"]
    assert np.median(reference) == first.metrics["latency_ms"]
    scaled = np.median(own) * second.details["together"]["scale"]
    assert scaled == pytest.approx(second.metrics["latency_ms"])


def test_trials_that_were_not_in_memory_at_once_are_comparable(
    tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    drifting = Clockwork(drift=(1.0, 3.0, 3.0))
    monkeypatch.setattr(together.latency, "measure", drifting)
    monkeypatch.setattr(together, "AT_A_TIME", 2)
    for trial in "abcd":
        made(tmp_path, study, trial)
    first, *others = time_all(study, tmp_path, "abcd")
    assert drifting.calls == [["a", "b"], ["a", "c"], ["a", "d"]]
    assert first.metrics["latency_ms"] == 12.0  # the median of its rounds in all three
    assert [item.metrics["latency_ratio"] for item in others] == pytest.approx([2.0, 4.0, 8.0])
    found = [item.metrics["latency_ms"] for item in others]
    assert found == pytest.approx([24.0, 48.0, 96.0])
    assert [item.details["together"]["scale"] for item in others] == pytest.approx([3.0, 1.0, 1.0])
    assert others[0].metrics["nms_ms"] == pytest.approx(3.0)  # 1 ms, scaled as the whole is
    assert len({latencies.session(item) for item in (first, *others)}) == 1


def test_roughness_is_decided_anew(
    tmp_path: Path, study: Study, clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path, study, "a", caveats={})
    made(tmp_path, study, "b")

    def disturbed(windows: Sequence[Any], *_: Any) -> list[Taint]:
        return [Taint(index, "others", "") for index in range(len(windows) // 2 + 1)]

    monkeypatch.setattr(conditions, "taint", disturbed)
    found = time_all(study, tmp_path, "ab")
    for item in found:
        assert "rounds disturbed" in (latencies.rough(item) or "")
        assert {name for name in latencies.firm(item) if latencies.is_time(name)} == set()
        for name in ("latency_p95_ms", "latency_adjusted_ms", "network_ms", "backbone_ms"):
            assert latencies.reason(item.caveats[name]), name
    assert "latency_ratio" in latencies.firm(found[1])
    monkeypatch.setattr(conditions, "taint", lambda *arguments: [])
    assert [latencies.rough(item) for item in time_all(study, tmp_path, "ab")] == [None, None]


def test_a_disturbed_reference_makes_all_times_rough(
    tmp_path: Path, study: Study, clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    made(tmp_path, study, "a")
    made(tmp_path, study, "b")
    monkeypatch.setattr(together, "_mostly_disturbed", lambda timings: True)
    _, second = time_all(study, tmp_path, "ab")
    assert latencies.rough(second) == "most rounds of the reference were disturbed"


def test_only_what_was_timed_alike_on_this_machine_takes_part(tmp_path: Path, study: Study) -> None:
    elsewhere = environment.capture("cpu") | {"host": "elsewhere"}
    slower = study.setup().latency.model_copy(update={"batch_size": 2})
    other = {"overrides": {"latency.batch_size": 2}, "protocol": {"latency": slower.of_result()}}
    found = [
        made(tmp_path, study, "a"),
        made(tmp_path, study, "elsewhere", environment=elsewhere),
        made(tmp_path, study, "untimed", metrics={}),
        made(tmp_path, study, "pruned", state="pruned"),
        made(tmp_path, study, "stripped", artifacts={}),
        made(tmp_path, study, "gone"),
        made(tmp_path, study, "untrained", artifacts={}, details={}),
        made(tmp_path, study, "earlier", protocol={"latency": {"seconds": 1.0}}),
        made(tmp_path, study, "b"),
        made(tmp_path, study, "two", **other),
    ]
    (tmp_path / "gone" / "weights.safetensors").unlink()
    taken = groups(study, found, tmp_path, "cpu")
    assert [[item.trial for item in group.trials] for group in taken] == [
        ["a", "untrained", "b"],
        ["two"],
    ]
    assert [group.latency.batch_size for group in taken] == [1, 2]


def test_a_detector_that_learnt_nothing_is_built_again(
    tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: dict[str, Subject] = {}

    def look(subjects: Mapping[str, Subject], *arguments: Any, **options: Any) -> Any:
        built.update(subjects)
        raise KeyboardInterrupt

    flat = {f"detector.{path}": value for path, value in flatten(replace(CONFIG, width=5)).items()}
    found = [made(tmp_path, study, t, artifacts={}, details={}, config=flat, seed=3) for t in "ab"]
    monkeypatch.setattr(together.latency, "measure", look)
    (group,) = groups(study, found, tmp_path, "cpu")
    with pytest.raises(KeyboardInterrupt):
        together.measure(group, tmp_path, "cpu", ignore)
    one, other = (built[trial].detector for trial in "ab")
    assert (one.config.width, built["a"].trained) == (5, False)
    for name, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[name]), name


def test_trials_share_rounds_only_if_all_do_and_their_reference_is_among_them() -> None:
    def of(trial: str, **told: str) -> Record:
        facts = {"study": "s", "name": "n", "detector": "d", "overrides": {}, "config": {}}
        details = {"details": {"together": told} if told else {}}
        return Record.model_validate(facts | {"trial": trial, "seed": 0, "state": "done"} | details)

    a, b = (of(trial, session="1", reference="a") for trial in "ab")
    assert share_rounds([a, b])
    assert not share_rounds([b])
    assert not share_rounds([a, b, of("c")])
    assert not share_rounds([a, of("b", session="2", reference="a")])
    assert not share_rounds([of("a"), of("b")])


def test_a_kill_in_the_middle_shows_and_is_made_good(
    tmp_path: Path, study: Study, clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    for trial in "abc":
        made(tmp_path, study, trial)
    own = Record.write

    def killed(self: Record, folder: Path) -> Path:
        if self.trial == "b":
            raise KeyboardInterrupt
        return own(self, folder)

    with monkeypatch.context() as patch:
        patch.setattr(Record, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            time_all(study, tmp_path)
    left = [record.read(tmp_path / trial) for trial in "abc"]
    assert [latencies.session(item) is None for item in left] == [False, True, True]
    assert [item.metrics["latency_ms"] for item in left[1:]] == [99.0, 99.0]
    assert not share_rounds(left)
    healed = time_all(study, tmp_path)
    assert share_rounds(healed)
    assert [item.details["alone"]["metrics"]["latency_ms"] for item in healed] == [99.0] * 3
    for item in healed:
        files = {file.name for file in (tmp_path / item.trial).glob("samples*")}
        assert files == {"samples.npz", item.artifacts["samples"]}


def test_a_record_that_somebody_else_changed_meanwhile_stays(
    tmp_path: Path, study: Study, clockwork: Clockwork
) -> None:
    found = [made(tmp_path, study, trial) for trial in "abc"]
    (group,) = groups(study, found, tmp_path, "cpu")
    renewed = together.measure(group, tmp_path, "cpu", ignore)
    changed = made(tmp_path, study, "b", seed=7)
    (tmp_path / "c" / "record.json").unlink()
    assert [item.trial for item in together.write(renewed, tmp_path)] == ["a"]
    assert record.read(tmp_path / "b") == changed
    assert not (tmp_path / "c" / "record.json").exists()


def test_a_file_that_another_study_has_a_link_to_is_not_written_into(
    tmp_path: Path, study: Study, clockwork: Clockwork
) -> None:
    made(tmp_path, study, "a")
    made(tmp_path, study, "b")
    linked = tmp_path / "linked.npz"
    linked.hardlink_to(tmp_path / "a" / "samples.npz")
    time_all(study, tmp_path, "ab")
    assert linked.read_bytes() == b"raw"


def test_trials_of_data_that_changed_are_not_timed(tmp_path: Path, study: Study) -> None:
    found = [made(tmp_path, study, trial, data={"fingerprint": "old"}) for trial in "ab"]
    (group,) = groups(study, found, tmp_path, "cpu")
    with pytest.raises(DataError, match="and the trials were run with old"):
        together.measure(group, tmp_path, "cpu", ignore)


def test_a_trial_that_fails_the_gate_now_is_named(
    tmp_path: Path, study: Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = [made(tmp_path, study, trial) for trial in "ab"]
    (group,) = groups(study, found, tmp_path, "cpu")
    untimed = Timing({}, {}, {"latency_ms": "it sees ghosts"}, {}, {}, [])
    monkeypatch.setattr(together.latency, "measure", lambda *_, **__: {"a": untimed, "b": untimed})
    with pytest.raises(NotTimedError, match="trial a: it sees ghosts"):
        together.measure(group, tmp_path, "cpu", ignore)


def test_the_time_is_short_and_bounded() -> None:
    given = LatencyConfig()
    few, many = brief(given, 4), brief(given, 1000)
    assert (few.seconds, few.warmup_seconds, few.reference) == (4.0, 1.0, False)
    assert (few.min_samples, brief(given.model_copy(update={"min_samples": 9}), 4).min_samples) == (
        60,
        9,
    )
    assert (few.block, brief(given.model_copy(update={"block": 2}), 4).block) == (4, 2)
    assert many.seconds == 0.3
    assert brief(given, 10000).seconds == together.LEAST_SECONDS
    assert brief(given.model_copy(update={"seconds": 0.5}), 4).seconds == 0.5
    assert brief(given.model_copy(update={"together_seconds": 0.0}), 4).seconds == 4.0


def test_how_long_trials_are_timed_together_is_no_part_of_a_trial(tmp_path: Path) -> None:
    before = expand(load(write(tmp_path)))
    longer = expand(load(write(tmp_path, set={**TOY["set"], "latency.together_seconds": 9.0})))
    assert [spec.trial for spec in longer] == [spec.trial for spec in before]
    assert "together_seconds" not in before[0].protocol["latency"]
    assert longer[0].latency.together_seconds == 9.0
