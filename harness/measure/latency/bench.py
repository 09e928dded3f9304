"""Latency end to end: from a prepared tensor on the device to final detections, NMS included.

Subjects take turns in rounds, in an order drawn anew each round, on the same images: whatever the
machine does meanwhile happens to all of them. Each pass times something else, so that the clocks of
one do not disturb another: the whole; network and postprocessing; the stages of the network.
"""

from __future__ import annotations

import gc
import itertools
import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any, NamedTuple

import numpy as np
import torch

from detectors.interface import InputConfig, RunsItself
from harness.config.latency import LatencyConfig
from harness.data import Split
from harness.machine import conditions, energy, locks
from harness.machine.energy import Energy
from harness.machine.nvml import Unavailable
from harness.machine.quiet import uncollected, with_threads
from harness.measure.complexity import coverage
from harness.measure.complexity.coverage import Coverage
from harness.measure.inputs import Inputs, Preprocess, read_inputs
from harness.measure.latency import derived, limits
from harness.measure.latency.derived import Aside, Timing
from harness.measure.latency.session import PARTS, PREPROCESS, STAGES, WHOLE, WORKLOAD, Session
from harness.measure.latency.subjects import Prepared, Subject, prepare, profile, workload
from harness.measure.latency.timer import Timer, timer_for
from harness.measure.runtimes import RuntimeConfig, RuntimeUnavailable, gate
from harness.records.progress import OnProgress, Progress, ignore
from harness.records.turns import Ratio

__all__ = [
    "WORKLOAD",
    "Bench",
    "LatencyConfig",
    "Subject",
    "Timing",
    "measure",
    "measure_prepared",
    "ratio",
]

LIMITS_SECONDS = 1.0  # for the limits of the device, at most
ENERGY_SECONDS = 2.0  # of each of a subject's two windows; longer where the counter needs it
BUSY_CALLS = 5  # that are looked into for the time in which the device computes
FIGURES = (
    *(f"{name}_ms" for what in (WHOLE, PARTS, STAGES, PREPROCESS) for name in what.names),
    *("latency_p95_ms", "latency_p99_ms", "latency_low_ms", "latency_high_ms", "busy_ms"),
    *("reference_ratio", "reference_ratio_low", "reference_ratio_high", "roofline_fraction"),
    *("uncounted_fraction", "memory_bytes", "weight_bytes", "activation_bytes", "energy_j"),
)
"""Of a subject; there is none of them where it is not timed."""


class Bench(NamedTuple):
    """A device, its timer, and what is read there beside the times."""

    device: str
    timer: Timer
    sampler: conditions.Sampler | None = None  # of the machine's conditions; made on this thread
    energy: bool = False  # whether to read its counter of joules, where there is one
    coverage: bool = False  # whether to see which operators take the network's time


def measure(
    subjects: Mapping[str, Subject],
    split: Split,
    config: LatencyConfig,
    *,
    device: str,
    seed: int = 0,
    against: str | None = None,
    on_progress: OnProgress = ignore,
) -> dict[str, Timing]:
    """Time detectors against each other on images of a split, alone on the device.

    Args:
        subjects: by a name of the caller's; the detectors stay as they are.
        split: where the images come from.
        config: how to measure.
        device: as torch spells it.
        seed: of the order in which subjects take turns.
        against: the subject that all others are compared with: their ratios to it decide when it is
            enough, and energy and the operators' shares are left out. None where each subject is
            measured for itself.
        on_progress: told after each round.

    Returns:
        Timings by name; without metrics those of a subject that predicts something else than eager
        torch in float32 does, or that may be left out and whose runtime is unavailable.

    Raises:
        RuntimeUnavailable: in one line, why a subject cannot be run; nothing was timed.
    """
    with with_threads(config.threads):
        deployed = _deploy_all(subjects, split, config, device, on_progress)
    ready = {name: item.prepared for name, item in deployed.items() if item.prepared}
    timings: dict[str, Timing] = {}
    if ready:
        with locks.measuring(device) as waited:
            more = against is None
            bench = Bench(device, timer_for(device), conditions.Sampler(device), more, more)
            timings = measure_prepared(
                ready, config, bench, against=against, seed=seed, on_progress=on_progress
            )
        for timing in timings.values():
            timing.details["waited_seconds"] = waited
    for name, item in deployed.items():
        timing = timings.setdefault(name, _untimed(item.reason))
        timing.details.update(item.details)
        _tell_sizes(timing)
        if item.prepared and item.prepared.runtime:
            item.prepared.runtime.close()
    return timings


