"""Latency end to end: from a prepared tensor on the device to final detections, NMS included.

Subjects take turns in rounds, in an order drawn anew each round, on the same images: whatever the
machine does meanwhile happens to all of them. Each pass times something else, so that the clocks of
one do not disturb another: the whole; network and postprocessing; the stages of the network.
"""

from __future__ import annotations

import gc
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import torch
from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from harness import locks, statistics
from harness.progress import OnProgress, Progress, ignore
from harness.recipe import Settings
from harness.statistics import FEWEST_ROUNDS, Ratio
from harness.subjects import Inputs, Prepared, Profile, Subject, prepare, profile, read_inputs
from harness.timer import Step, Timer, timer_for

if TYPE_CHECKING:
    from detectors.interface import InputConfig
    from harness.data import Split

__all__ = ["LatencyConfig", "Subject", "Timing", "measure", "measure_prepared", "ratio"]

ROUNDS = 10  # a block is cut so that this many rounds fit into the time
UNTIMED = 1  # calls before each block, which warm the caches that another subject has used
UNTRAINED = "untrained: the time for NMS depends on the scores and says nothing here"


class LatencyConfig(Settings):
    """How latency is measured."""

    batch_size: PositiveInt = 1
    """Images a call."""
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    """Arithmetic of the network; postprocessing is always in float32."""
    threads: PositiveInt | None = None
    """Threads inside an operator on a CPU; null leaves torch's own choice."""
    images: PositiveInt = 32
    """Validation images that take turns, from the first on."""
    block: PositiveInt = 8
    """Calls in a row a subject gets each round; fewer where a call takes long."""
    min_samples: PositiveInt = 100
    """Calls of a subject before the interval may end the measurement."""
    max_samples: PositiveInt = 1000
    """Calls of a subject after which the measurement ends."""
    seconds: PositiveFloat = 10.0
    """Time for a subject's calls, after which the measurement ends; its stages take half of it."""
    target_interval: PositiveFloat = 0.01
    """Half width of the median's 95 % interval, as a share of it, at which the measurement ends."""
    warmup_seconds: float = Field(5.0, ge=0)
    """Time for a subject's warm-up, which ends as soon as every trace is steady."""

    @model_validator(mode="after")
    def _ordered(self) -> LatencyConfig:
        if self.max_samples < self.min_samples:
            raise ValueError(
                f"max_samples {self.max_samples} is below min_samples {self.min_samples}"
            )
        return self


class Timing(NamedTuple):
    """How fast a detector is.

    `latency_ms` is the median of the whole, `latency_low_ms` and `latency_high_ms` its 95 %
    interval; the others are medians of their pass. On a GPU `<name>_device_ms` is the same by the
    device's events. Milliseconds a call.
    """

    metrics: dict[str, float]
    samples: dict[str, list[float]]  # in the order they were taken, nothing left out
    details: dict[str, Any]
    absent: dict[str, str]
    caveats: dict[str, str]


def measure(
    subjects: Mapping[str, Subject],
    split: Split,
    config: LatencyConfig,
    *,
    device: str,
    seed: int = 0,
    on_progress: OnProgress = ignore,
) -> dict[str, Timing]:
    """Time detectors against each other on images of a split, alone on the device.

    Args:
        subjects: by a name of the caller's; the detectors stay as they are.
        split: where the images come from.
        config: how to measure.
        device: as torch spells it.
        seed: of the order in which subjects take turns.
        on_progress: told after each round.
    """
    read: dict[InputConfig, tuple[Inputs, ...]] = {}
    prepared = {}
    with locks.working(device):  # reading and deploying would disturb another's measurement
        for name, subject in subjects.items():
            wanted = subject.detector.config.input
            if wanted not in read:
                read[wanted] = read_inputs(
                    split, wanted, images=config.images, batch_size=config.batch_size
                )
            prepared[name] = prepare(subject, read[wanted], device, config.precision)
    with locks.measuring(device) as waited:
        timings = measure_prepared(
            prepared, config, timer_for(device), device=device, seed=seed, on_progress=on_progress
        )
    for timing in timings.values():
        timing.details["waited_seconds"] = waited
    return timings


