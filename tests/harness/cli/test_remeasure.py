"""A study from its run to its tracker: what is shown are times of the rounds that trials shared."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from harness import cli
from harness.records import latencies, record
from tests.harness.studies import TOGETHER, write
from tests.harness.tracking.trackers import client, trials


def run(capfd: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any, str]:
    """Run the toy study and return the status, what it printed as JSON, and what it said."""
    command = ["run", "toy.yaml", "--device", "cpu", "--no-report", "--json", *map(str, arguments)]
    status = cli.main(command)
    captured = capfd.readouterr()
    return status, json.loads(captured.out) if captured.out else None, captured.err


def test_what_is_shown_and_tracked_are_the_times_of_shared_rounds(
    tmp_path: Path,
    empty_tracker: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path, measure=["complexity", "latency"], set=TOGETHER)
    shutil.copy(empty_tracker, tmp_path / "mlflow.db")
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    status, found, said = run(capfd, "--tracking-uri", uri)
    assert status == 0
    assert "2 trials were timed together in" in said
    first, second = (record.read(Path(item["record"])) for item in found["trials"])
    assert [item["metrics"] for item in found["trials"]] == [first.metrics, second.metrics]
    assert latencies.session(first) == latencies.session(second)
    ratio = second.metrics["latency_ms"] / first.metrics["latency_ms"]
    assert ratio == pytest.approx(second.metrics["latency_ratio"])
    held = {item.data.tags["detbench.trial"]: item for item in trials(uri)}
    for item in (first, second):
        tracked = held[item.trial].data.metrics
        assert tracked["latency_ms"] == item.metrics["latency_ms"]
        history = client(uri).get_metric_history(held[item.trial].info.run_id, "latency_ms")
        alone = item.details["alone"]["metrics"]["latency_ms"]
        assert [point.value for point in history] == [alone, item.metrics["latency_ms"]]

    status, again, said = run(capfd, "--tracking-uri", uri)
    assert (status, again["trials"]) == (0, found["trials"])
    assert "timed together" not in said

    status, renewed, said = run(capfd, "--remeasure", "latency", "--tracking-uri", uri)
    assert (status, renewed["skipped"]) == (0, 2)
    assert "stands already" not in said
    after = [record.read(Path(item["record"])) for item in renewed["trials"]]
    assert latencies.session(after[0]) == latencies.session(after[1]) != latencies.session(first)
    assert [item.timings for item in after] == [first.timings, second.timings]  # nothing was run
    assert [item.details["alone"] for item in after] == [
        item.details["alone"] for item in (first, second)
    ]
    for item in trials(uri):
        (own,) = (one for one in after if one.trial == item.data.tags["detbench.trial"])
        assert item.data.metrics["latency_ms"] == own.metrics["latency_ms"]
    assert len(trials(uri)) == 2


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("--remeasure", "latency"), "no trial of toy is finished; run it first"),
        (("--remeasure", "latency", "--only", "a"), "--remeasure does not go with --only"),
        (("--remeasure", "latency", "--executor", "ray"), "does not go with --executor ray"),
        (("--remeasure", "mAP"), "'latency'"),
    ],
)
def test_a_request_that_cannot_be_met_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    part: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    write(tmp_path)
    status, found, said = run(capfd, "--no-tracking", *arguments)
    assert (status, found) == (2, None)
    assert part in " ".join(said.split())
    assert not list(tmp_path.glob("runs/*/*"))