def _tell_sizes(timing: Timing) -> None:
    """Say beside the latency how large inputs were that are as large as their photographs."""
    sizes = timing.details.get("input_sizes")
    if sizes is None or "latency_ms" not in timing.metrics:
        return
    low, high = (f"{width} x {height}" for height, width in sizes.values())
    words = f"of inputs of {low}" + ("" if low == high else f" to {high}")
    known = timing.caveats.get("latency_ms")
    timing.caveats["latency_ms"] = "; ".join(filter(None, (known, words)))


class _Deployed(NamedTuple):
    """What became of a subject."""

    prepared: Prepared | None  # None where it is not to be timed
    reason: str  # why not
    details: dict[str, Any]  # the runtime, and what the gate found


def _untimed(reason: str) -> Timing:
    return Timing({}, {}, dict.fromkeys(FIGURES, reason), {}, {}, [])


def _deploy_all(
    subjects: Mapping[str, Subject],
    split: Split,
    config: LatencyConfig,
    device: str,
    on_progress: OnProgress,
) -> dict[str, _Deployed]:
    read: dict[InputConfig, tuple[Inputs, ...]] = {}
    found: dict[str, _Deployed] = {}
    for name, subject in subjects.items():
        if _is_gated(config.deployment(subject.runtime)):
            on_progress(Progress("deploy", len(found), len(subjects), {}))
        wanted = subject.detector.config.input
        with locks.working(device):  # else it would disturb others
            if wanted not in read:
                read[wanted] = read_inputs(
                    split, wanted, images=config.images, batch_size=config.batch_size
                )
            found[name] = _deploy(subject, read[wanted], split, config, device)
    if found and not any(item.details for item in found.values()):
        raise RuntimeUnavailable("; ".join(dict.fromkeys(item.reason for item in found.values())))
    return found


def _deploy(
    subject: Subject, inputs: Sequence[Inputs], split: Split, config: LatencyConfig, device: str
) -> _Deployed:
    """Make a subject ready, and see whether its latency may be published."""
    settings, detector = config.deployment(subject.runtime), subject.detector
    try:
        ready = prepare(subject, inputs, settings, device)
    except RuntimeUnavailable as why:
        if not subject.optional:
            raise
        return _Deployed(None, str(why), {})
    assert ready.runtime is not None
    details: dict[str, Any] = {"runtime": ready.runtime.details}
    if detector.config.input.varies:
        shapes = sorted({tuple(item.images.shape[2:]) for item in inputs}, key=math.prod)
        details["input_sizes"] = {"smallest": shapes[0], "largest": shapes[-1]}
    if _is_gated(settings) and not isinstance(detector, RunsItself):
        known = detector.config.num_classes == len(split.categories)
        judged_on, trained = split if known else None, subject.trained
        verdict = gate(ready.runtime, detector, inputs, judged_on, device=device, trained=trained)
        details["gate"] = verdict._asdict()
        if not verdict.passed:
            ready.runtime.close()
            return _Deployed(None, verdict.sentence, details)
    if config.preprocess:
        anew = Preprocess(split, detector.config.input, config.images, ready.inputs)
        ready = ready._replace(preprocess=anew)
    return _Deployed(ready, "", details)


def _is_gated(config: RuntimeConfig) -> bool:
    """Whether it must be seen first to predict what eager torch does in float32."""
    return (config.runtime, config.precision, config.channels_last) != ("eager", "fp32", False)


