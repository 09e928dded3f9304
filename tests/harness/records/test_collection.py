"""Records as a list and as a DataFrame; the example of the documentation runs."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest

import harness.records
from harness.records import RecordError, load, snapshot
from harness.records.collection import unit
from harness.records.snapshot import Snapshot
from tests.reports.conftest import make_failed, make_record

ACCURACY = {"accuracy": {"per_class": {"cat": 0.5}}}
KNOB = "detector.backbone.expand_ratio"


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    made = [
        make_record("a", study="quickstart", details=ACCURACY),
        make_record(
            "b", study="quickstart", seed=1, metrics={"mAP": 0.6}, timings={"started": 1.0}
        ),
        make_record("c", study="quickstart", overrides={KNOB: [1, 2]}, timings={"started": 2.0}),
        make_failed("d", study="other"),
    ]
    for record in made:
        record.write(folder / record.study / record.trial)
    return folder


def test_a_trial_a_study_and_all_studies_are_read(runs: Path) -> None:
    assert [one.trial for one in load(runs / "quickstart" / "b")] == ["b"]
    assert [one.trial for one in load(runs / "quickstart")] == ["a", "b", "c"]
    assert [one.trial for one in load(str(runs))] == ["d", "a", "b", "c"]
    assert len(load(runs / "other", runs / "quickstart")) == 4


def test_a_row_is_a_trial_with_its_knobs_and_metrics(runs: Path) -> None:
    frame = load(runs).frame()
    assert list(frame.columns[:7]) == ["study", "trial", "name", "detector", "seed", "state", KNOB]
    by_trial = frame.set_index("trial")
    assert by_trial.loc["b", "mAP"] == 0.6
    assert by_trial.loc["c", KNOB] == "[1, 2]"
    assert math.isnan(by_trial.loc["d", "mAP"])
    assert len(frame.query("state == 'done'")) == 3
    assert frame.attrs["units"]["latency_ms"] == "milliseconds per image"
    assert set(frame.attrs["units"]) == set(make_record().metrics)


def test_trials_of_an_earlier_file_are_left_out(runs: Path) -> None:
    now = Snapshot(version="v", trials=["a", "c"], study="quickstart", total=2)
    snapshot.update(runs / "quickstart", now)
    assert [one.trial for one in load(runs / "quickstart")] == ["a", "c"]
    assert len(load(runs / "quickstart", earlier=True)) == 3


def test_a_folder_without_records_is_named(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(RecordError, match=re.escape(f"{folder}: no record.json there")):
            load(folder)


@pytest.mark.parametrize("names", harness.records.METRICS.values())
def test_every_metric_has_a_unit(names: tuple[str, ...]) -> None:
    assert all(map(unit, names))
    assert unit("memory_bytes") == "bytes"
    assert unit("energy_j") == "joules per image"
    assert unit("anything") == ""


def test_the_example_of_the_documentation_runs(
    runs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (Path(harness.records.__file__).parent / "README.md").read_text("utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    monkeypatch.chdir(runs.parent)
    exec(compile(example, "README.md", "exec"), {})
    said = capsys.readouterr().out
    assert said.startswith("milliseconds per image\n")
    assert "55.0" in said  # the mean of 50 and 60 %
    assert "[(2.0, 2.0)] {'cat': 0.5}" in said