def measure_prepared(
    subjects: Mapping[str, Prepared],
    config: LatencyConfig,
    timer: Timer,
    *,
    device: str,
    seed: int = 0,
    on_progress: OnProgress = ignore,
) -> dict[str, Timing]:
    """Time subjects that are ready; see `measure`."""
    with _quiet_process(config.threads), torch.inference_mode():
        profiles = {
            name: profile(subject, device, timer.clock, config.seconds / 2)
            for name, subject in subjects.items()
        }
        session = _Session(subjects, config, timer, seed, on_progress)
        session.details["threads"] = torch.get_num_threads()
        session.run()
    return {
        name: session.timing(name, subject, profiles[name]) for name, subject in subjects.items()
    }


def ratio(a: Timing, b: Timing) -> Ratio:
    """Divide the latency of one subject by that of another of the same measurement.

    Raises:
        ValueError: they were not measured together.
    """
    return statistics.ratio_of_medians(_rounds(a), _rounds(b))


def _rounds(timing: Timing) -> list[list[float]]:
    samples, block = timing.samples["latency_ms"], timing.details["block"]
    return [samples[start : start + block] for start in range(0, len(samples), block)]


@contextmanager
def _quiet_process(threads: int | None) -> Iterator[None]:
    """Keep the garbage collector out of the timed calls, and set the threads for them."""
    before, collecting = torch.get_num_threads(), gc.isenabled()
    gc.collect()
    gc.disable()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        if collecting:
            gc.enable()


class _Pass(NamedTuple):
    """Something to time."""

    names: tuple[str, ...]  # one a step
    steps: Callable[[Prepared, Inputs], Sequence[Step]]


def _whole(subject: Prepared, inputs: Inputs) -> Sequence[Step]:
    return (lambda images: subject.detector.detect(images, inputs.sizes),)


def _parts(subject: Prepared, inputs: Inputs) -> Sequence[Step]:
    detector = subject.detector
    return detector, lambda outputs: detector.postprocess(outputs, inputs.sizes)


def _stages(subject: Prepared, inputs: Inputs) -> Sequence[Step]:
    detector = subject.detector
    return detector.backbone, detector.neck, detector.head


_WHOLE = _Pass(("latency",), _whole)
_PARTS = _Pass(("network", "nms"), _parts)
_STAGES = _Pass(("backbone", "neck", "head"), _stages)

_Samples = dict[str, list[float]]