def measure_prepared(
    subjects: Mapping[str, Prepared],
    config: LatencyConfig,
    bench: Bench,
    *,
    against: str | None = None,
    seed: int = 0,
    on_progress: OnProgress = ignore,
) -> dict[str, Timing]:
    """Time subjects that are ready; see `measure`."""
    taking_turns, known = dict(subjects), None
    gc.collect()
    with with_threads(config.threads), uncollected(), torch.inference_mode():
        if config.reference:
            taking_turns[WORKLOAD] = workload(bench.device)
            known = _limits(config, bench)
        profiles = {
            name: profile(subject, bench.device, bench.timer.clock, config.seconds / 2)
            for name, subject in subjects.items()
        }
        session = Session(taking_turns, config, bench.timer, seed, on_progress, against)
        session.details["threads"] = torch.get_num_threads()
        with bench.sampler or nullcontext():
            session.run()
        energies = _energies(subjects, config, bench)
        busy = {name: _busy(subject, bench.timer) for name, subject in subjects.items()}
        covered = {name: _coverage(subject, bench) for name, subject in subjects.items()}
    asides = {
        name: Aside(profiles[name], energies[name], busy[name], covered[name]) for name in subjects
    }
    return _derive(session, asides, bench, known)


def _derive(
    session: Session, asides: Mapping[str, Aside], bench: Bench, known: limits.Limits | None
) -> dict[str, Timing]:
    """Derive the figures of every subject; those of the workload are its times alone."""
    traces, sampler, by_it = session.traces, bench.sampler, None
    timings = {}
    if WORKLOAD in traces:
        by_it = derived.blocks(traces[WORKLOAD][WHOLE.key], sampler)
        metrics = {name: float(np.median(by_it.series(name))) for name in by_it.samples}
        watched = [] if sampler is None else sampler.samples
        timings[WORKLOAD] = Timing(metrics, {}, {}, {}, {WHOLE.key: by_it}, watched)
    common = derived.Session(session.config, session.details, sampler, known, by_it)
    for name, aside in asides.items():
        timings[name] = derived.timing(session.subjects[name], traces[name], aside, common)
    return timings


def ratio(a: Timing, b: Timing) -> Ratio:
    """Divide the latency of one subject by that of another of the same measurement.

    Raises:
        ValueError: they were not measured together.
    """
    return derived.ratio(a.passes[WHOLE.key], b.passes[WHOLE.key])


def _limits(config: LatencyConfig, bench: Bench) -> limits.Limits:
    seconds = min(LIMITS_SECONDS, config.seconds / 10)
    return limits.measure(bench.device, config.precision, seconds=seconds, timer=bench.timer)


def _energies(
    subjects: Mapping[str, Prepared], config: LatencyConfig, bench: Bench
) -> dict[str, Energy | str]:
    """Return the energy of an image of every subject, or why there is none."""
    if not bench.energy:
        return dict.fromkeys(subjects, "no energy counter is read")
    try:
        with energy.opened(bench.device) as counter:
            return {name: _energy(item, config, bench, counter) for name, item in subjects.items()}
    except Unavailable as why:
        return dict.fromkeys(subjects, str(why))


def _energy(
    subject: Prepared, config: LatencyConfig, bench: Bench, counter: energy.Counter
) -> Energy | str:
    indexes = itertools.cycle(range(len(subject.inputs)))
    seconds = min(ENERGY_SECONDS, config.seconds / 5)

    def call() -> None:
        bench.timer.time(*WHOLE.work(subject, next(indexes)))

    try:
        with subject.active():
            return energy.measure(call, counter, images=config.batch_size, seconds=seconds)
    except Unavailable as why:
        return str(why)


def _busy(subject: Prepared, timer: Timer) -> float | None:
    """Return the median time of a call in which the device computes."""
    indexes = range(min(BUSY_CALLS, len(subject.inputs)))
    with subject.active():
        found = [timer.busy(*WHOLE.work(subject, index)) for index in indexes]
    told = [value for value in found if value is not None]
    return float(np.median(told)) if told else None


def _coverage(subject: Prepared, bench: Bench) -> Coverage | str:
    """See which operators the time of a network goes into, or say why that is not known."""
    network, images = subject.network, subject.inputs[0].images
    if not bench.coverage:
        return "operators were not looked into"
    if network is None or not subject.stages:
        return "the runtime does not run operator by operator"
    with subject.active():
        return coverage.measure(lambda: network(images), bench.device)
