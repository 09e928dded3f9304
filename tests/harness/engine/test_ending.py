"""When a study is over its trials are timed together: once, whole, and only where that can be."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harness.config.yaml_source import StudyError
from harness.engine import ending
from harness.engine.agenda import of
from harness.engine.events import Summary
from harness.machine import conditions
from harness.records import Record, latencies, record
from harness.records.progress import OnProgress, Progress, ignore
from harness.study import Study, expand, load
from harness.trials import together
from tests.harness.studies import TOGETHER, TOY, write
from tests.harness.trials.test_together import Clockwork, made


@pytest.fixture
def study(tmp_path: Path) -> Study:
    return load(write(tmp_path, set=TOGETHER))


@pytest.fixture
def clockwork(monkeypatch: pytest.MonkeyPatch) -> Clockwork:
    found = Clockwork()
    monkeypatch.setattr(together.latency, "measure", found)
    monkeypatch.setattr(conditions, "taint", lambda *arguments: [])
    return found


class End:
    """The end of a study, with what was said and shown."""

    def __init__(self, study: Study, folder: Path) -> None:
        self.study, self.folder = study, folder
        self.said: list[str] = []
        self.shown: list[str] = []

    @contextmanager
    def watch(self, title: str) -> Iterator[OnProgress]:
        """Note what is shown."""
        self.shown.append(title)
        yield ignore

    def __call__(self, *trials: str, device: str | None = "cpu", **changes: Any) -> list[Record]:
        """Come to it with some trials."""
        more = {name: changes.pop(name) for name in ("elsewhere", "halted") if name in changes}
        summary = Summary([record.read(self.folder / name) for name in trials], 0, **more)
        options = {"all_over": True, "again": False, **changes}
        watch, say = self.watch, self.said.append
        return ending.time_together(
            self.study, summary, self.folder, device, watch=watch, say=say, **options
        )


@pytest.fixture
def end(study: Study, tmp_path: Path) -> End:
    for trial in "abc":
        made(tmp_path, study, trial)
    return End(study, tmp_path)


def test_trials_are_timed_together_once(end: End, clockwork: Clockwork) -> None:
    renewed = end("a", "b")
    assert [item.metrics["latency_ms"] for item in renewed] == pytest.approx([4.0, 8.0])
    assert [record.read(end.folder / item.trial) for item in renewed] == renewed
    assert end.shown == ["2 trials together"]
    assert re.fullmatch(r"2 trials were timed together in \d+ s", end.said[0])
    assert end("a", "b") == []
    assert len(clockwork.calls) == 1
    assert [item.trial for item in end("a", "b", "c")] == ["a", "b", "c"]  # one more has come


def test_on_request_they_are_timed_again(end: End, clockwork: Clockwork) -> None:
    before, after = end("a", "b"), end("a", "b", again=True)
    assert {latencies.session(item) for item in before}.isdisjoint(map(latencies.session, after))
    assert [item.details["alone"] for item in after] == [item.details["alone"] for item in before]
    assert [item.trial for item in end("c", again=True)] == ["c"]


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"device": None}, "the trials ran on a cluster"),
        ({"elsewhere": 2}, "2 trials are run by others"),
        ({"halted": "the disk is full"}, "the run stopped early"),
        ({"all_over": False}, "only some trials were asked for"),
    ],
)
def test_where_it_cannot_be_that_is_said(
    end: End, clockwork: Clockwork, options: dict[str, Any], why: str
) -> None:
    assert end("a", "b", **options) == []
    assert (clockwork.calls, len(end.said)) == ([], 1)
    assert end.said[0].startswith(f"latencies are those of each trial alone: {why}")
    end("a", "b")
    del end.said[:]
    assert end("a", "b", **options) == []
    assert end.said == []  # it is done already


def test_trials_that_were_not_timed_alike_are_told(
    end: End, study: Study, tmp_path: Path, clockwork: Clockwork
) -> None:
    for trial, host in (("d", "elsewhere"), ("e", "elsewhere")):
        made(tmp_path, study, trial, environment={"host": host})
    assert end("d", "e") == []
    assert clockwork.calls == []
    assert end.said == [
        "latencies are those of each trial alone: no two of them were timed in one way on this"
        " machine as it is now"
    ]


def test_one_trial_alone_or_none_is_not_timed_again(end: End, clockwork: Clockwork) -> None:
    assert end("a") == end() == []
    assert (clockwork.calls, end.said) == ([], [])


def test_a_study_can_do_without(end: End, clockwork: Clockwork, tmp_path: Path) -> None:
    end.study = load(write(tmp_path, set={**TOY["set"], "latency.together_seconds": 0}))
    assert end("a", "b") == []
    assert (clockwork.calls, end.said) == ([], [])
    assert len(end("a", "b", again=True)) == 2


@pytest.mark.parametrize("trials", [(), ("elsewhere",)])
def test_a_request_that_finds_nothing_is_refused(
    end: End, study: Study, tmp_path: Path, trials: tuple[str, ...]
) -> None:
    made(tmp_path, study, "elsewhere", environment={"host": "elsewhere"})
    with pytest.raises(StudyError, match=r"no trial"):
        end(*trials, again=True)


def test_what_goes_wrong_leaves_all_as_it_was(
    end: End, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("CUDA error:\nunspecified launch failure")

    before = {trial: (tmp_path / trial / "record.json").read_bytes() for trial in "ab"}
    monkeypatch.setattr(together.latency, "measure", fail)
    assert end("a", "b") == []
    why = "CUDA error: unspecified launch failure"
    assert end.said == [f"latencies are those of each trial alone: {why}"]
    assert before == {trial: (tmp_path / trial / "record.json").read_bytes() for trial in "ab"}


def test_an_interrupt_leaves_all_as_it_was(
    end: End, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def interrupted(*arguments: Any, on_progress: OnProgress, **options: Any) -> None:
        on_progress(Progress("latency", 1, 2, {}))
        raise KeyboardInterrupt

    before = {trial: (tmp_path / trial / "record.json").read_bytes() for trial in "ab"}
    monkeypatch.setattr(together.latency, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        end("a", "b")
    assert before == {trial: (tmp_path / trial / "record.json").read_bytes() for trial in "ab"}
    assert not list(tmp_path.glob("*/samples-*"))


def test_rough_latencies_are_counted_and_the_remedy_named(
    end: End, clockwork: Clockwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(together, "_mostly_disturbed", lambda timings: True)
    end("a", "b")
    assert "2 latencies are rough (most rounds of the reference were disturbed)" in end.said[0]
    assert "--remeasure latency" in end.said[0]


def test_what_stands_of_a_study_is_looked_up(tmp_path: Path, study: Study) -> None:
    specs = expand(study)
    todo = of(study)
    with pytest.raises(StudyError, match="is finished; run it first"):
        ending.finished(todo, tmp_path)
    made(tmp_path, study, specs[1].trial)
    made(tmp_path, study, "another")
    found = ending.finished(todo, tmp_path)
    assert [item.trial for item in found.records] == [specs[1].trial]
    assert (found.skipped, found.elsewhere, found.halted) == (1, 0, None)
