"""What is said of a study's time left is within half as much again of what follows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from harness import study
from harness.cli.board import Board
from harness.cli.console import stderr
from harness.cli.forecast import Forecast
from harness.engine.events import Event
from harness.records import Record
from harness.records.progress import Progress
from harness.study.specification import TrialSpec
from harness.trials.outcome import blank
from tests.harness.studies import TOY, write

STEPS = 10
THRESHOLDS = "detector.postprocess.score_threshold"


class Course:
    """A study that runs by a fake clock, one trial after the other."""

    def __init__(self, specs: list[TrialSpec], seconds: list[float], **changes: Any) -> None:
        self.now, self.specs = 1000.0, specs
        self.train = dict(zip([spec.trial for spec in specs], seconds, strict=True))
        self.forecast = Forecast(specs, len(specs), clock=lambda: self.now, **changes)
        self.said: list[tuple[float, float | None]] = []  # moment, seconds left as was said

    def run(self, latency: float, reference: float, together: float) -> None:
        for number, spec in enumerate(self.specs):
            self._trial(spec, latency if number == 0 else latency + reference, first=number == 0)
        self.now += together

    def _trial(self, spec: TrialSpec, latency: float, *, first: bool) -> None:
        began, seconds = self.now, self.train[spec.trial]
        self._tell(Event("started", spec.trial, spec))
        self.now += 2.0  # data, build
        start = self.now
        for step in range(1, STEPS + 1 if seconds else 1):
            self.now = start + seconds * step / STEPS
            values = {"eta_s": seconds * (1 - step / STEPS), "loss": 1.0}
            progress = Progress("train", step, STEPS, values)
            self._tell(Event("progress", spec.trial, spec, progress=progress))
        self._tell(Event("progress", spec.trial, spec, progress=Progress("latency", 0, 1, {})))
        self.now += latency
        timings = {"started": began, "train": seconds, "finished": self.now}
        metrics = {} if first else {"latency_ratio": 1.0}
        changes = {"state": "done", "timings": timings, "metrics": metrics}
        done: Record = blank(spec).model_copy(update=changes)
        self._tell(Event("finished", spec.trial, spec, record=done))

    def _tell(self, event: Event) -> None:
        self.forecast.handle(event)
        self.said.append((self.now, self.forecast.left()))

    def factors(self, since: float) -> list[float]:
        """Return by what factor each statement was off, but for the last seconds."""
        told = [(self.now - when, left) for when, left in self.said if when >= since]
        pairs = [(true, left) for true, left in told if true > 10]
        assert all(left is not None for _, left in pairs)
        return [max(true / left, left / true) for true, left in pairs if left]


def specs_of(folder: Path, **changes: Any) -> list[TrialSpec]:
    timing = {"latency.seconds": 4.0, "latency.warmup_seconds": 3.0}
    how = {**TOY["set"], **timing, "latency.together_seconds": 4.0}
    sweep = {"detector.width": [4, 5, 6, 8]}
    return study.expand(study.load(write(folder, **{"set": how, "sweep": sweep, **changes})))


def test_a_study_of_like_trials(tmp_path: Path) -> None:
    """As the quickstart on two cores, in seconds."""
    course = Course(specs_of(tmp_path), [115.0, 119.0, 134.0, 101.0])
    course.run(latency=8.7, reference=9.0, together=18.0)
    assert course.said[0][1] is None, "nothing is known before the first step"
    assert max(course.factors(since=1003.0)) < 1.5, "from the first steps on"
    first = 1000.0 + 2.0 + 115.0 + 8.7
    assert max(course.factors(since=first)) < 1.25


def test_long_trainings_are_told_apart_by_their_operations(tmp_path: Path) -> None:
    specs = specs_of(tmp_path)
    macs = dict(zip([spec.trial for spec in specs], [1.0, 3.0, 6.0, 9.0], strict=True))
    asked: list[int] = []

    def operations(known: Any) -> dict[str, float]:
        asked.append(len(known))
        return macs

    course = Course(specs, [200.0 * factor for factor in macs.values()], operations=operations)
    course.run(latency=9.0, reference=9.0, together=18.0)
    assert asked == [4], "once"
    assert max(course.factors(since=1030.0)) < 1.5


def test_what_trials_share_is_counted_once(tmp_path: Path) -> None:
    specs = specs_of(tmp_path, sweep={THRESHOLDS: [0.05, 0.1, 0.2]})
    course = Course(specs, [100.0, 0.0, 0.0])
    course.run(latency=9.0, reference=9.0, together=13.0)
    assert max(course.factors(since=1010.0)) < 1.5


def test_what_is_there_already_takes_no_time(tmp_path: Path) -> None:
    specs = specs_of(tmp_path)
    forecast = Forecast(specs, len(specs))
    for spec in specs:
        forecast.handle(Event("skipped", spec.trial, record=blank(spec)))
    assert forecast.left() == pytest.approx(4 * 1.25 * 4)


def test_trials_that_a_search_is_to_find_are_like_those_it_found(tmp_path: Path) -> None:
    (spec, *_) = specs_of(tmp_path)
    course = Course([spec], [60.0])
    course.forecast.total = 5
    course.run(latency=9.0, reference=0.0, together=0.0)
    (when, left) = course.said[-1]
    assert left is not None
    assert 4 * 60 < left < 4 * (60 + 2 + 18 + 3)
    assert when == course.now


def test_trials_that_are_found_after_operations_were_counted_are_like_the_counted(
    tmp_path: Path,
) -> None:
    specs = specs_of(tmp_path)
    course = Course(specs, [200.0] * 4)
    course.forecast = Forecast(
        [],
        len(specs),
        operations=lambda known: {spec.trial: 5e9 for spec in known},
        clock=lambda: course.now,
    )
    course.run(latency=9.0, reference=9.0, together=18.0)
    assert max(course.factors(since=1030.0)) < 1.5


def test_a_search_says_nothing_before_its_first_trial(tmp_path: Path) -> None:
    forecast = Forecast([], 5)
    assert forecast.left() is None
    (spec, *_) = specs_of(tmp_path)
    forecast.handle(Event("skipped", spec.trial, record=blank(spec)))
    assert forecast.left() is None
    assert Forecast([], 1).left() is None


def test_the_board_shows_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (spec, *_) = specs_of(tmp_path, measure=["accuracy"])
    now = [0.0]
    with Board(stderr(), 1, Forecast([spec], 1, clock=lambda: now[0])) as board:
        board.handle(Event("started", spec.trial, spec))
        values = {"eta_s": 118.0, "loss": 1.0}
        progress = Progress("train", 1, 60, values)
        board.handle(Event("progress", spec.trial, spec, progress=progress))
        shown = capsys.readouterr().err
        assert "step 1/60" in shown
        assert "study 2:01 left" in shown
        board.console.print(board.table())
    assert "study 2:01 left" in capsys.readouterr().err
