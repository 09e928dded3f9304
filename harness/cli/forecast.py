"""How long a running study will take yet: from what its trials took, and what the running one says.

Trainings are taken to cost by their steps' images, and once they are long by the operations of
their detectors, too, which cost seconds to count. Trials are timed one at a time, whatever trains.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from statistics import mean, median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from harness.engine.events import Event  # imports torch, which is slow
    from harness.records import Record
    from harness.records.progress import Progress
    from harness.study.specification import TrialSpec

WORTH_COUNTING_S = 120.0  # of a training, from which on operations are counted
STAGES_SHARE = 1.5  # a trial's stages are timed half as long again as its calls
WARMUP_SHARE = 1.25  # of the time for which trials are timed together, warm-up included
MOST_TOGETHER_S = 375.0
OTHER_S = 3.0  # of a trial for data, counts and files, as long as none has told

Operations = Callable[[Sequence["TrialSpec"]], Mapping[str, float]]


class Forecast:
    """Follows a study's events, and says how long the rest will take."""

    def __init__(
        self,
        specs: Sequence[TrialSpec],
        total: int,
        slots: int = 1,
        operations: Operations | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin to follow.

        Args:
            specs: the trials that are known beforehand.
            total: number of trials, those included that a search is to find.
            slots: trials that train at a time.
            operations: counts a training step's operations per image, by trial.
            clock: seconds.
        """
        self.specs: dict[str, TrialSpec] = {}
        self.images: dict[str, float] = {}  # that a trial's training sees in all its epochs
        self._trained: set[str] = set()  # hashes of trainings that some trial makes
        for spec in specs:
            self._add(spec)
        self.total, self.slots = total, max(slots, 1)
        self.clock, self._operations = clock, operations
        self.macs: Mapping[str, float] = {}
        self.over: dict[str, Record | None] = {}
        self.running: dict[str, _Running] = {}

    def handle(self, event: Event) -> None:
        """Take in what happened."""
        if event.spec is not None and event.trial not in self.specs:
            self._add(event.spec)
        if event.kind == "started":
            self.running[event.trial] = _Running(self.clock)
        elif event.kind == "progress" and event.progress is not None:
            self._advance(event.trial, event.progress)
        elif event.kind == "retried":
            self.running.pop(event.trial, None)
        else:
            self.running.pop(event.trial, None)
            ran = event.kind == "finished" and event.record is not None
            self.over[event.trial] = event.record if ran else None

    def left(self) -> float | None:
        """Return the seconds that are left; None as long as nothing tells how fast this is.

        A thread that draws may ask while another takes in what happened, hence the copies.
        """
        pace, trials = self._pace(), list(self.specs)
        if pace is None or not trials:
            return None
        learning, rest = 0.0, 0.0
        known = [trial for trial in trials if trial not in self.over]
        for trial in known:
            item = self.running.get(trial)
            learns = self._work(trial) * pace
            learning += learns if item is None else item.left(learns)
            rest += self._rest(trial)
        unknown = max(self.total - len({*trials, *list(self.over)}), 0)
        if unknown:
            learning += unknown * pace * mean(self._work(trial) for trial in trials)
            rest += unknown * mean(self._rest(trial) for trial in trials)
        return learning / min(self.slots, max(len(known) + unknown, 1)) + rest + self._together()

    def _advance(self, trial: str, progress: Progress) -> None:
        item = self.running.setdefault(trial, _Running(self.clock))
        item.take(progress)
        if self._operations is not None and (item.learning() or 0.0) > WORTH_COUNTING_S:
            count, self._operations = self._operations, None
            self.macs = count(list(self.specs.values()))

    def _add(self, spec: TrialSpec) -> None:
        """Take in a trial; a training that several share is the work of the first."""
        images = 0.0
        if spec.recipe is not None and spec.trains and spec.training not in self._trained:
            self._trained.add(spec.training)
            images = float(spec.recipe.epochs * int(spec.dataset["train"]["images"]))
        self.images[spec.trial] = images  # first, since who knows of the trial asks for it
        self.specs[spec.trial] = spec

    def _work(self, trial: str) -> float:
        """Return what a trial's training costs, in images or in operations.

        A trial that a search finds after they were counted is taken for one like the others.
        """
        usual = mean(self.macs.values()) if self.macs else 1.0
        return self.images[trial] * self.macs.get(trial, usual)

    def _pace(self) -> float | None:
        """Return seconds per image of the trainings that are over, or of those under way."""
        if self.total <= len(self.over) or not any(list(self.images.values())):
            return 0.0
        over = {t: r.timings.get("train", 0.0) for t, r in dict(self.over).items() if r}
        under_way = {t: item.learning() for t, item in dict(self.running).items()}
        for source in (over, under_way):
            found = [s / self._work(t) for t, s in source.items() if s and self._work(t)]
            if found:
                return median(found)
        return None

    def _rest(self, trial: str) -> float:
        """Return the seconds of a trial beside its training; measuring is most of them."""
        spec, seen = self.specs[trial], list(filter(None, list(self.over.values())))
        timed = "latency" in spec.measure
        alike = [_beside(r) for r in seen if not timed or "latency_ratio" in r.metrics]
        if alike:
            return mean(alike)
        bound = spec.latency.warmup_seconds + STAGES_SHARE * spec.latency.seconds
        return OTHER_S + (2 * bound if timed else 0.0)  # beside the first trial

    def _together(self) -> float:
        timed = [spec for spec in list(self.specs.values()) if "latency" in spec.measure]
        if len(timed) < 2:
            return 0.0
        each = WARMUP_SHARE * timed[0].latency.together_seconds
        return min(max(len(timed), self.total) * each, MOST_TOGETHER_S)


class _Running:
    """A trial under way."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.began: float | None = None  # its training
        self.ended: float | None = None
        self.values: Mapping[str, Any] = {}

    def take(self, progress: Progress) -> None:
        """Note a step."""
        now = self.clock()
        if progress.phase == "train":
            self.began = now if self.began is None else self.began
            self.values = progress.values or self.values
        elif self.began is not None and progress.phase == "latency" and self.ended is None:
            self.ended = now

    def learning(self) -> float | None:
        """Return the seconds that its training takes in all, as it says itself."""
        if self.began is None or "eta_s" not in self.values:
            return None
        return (self.ended or self.clock()) - self.began + self._eta()

    def left(self, expected: float) -> float:
        """Return the seconds of training that are left."""
        if self.ended is not None:
            return 0.0
        return self._eta() if "eta_s" in self.values else expected

    def _eta(self) -> float:
        return 0.0 if self.ended is not None else float(self.values.get("eta_s", 0.0))


def _beside(record: Record) -> float:
    """Return the seconds of a trial but for its training."""
    timings = record.timings
    whole = timings.get("finished", 0.0) - timings.get("started", 0.0)
    return max(whole - timings.get("train", 0.0), 0.0)
