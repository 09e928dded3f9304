"""`detbench check`: what is shared, ruled out or there already, hours and disk."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from harness import cli, study
from harness.cli import check as check_command
from harness.cli.console import clock
from harness.machine import environment, locks
from harness.records import record
from harness.trials import paces, plan, probe, trainings, trial
from harness.trials.plan import Planned
from harness.trials.probe import Probe
from tests.harness.studies import TOGETHER, TOY, write

THRESHOLDS = "detector.postprocess.score_threshold"


@pytest.fixture(autouse=True)
def _own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Don't wait for whatever else is measured on this machine."""
    monkeypatch.setattr(locks, "_folder", lambda: tmp_path)


def planned_of(folder: Path, constraints: Any = None, **changes: Any) -> list[Planned]:
    specs = study.expand(study.load(write(folder, **changes)))
    return plan.plan(specs, folder, constraints)


def checked(folder: Path, capsys: pytest.CaptureFixture[str], *more: str, **changes: Any) -> Any:
    """Return what `detbench check` says as JSON."""
    arguments = ["check", str(write(folder, **changes)), "--out", str(folder), "--device", "cpu"]
    assert cli.main([*arguments, "--json", *more]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    return found


def test_check_prints_the_plan(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = checked(tmp_path, capsys, "--no-probe")
    assert [row["name"] for row in found["trials"]] == ["width=4", "width=8"]
    assert found["trials"][0]["params"] == 4 * 193 + 5 * 10
    assert found["trials"][0]["macs"] == 64 * (4 * 192 + 4 * 10)
    assert found["steps"] == 4
    assert found["trainings"] == 2
    assert found["training_seconds"] is None
    assert "unknown" in found["basis"]
    alone = 2 * 2 * (0.1 + 1.5 * 0.2)
    assert found["latency_seconds"] == pytest.approx(alone)
    together = checked(tmp_path, capsys, "--no-probe", set=TOGETHER)["latency_seconds"]
    assert together == pytest.approx(alone + 2 * (0.2 / 4 + 0.2))
    assert found["disk"]["weights"] == 4 * sum(row["params"] for row in found["trials"])
    assert found["disk"]["checkpoint"] == 4 * 4 * found["trials"][1]["params"]
    arguments = ["check", str(write(tmp_path)), "--out", str(tmp_path), "--no-probe"]
    assert cli.main([*arguments, "--device", "cpu"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "2 trainings (2 distinct, 0 finished) of 8 images an epoch, 4 steps" in told
    assert "MB of weights" in told


def test_trials_that_share_a_training_cost_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = {"detector.width": [4, 8], THRESHOLDS: [0.05, 0.1, 0.2]}
    found = checked(tmp_path, capsys, "--no-probe", sweep=sweep)
    assert (len(found["trials"]), found["trainings"]) == (6, 2)
    fates = [row["fate"] for row in found["trials"]]
    assert fates == ["trained", *["measured with shared weights"] * 2] * 2
    assert found["training_macs"] == checked(tmp_path, capsys, "--no-probe")["training_macs"]


def test_what_is_ruled_out_for_free_is_not_trained(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = 4 * 193 + 5 * 10
    found = checked(tmp_path, capsys, "--no-probe", constraints={"params": f"<= {small}"})
    assert (found["ruled_out"], found["trainings"]) == (1, 1)
    assert [row["ruled_out"] is None for row in found["trials"]] == [True, False]
    assert found["trials"][1]["fate"].startswith("ruled out: params is ")


def test_weights_that_stand_are_not_trained_again(tmp_path: Path) -> None:
    first, second = planned_of(tmp_path)
    assert first.training

    def make(folder: Path) -> trainings.Story:
        for name in ("weights.safetensors", "config.json"):
            (folder / name).write_text("{}", "utf-8")
        told = {"made_by": "a/b", "curves": [], "seconds": 1.0, "finished": 2.0}
        return trainings.Story(training=str(first.training), **told)

    trainings.obtain(tmp_path / trainings.SHELF, first.training, make)
    after = planned_of(tmp_path)
    assert [item.trained for item in after] == [True, False]
    assert [item.training for item in plan.trainings_left(after)] == [second.training]
    assert plan.disk(after, tmp_path).finished > 0


def test_what_another_study_has_found_is_taken_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    changes = {"measure": ["accuracy"], "name": "earlier"}
    spec = study.expand(study.load(write(tmp_path, **changes)))[0]
    shelf = tmp_path / trainings.SHELF
    trial.run(spec, tmp_path / "earlier" / spec.trial, shelf=shelf)
    found = checked(tmp_path, capsys, "--no-probe", measure=["accuracy"])
    assert (found["taken_over"], found["trainings"]) == (1, 1)
    assert [row["fate"] for row in found["trials"]] == ["taken over from earlier", "trained"]


def recorded(folder: Path, item: Planned, speed: float, **changes: Any) -> record.Record:
    """Write the record of a training at so many images a second, and ten seconds of validation."""
    spec, epochs = item.spec, item.epochs
    told = {
        "training": spec.trial,
        "seconds": epochs * item.images / speed + 10.0,
        "details": {"images_per_second": speed},
    }
    done = record.Record(
        study="toy",
        trial=spec.trial,
        name=spec.name,
        detector=spec.detector,
        overrides=spec.overrides,
        config=spec.config,
        seed=0,
        state="done",
        metrics={"macs": item.macs},
        details={"training": told},
        data=spec.dataset,
        code=spec.code,
        environment=environment.capture("cpu"),
        timings={"started": 0.0},
    ).model_copy(update=changes)
    done.write(folder / "toy" / spec.trial)
    return done


def test_costs_come_from_trainings_that_were_recorded(tmp_path: Path) -> None:
    before = planned_of(tmp_path)
    machine = environment.capture("cpu")
    recorded(tmp_path, before[0], speed=4.0)
    after = planned_of(tmp_path)
    assert [item.stands for item in after] == [True, False]
    cost = plan.cost(after, tmp_path, machine)
    images = 2 * 8
    half_way = (before[1].macs / before[0].macs) ** 0.5
    assert cost.seconds == pytest.approx(half_way * (images / 4.0 + 10.0))
    assert str(tmp_path) in cost.basis
    larger = [item._replace(trained_macs=100 * item.macs) for item in after]
    assert plan.cost(larger, tmp_path, machine).seconds is None
    assert plan.cost(after[:1], tmp_path, machine).seconds == 0
    elsewhere = machine | {"host": "elsewhere"}
    assert plan.cost(after, tmp_path, elsewhere).seconds is None


@pytest.mark.parametrize(
    "changes",
    [
        {"code": {}},
        {"code": {"detector": {"toy.py": "other"}, "training": {}}},
        {"state": "failed"},
        {"detector": "rtmdet_tiny"},
    ],
)
def test_other_code_and_other_detectors_tell_no_pace(
    tmp_path: Path, changes: dict[str, Any]
) -> None:
    (first, second) = planned_of(tmp_path)
    recorded(tmp_path, first, speed=4.0, **changes)
    assert plan.cost([second], tmp_path, environment.capture("cpu")).seconds is None
    recorded(tmp_path, first, speed=4.0)
    assert plan.cost([second], tmp_path, environment.capture("cpu")).seconds is not None


def test_another_batch_or_arithmetic_is_another_pace(tmp_path: Path) -> None:
    (first, _) = planned_of(tmp_path)
    recorded(tmp_path, first, speed=4.0)
    changed = planned_of(tmp_path, set={**TOY["set"], "recipe.batch_size": 4})
    assert plan.cost(changed, tmp_path, environment.capture("cpu")).seconds is None


def test_a_pace_between_two_follows_them() -> None:
    kind = ("toy",)
    seen = [paces.Pace(kind, 1e6, 0.010, 0.005), paces.Pace(kind, 100e6, 0.040, 0.020)]

    def train(macs: float, alike: float = paces.ALIKE) -> float | None:
        found = paces.expected(seen, kind, macs, alike=alike)
        return found and found.train

    assert train(1e6) == pytest.approx(0.010)
    assert train(100e6) == pytest.approx(0.040)
    assert train(10e6) == pytest.approx(0.020)
    assert train(200e6) == pytest.approx(0.040 * 2**0.5)
    assert train(300e6) is None
    assert train(300e6, math.inf) == pytest.approx(0.040 * 3**0.5)
    assert paces.expected(seen, ("other",), 1e6) is None


def test_a_probe_trains_for_a_moment(tmp_path: Path) -> None:
    changes = {**TOY["set"], "recipe.epochs": 1000}
    left = plan.trainings_left(planned_of(tmp_path, set=changes))
    found = probe.probe(left, "cpu", seconds=0.1)
    assert isinstance(found, Probe)
    assert [pace.macs for pace in found.paces] == [item.macs for item in left]
    assert all(pace.train > 0 and pace.validate > 0 for pace in found.paces)
    assert "images a second" in found.basis
    cost = plan.cost(left, tmp_path, None, found.paces)
    wanted = sum(8 * 1000 * pace.train + 4 * 1000 * pace.validate for pace in found.paces)
    assert cost.seconds == pytest.approx(wanted)


def test_a_step_that_was_disturbed_does_not_count() -> None:
    assert probe.typical([4.0, 0.2, 9.0]) == 0.2
    assert probe.typical([0.1, 0.2] * 9 + [50.0, 60.0]) == pytest.approx(0.15)


def test_a_probe_tries_the_ends_of_each_kind(tmp_path: Path) -> None:
    (item, _) = planned_of(tmp_path)
    apart = [item._replace(trained_macs=macs) for macs in (300, 100, 200)]
    assert [each.trained_macs for each in probe._chosen(apart)] == [100, 300]
    alike = [item._replace(trained_macs=macs) for macs in (120, 100, 110)]
    assert [each.trained_macs for each in probe._chosen(alike)] == [110]


def test_a_probe_on_a_cpu_takes_steps_that_can_be_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (item, _) = planned_of(tmp_path)
    monkeypatch.setattr(probe, "CPU_STEP_MACS", 3.5 * 3 * item.macs)
    assert probe._brief(item, "cpu").batch_size == 3
    assert probe._brief(item, "cuda:0").batch_size == 8
    recipe = probe._brief(item, "cpu")
    assert probe._smaller(item, recipe, "cpu") == (item.spec.setup.detector, 1)
    monkeypatch.setattr(probe, "CPU_STEP_MACS", 3 * item.macs / 10)
    alone = probe._brief(item, "cpu")
    assert alone.batch_size == 1
    config, share = probe._smaller(item, alone, "cpu")
    assert (config.input.size, share) == ((16, 16), 16)
    assert probe._smaller(item, alone, "cuda:0")[1] == 1


def test_a_probe_that_fails_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any, **keywords: Any) -> None:
        raise RuntimeError("CUDA out of memory")

    monkeypatch.setattr(probe, "train", fail)
    left = plan.trainings_left(planned_of(tmp_path))
    assert probe.probe(left, "cpu") == "the probe failed: CUDA out of memory"


def test_hours_follow_from_the_probe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kind = plan.kind_of(planned_of(tmp_path)[0])
    seen = Probe([paces.Pace(kind, 1e6, 0.5, 0.25)], "just tried on cpu: width=8")
    monkeypatch.setattr(check_command, "probe", lambda left, device: seen)
    told = checked(tmp_path, capsys)
    shares = [(row["macs"] / 1e6) ** 0.5 for row in told["trials"]]
    seconds = sum(shares) * (16 * 0.5 + 8 * 0.25)
    assert told["training_seconds"] == pytest.approx(seconds)
    assert told["basis"] == seen.basis
    assert told["other_seconds"] == plan.SECONDS_TO_BEGIN + 2 * plan.SECONDS_A_TRIAL
    line = check_command._time(told)
    whole = seconds + told["latency_seconds"] + told["other_seconds"]
    assert line.startswith(f"about {clock(whole)}, one trial after the other: ")
    assert "of training and validation, just tried on cpu: width=8; at most " in line


def test_a_search_is_planned_by_draws(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    search = {
        "space": {"detector.width": {"low": 4, "high": 40}},
        "objectives": {"mAP": "maximize"},
        "constraints": {"params": "<= 4000"},
        "trials": 500,
    }
    found = checked(tmp_path, capsys, "--no-probe", sweep=None, search=search)
    assert found["search_trials"] == 500
    assert 5 <= len(found["trials"]) <= check_command.DRAWS
    assert 0 < found["ruled_out"] < len(found["trials"])
    over = [row["params"] > 4000 for row in found["trials"]]
    assert [row["ruled_out"] is not None for row in found["trials"]] == over
