"""A measurement session: subjects take turns in rounds until their latencies are known well."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from harness.config.latency import LatencyConfig
from harness.machine.trace import Window
from harness.measure.latency import statistics
from harness.measure.latency.limits import Reference
from harness.measure.latency.statistics import FEWEST_ROUNDS
from harness.measure.latency.subjects import Prepared
from harness.measure.latency.timer import Step, Timer
from harness.records.progress import OnProgress, Progress

ROUNDS = 10  # a block is cut so that this many rounds fit into the time
UNTIMED = 1  # calls before each block, which warm the caches that another subject has used
WORKLOAD = Reference.name  # the subject that sessions are compared by; it takes turns, too
WORKLOAD_CALLS = 4  # in each of its blocks, so that it costs little


class Pass(NamedTuple):
    """Something to time."""

    key: str
    names: tuple[str, ...]  # one a step
    work: Callable[[Prepared, int], tuple[Sequence[Step], Any]]  # steps on an input, and its value
    applies: Callable[[Prepared], bool]


def _whole(subject: Prepared, index: int) -> tuple[Sequence[Step], Any]:
    inputs = subject.inputs[index]
    return (lambda images: subject.detect(images, inputs.sizes),), inputs.images


def _parts(subject: Prepared, index: int) -> tuple[Sequence[Step], Any]:
    network, postprocess, inputs = subject.network, subject.postprocess, subject.inputs[index]
    assert network is not None
    assert postprocess is not None
    return (network, lambda outputs: postprocess(outputs, inputs.sizes)), inputs.images


def _stages(subject: Prepared, index: int) -> tuple[Sequence[Step], Any]:
    return subject.stages, subject.inputs[index].images


def _preprocess(subject: Prepared, index: int) -> tuple[Sequence[Step], Any]:
    assert subject.preprocess is not None
    return (subject.preprocess,), index


def _has_parts(subject: Prepared) -> bool:
    return subject.network is not None and subject.postprocess is not None


def _has_stages(subject: Prepared) -> bool:
    return bool(subject.stages)


def _has_preprocess(subject: Prepared) -> bool:
    return subject.preprocess is not None


WHOLE = Pass("whole", ("latency",), _whole, lambda subject: True)
PARTS = Pass("parts", ("network", "nms"), _parts, _has_parts)
STAGES = Pass("stages", ("backbone", "neck", "head"), _stages, _has_stages)
PREPROCESS = Pass("preprocess", ("preprocess",), _preprocess, _has_preprocess)


class Trace:
    """What one pass took of one subject, in the order it was taken; nothing is left out."""

    def __init__(self) -> None:
        self.samples: dict[str, list[list[float]]] = {}  # metric: [rounds][calls], milliseconds
        self.windows: list[Window] = []  # one a round: its timed calls, nanoseconds

    def flat(self, name: str) -> list[float]:
        """Return the samples of a metric as one series."""
        return list(chain.from_iterable(self.samples[name]))

    def begin(self) -> None:
        """Begin a round."""
        for rounds in self.samples.values():
            rounds.append([])

    def add(self, name: str, value: float) -> None:
        """Add a sample to the round."""
        self.samples.setdefault(name, [[]])[-1].append(value)


Traces = dict[str, dict[str, Trace]]  # subject, pass


class Session:
    """One measurement of several subjects.

    Args:
        subjects: by name; under `WORKLOAD` the reference workload, which is to end nothing and to
            cost little.
        config: how to measure.
        timer: of the device.
        seed: of the order in which subjects take turns.
        on_progress: told after each round.
        against: the subject whose ratios to the others decide when it is enough; None where each
            subject's own median does.
    """

    def __init__(
        self,
        subjects: Mapping[str, Prepared],
        config: LatencyConfig,
        timer: Timer,
        seed: int,
        on_progress: OnProgress,
        against: str | None = None,
    ) -> None:
        self.subjects, self.config, self.timer = subjects, config, timer
        self.order, self.on_progress = random.Random(seed), on_progress
        self.measured = [name for name in subjects if name != WORKLOAD]
        self.against = against
        self.traces: Traces = {name: {} for name in subjects}
        self.block = config.block
        self.details: dict[str, Any] = {}

    def run(self) -> None:
        """Warm up, then time the whole, then the parts."""
        self._warm_up()
        self._time_whole()
        self._time_parts()

    def _warm_up(self) -> None:
        """Run rounds until the traces are steady, then choose the size of a block."""
        traces: Traces = {name: {} for name in self.subjects}
        start, rounds, steady = self.timer.clock(), 0, False
        limit = self.config.warmup_seconds * len(self.measured)
        while not steady and (rounds == 0 or self._since(start) < limit):
            self._round(WHOLE, rounds, traces)
            rounds += 1
            steady = all(statistics.is_steady(_latencies(traces[name])) for name in self.measured)
        self.details |= {
            "warmup_rounds": rounds,
            "warmup_samples": rounds * self.block,
            "warmup_seconds": self._since(start),
            "steady": steady,
        }
        slowest = max(float(np.median(_latencies(traces[name]))) for name in self.measured) / 1e3
        fitting = int(self.config.seconds / ROUNDS / max(slowest, 1e-9)) - UNTIMED
        self.block = max(1, min(self.config.block, fitting))
        self.details |= {"block": self.block, "untimed_per_block": UNTIMED}

    def _time_whole(self) -> None:
        start, rounds, stop = self.timer.clock(), 0, None
        while stop is None:
            self._round(WHOLE, rounds, self.traces)
            rounds += 1
            elapsed = self._since(start)
            stop = self._stop(rounds, elapsed)
            done = rounds * self.block
            total = done if stop else min(self.config.max_samples, self._fitting(done, elapsed))
            self.on_progress(Progress("latency", done, total, self._medians()))
        self.details |= {"rounds": rounds, "seconds": elapsed, "stopped_by": stop}

    def _seconds(self) -> float:
        """Return the time for all subjects' calls."""
        return self.config.seconds * len(self.measured)

    def _fitting(self, done: int, elapsed: float) -> int:
        """Return how many samples fit into the time, at the pace so far."""
        return max(done, math.ceil(done * self._seconds() / max(elapsed, 1e-9)))

    def _stop(self, rounds: int, elapsed: float) -> str | None:
        """Say why the measurement is over; None while it is not."""
        taken = rounds * self.block
        if rounds < FEWEST_ROUNDS:
            return None
        if taken >= self.config.max_samples:
            return "max_samples"
        if elapsed >= self._seconds():
            return "seconds"
        if taken >= self.config.min_samples and all(map(self._is_narrow, self.measured)):
            return "target_interval"
        return None

    def _is_narrow(self, name: str) -> bool:
        """Say whether what the session is to tell of a subject is known well enough."""
        samples = self.traces[name][WHOLE.key].samples["latency_ms"]
        others = [other for other in self.measured if other != self.against]
        if self.against is None or not others:
            series = [*chain.from_iterable(samples)]
            interval, middle = statistics.median_interval(series), float(np.median(series))
            if interval is None:
                return False
            low, high = interval
        elif name == self.against:
            return True
        else:
            beside = self.traces[self.against][WHOLE.key].samples["latency_ms"]
            middle, low, high = statistics.ratio_of_medians(samples, beside)
        return (high - low) / 2 <= self.config.target_interval * middle

    def _time_parts(self) -> None:
        start, rounds = self.timer.clock(), 0
        limit = self.config.seconds / 2 * len(self.measured)
        wanted = math.ceil(self.config.min_samples / self.block)
        while rounds < wanted and (rounds == 0 or self._since(start) < limit):
            for what in (PARTS, STAGES, PREPROCESS):
                self._round(what, rounds, self.traces)
            rounds += 1
        self.details["rounds_of_stages"] = rounds

    def _round(self, what: Pass, number: int, into: Traces) -> None:
        """Give each subject a block of calls, all on the same images."""
        names = [name for name, subject in self.subjects.items() if what.applies(subject)]
        self.order.shuffle(names)
        for name in names:
            calls = WORKLOAD_CALLS if name == WORKLOAD else self.block
            trace = into[name].setdefault(what.key, Trace())
            self._block(
                self.subjects[name], what, range(number * calls, (number + 1) * calls), trace
            )

    def _block(self, subject: Prepared, what: Pass, calls: range, into: Trace) -> None:
        with subject.active():
            self._calls(subject, what, calls, into)

    def _calls(self, subject: Prepared, what: Pass, calls: range, into: Trace) -> None:
        count = len(subject.inputs)
        for call in range(calls.start - UNTIMED, calls.start):
            self.timer.time(*what.work(subject, call % count))
        into.begin()
        start = self.timer.clock()
        for call in calls:
            result, spans = self.timer.time(*what.work(subject, call % count))
            del result
            for name, span in zip(what.names, spans, strict=True):
                into.add(f"{name}_ms", span.wall_ms)
                if span.device_ms is not None:
                    into.add(f"{name}_device_ms", span.device_ms)
        into.windows.append((start, self.timer.clock()))

    def _since(self, start: int) -> float:
        return (self.timer.clock() - start) / 1e9

    def _medians(self) -> dict[str, float]:
        return {name: float(np.median(_latencies(self.traces[name]))) for name in self.measured}


def _latencies(traces: Mapping[str, Trace]) -> list[float]:
    return traces[WHOLE.key].flat("latency_ms")