class _Session:
    """One measurement of several subjects."""

    def __init__(
        self,
        subjects: Mapping[str, Prepared],
        config: LatencyConfig,
        timer: Timer,
        seed: int,
        on_progress: OnProgress,
    ) -> None:
        self.subjects = subjects
        self.config = config
        self.timer = timer
        self.order = random.Random(seed)
        self.on_progress = on_progress
        self.samples: dict[str, _Samples] = {name: {} for name in subjects}
        self.block = config.block
        self.details: dict[str, Any] = {}

    def run(self) -> None:
        """Warm up, then time the whole, then the parts."""
        self._warm_up()
        self._time_whole()
        self._time_parts()

    def _warm_up(self) -> None:
        """Run rounds until the traces are steady, then choose the size of a block."""
        traces: dict[str, _Samples] = {name: {} for name in self.subjects}
        start, rounds, steady = self.timer.clock(), 0, False
        limit = self.config.warmup_seconds * len(self.subjects)
        while not steady and (rounds == 0 or self._since(start) < limit):
            self._round(_WHOLE, rounds, traces)
            rounds += 1
            steady = all(statistics.is_steady(trace["latency_ms"]) for trace in traces.values())
        self.details |= {
            "warmup_rounds": rounds,
            "warmup_samples": rounds * self.block,
            "warmup_seconds": self._since(start),
            "steady": steady,
        }
        slowest = max(float(np.median(trace["latency_ms"])) for trace in traces.values()) / 1e3
        fitting = int(self.config.seconds / ROUNDS / max(slowest, 1e-9)) - UNTIMED
        self.block = max(1, min(self.config.block, fitting))
        self.details |= {"block": self.block, "untimed_per_block": UNTIMED}

    def _time_whole(self) -> None:
        start, rounds, stop = self.timer.clock(), 0, None
        while stop is None:
            self._round(_WHOLE, rounds, self.samples)
            rounds += 1
            elapsed = self._since(start)
            stop = self._stop(rounds, elapsed)
            done = rounds * self.block
            total = self.config.max_samples if stop is None else done
            self.on_progress(Progress("latency", done, total, self._medians()))
        self.details |= {"rounds": rounds, "seconds": elapsed, "stopped_by": stop}

    def _stop(self, rounds: int, elapsed: float) -> str | None:
        """Say why the measurement is over; None while it is not."""
        taken = rounds * self.block
        if rounds < FEWEST_ROUNDS:
            return None
        if taken >= self.config.max_samples:
            return "max_samples"
        if elapsed >= self.config.seconds * len(self.subjects):
            return "seconds"
        if taken >= self.config.min_samples and all(map(self._is_narrow, self.subjects)):
            return "target_interval"
        return None

    def _is_narrow(self, name: str) -> bool:
        width = _relative_half_width(self.samples[name]["latency_ms"])
        return width is not None and width <= self.config.target_interval

    def _time_parts(self) -> None:
        start, rounds = self.timer.clock(), 0
        limit = self.config.seconds / 2 * len(self.subjects)
        wanted = math.ceil(self.config.min_samples / self.block)
        while rounds < wanted and (rounds == 0 or self._since(start) < limit):
            self._round(_PARTS, rounds, self.samples)
            self._round(_STAGES, rounds, self.samples)
            rounds += 1
        self.details["rounds_of_stages"] = rounds

    def _round(self, what: _Pass, number: int, into: dict[str, _Samples]) -> None:
        """Give each subject a block of calls, all on the same images."""
        names = list(self.subjects)
        self.order.shuffle(names)
        for name in names:
            self._block(self.subjects[name], what, number * self.block, into[name])

    def _block(self, subject: Prepared, what: _Pass, first: int, into: _Samples) -> None:
        for offset in range(-UNTIMED, self.block):
            inputs = subject.inputs[(first + offset) % len(subject.inputs)]
            steps = what.steps(subject, inputs)
            result, spans = self.timer.time(steps, inputs.images)
            del result
            if offset < 0:
                continue
            for name, span in zip(what.names, spans, strict=True):
                into.setdefault(f"{name}_ms", []).append(span.wall_ms)
                if span.device_ms is not None:
                    into.setdefault(f"{name}_device_ms", []).append(span.device_ms)

    def _since(self, start: int) -> float:
        return (self.timer.clock() - start) / 1e9

    def _medians(self) -> dict[str, float]:
        return {
            name: float(np.median(samples["latency_ms"])) for name, samples in self.samples.items()
        }

    def timing(self, name: str, subject: Prepared, seen: Profile) -> Timing:
        """Summarise what was taken of a subject."""
        samples = self.samples[name]
        metrics = {key: float(np.median(values)) for key, values in samples.items()}
        metrics["latency_p95_ms"] = float(np.quantile(samples["latency_ms"], 0.95))
        absent = {"energy_j": "no energy counter is read"}
        interval = statistics.median_interval(samples["latency_ms"])
        if interval is None:
            reason = "too few independent samples for an interval"
            absent |= {"latency_low_ms": reason, "latency_high_ms": reason}
        else:
            metrics |= {"latency_low_ms": interval.low, "latency_high_ms": interval.high}
        if seen.memory_bytes is None:
            absent["memory_bytes"] = "a CPU has no counter of a model's memory"
        else:
            metrics["memory_bytes"] = float(seen.memory_bytes)
        if "candidates" not in seen.details:
            absent["candidates"] = "the postprocess stage does not tell them"
        details = self.details | seen.details
        return Timing(metrics, samples, details, absent, self._caveats(subject, samples))

    def _caveats(self, subject: Prepared, samples: _Samples) -> dict[str, str]:
        remarks = []
        taken = len(samples["latency_ms"])
        if not self.details["steady"]:
            remarks.append(f"not steady after {self.details['warmup_seconds']:.1f} s of warm-up")
        if taken < self.config.min_samples:
            remarks.append(f"only {taken} samples fit into the time")
        if not locks.PAUSES_WORK:
            remarks.append("training on the device was not paused: no fcntl on this platform")
        caveats = {"latency_ms": "; ".join(remarks)} if remarks else {}
        if not subject.trained:
            remarks.append(UNTRAINED)
            caveats = {"latency_ms": "; ".join(remarks), "nms_ms": UNTRAINED}
        return caveats


def _relative_half_width(samples: Sequence[float]) -> float | None:
    interval = statistics.median_interval(samples)
    if interval is None:
        return None
    return (interval.high - interval.low) / 2 / float(np.median(samples))
