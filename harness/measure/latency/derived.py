"""Figures derived from the raw samples of a session, and why others are absent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np

from harness.config.latency import LatencyConfig
from harness.machine import conditions, locks
from harness.machine.conditions import Sampler, Taint
from harness.machine.energy import Energy
from harness.machine.trace import Sample, Window
from harness.measure.complexity.coverage import Coverage
from harness.measure.latency import limits, statistics
from harness.measure.latency.limits import Limits, Reference
from harness.measure.latency.session import PARTS, PREPROCESS, STAGES, WHOLE, Pass, Trace
from harness.measure.latency.statistics import FEWEST_ROUNDS
from harness.measure.latency.subjects import Prepared, Profile
from harness.records.latencies import ROUGH
from harness.records.turns import Ratio

UNTRAINED = "untrained: the time for NMS depends on the scores and says nothing here"
IDLE = 0.3  # share of the wall time; a device that idles longer waits for launches
FEWEST_FOR_P99 = 100  # samples; with fewer it would be the greatest of them
FOLLOW = {
    WHOLE.key: (
        *("latency_device_ms", "latency_p95_ms", "latency_p99_ms", "latency_low_ms"),
        *("latency_high_ms", "energy_j"),
    ),
    PARTS.key: ("network_device_ms", "nms_device_ms", "roofline_fraction"),
    STAGES.key: ("backbone_device_ms", "neck_device_ms", "head_device_ms"),
    PREPROCESS.key: ("preprocess_device_ms",),
}
"""Figures that are as rough as those of a pass: made from its rounds, or read beside them."""


class Blocks(NamedTuple):
    """The blocks of calls that one pass took, one a round, complete."""

    samples: dict[str, list[list[float]]]  # metric: [rounds][calls], milliseconds
    windows: list[Window]  # of the timed calls, nanoseconds
    kept: list[int]  # the rounds that figures are made from
    taints: list[Taint]

    @property
    def rough(self) -> bool:
        """Whether most rounds were disturbed, so that their times may not be ranked."""
        return conditions.mostly(len(self.windows), self.taints)

    def series(self, name: str) -> list[float]:
        """Return the kept samples of a metric in their order."""
        rounds = self.samples[name]
        return list(chain.from_iterable(rounds[index] for index in self.kept))


class Timing(NamedTuple):
    """How fast a detector is; names and units of metrics as in `harness.records.Record`.

    Metrics come from the rounds that the machine left undisturbed; `passes` and `watched` hold all
    that was read, so that every figure can be derived anew.
    """

    metrics: dict[str, float]
    details: dict[str, Any]
    absent: dict[str, str]
    caveats: dict[str, str]
    passes: dict[str, Blocks]
    watched: list[Sample]  # the machine's conditions

    @property
    def samples(self) -> dict[str, list[float]]:
        """All samples by metric in the order they were taken, nothing left out."""
        return {
            name: list(chain.from_iterable(rounds))
            for blocks in self.passes.values()
            for name, rounds in blocks.samples.items()
        }


class Aside(NamedTuple):
    """What was read of one subject beside its calls' times."""

    profile: Profile
    energy: Energy | str  # or why there is none
    busy_ms: float | None  # in which the device computes; None where it does not tell
    coverage: Coverage | str = "operators were not looked into"  # or why there is none


class Session(NamedTuple):
    """What holds for all subjects of a session."""

    config: LatencyConfig
    details: dict[str, Any]
    sampler: Sampler | None
    limits: Limits | None
    workload: Blocks | None  # the main pass of the reference workload


def blocks(trace: Trace, sampler: Sampler | None) -> Blocks:
    """Choose the rounds of a pass that figures are made from.

    Args:
        trace: what was taken.
        sampler: of the conditions meanwhile; None where nobody watched.
    """
    taints = [] if sampler is None else conditions.taint(trace.windows, sampler.samples)
    kept = conditions.keep(len(trace.windows), taints)
    return Blocks(trace.samples, trace.windows, kept, taints)


def ratio(a: Blocks, b: Blocks) -> Ratio:
    """Divide the latency of one subject by that of another over the rounds that both keep.

    Where those are too few, all rounds count.

    Raises:
        ValueError: they were not measured together.
    """
    first, second = a.samples["latency_ms"], b.samples["latency_ms"]
    common = sorted({*a.kept} & {*b.kept})
    if len(common) >= FEWEST_ROUNDS and len(first) == len(second):
        first, second = [first[i] for i in common], [second[i] for i in common]
    return statistics.ratio_of_medians(first, second)


def timing(
    subject: Prepared, traces: Mapping[str, Trace], aside: Aside, session: Session
) -> Timing:
    """Derive everything that is said about a subject."""
    passes = {key: blocks(trace, session.sampler) for key, trace in traces.items()}
    result = Timing({}, dict(session.details), {}, {}, passes, _watched(session.sampler))
    for part in passes.values():
        for name in part.samples:
            result.metrics[name] = float(np.median(part.series(name)))
    _spread(result)
    _counts(result, subject, aside.profile)
    _energy(result, aside.energy)
    _busy(result, aside.busy_ms)
    _coverage(result, aside.coverage)
    _ratio(result, session)
    _roofline(result, subject, aside.profile, session)
    _passes(result, session)
    _remarks(result, subject, session.config)
    return result


def _watched(sampler: Sampler | None) -> list[Sample]:
    return [] if sampler is None else sampler.samples


def _spread(result: Timing) -> None:
    """Add the tail and the median's interval."""
    series = result.passes[WHOLE.key].series("latency_ms")
    result.metrics["latency_p95_ms"] = float(np.quantile(series, 0.95))
    if len(series) < FEWEST_FOR_P99:
        reason = f"{len(series)} samples are too few for a 99th percentile"
        result.absent["latency_p99_ms"] = reason
    else:
        result.metrics["latency_p99_ms"] = float(np.quantile(series, 0.99))
    interval = statistics.median_interval(series)
    if interval is None:
        reason = "too few independent samples for an interval"
        result.absent.update(latency_low_ms=reason, latency_high_ms=reason)
    else:
        result.metrics.update(latency_low_ms=interval.low, latency_high_ms=interval.high)


def _counts(result: Timing, subject: Prepared, profile: Profile) -> None:
    """Add boxes and memory, and say which parts were not timed apart."""
    result.details.update(profile.details)
    if "candidates" not in profile.details:
        result.absent["candidates"] = "the postprocess stage does not tell them"
    _memory(result, subject.weight_bytes, profile.memory_bytes)
    for names, key, what in (
        (PARTS.names, PARTS.key, "the network apart from NMS"),
        (STAGES.names, STAGES.key, "the stages apart"),
    ):
        if key not in result.passes:
            reason = subject.apart or f"the runtime does not run {what}"
            result.absent.update({f"{name}_ms": reason for name in names})
    if subject.inside is not None:
        for name in ("nms_ms", "nms_device_ms"):
            result.metrics.pop(name, None)
        result.absent["nms_ms"] = subject.inside
    if subject.preprocess is None:
        result.absent["preprocess_ms"] = "not asked for (latency.preprocess)"


def _memory(result: Timing, weights: int | None, whole: int | None) -> None:
    """Add what the weights take, and what activations take at their peak."""
    if weights is None:
        result.absent["weight_bytes"] = "the subject does not tell its weights"
    else:
        result.metrics["weight_bytes"] = float(weights)
    if whole is None:
        reason = "there is no counter of a model's memory here"
        result.absent.update(memory_bytes=reason, activation_bytes=reason)
    else:
        result.metrics["memory_bytes"] = float(whole)
        result.metrics["activation_bytes"] = float(whole - (weights or 0))


def _energy(result: Timing, energy: Energy | str) -> None:
    if isinstance(energy, str):
        result.absent["energy_j"] = energy
        return
    result.metrics["energy_j"] = energy.energy_j
    result.details["energy"] = energy._asdict()


def _busy(result: Timing, busy_ms: float | None) -> None:
    """Say how long the device computes, and whether it waits for the launches."""
    if busy_ms is None:
        reason = "the device does not tell when it computes"
        on_gpu = "latency_device_ms" in result.metrics
        result.absent["busy_ms"] = reason if on_gpu else "a CPU waits for no launches"
        return
    result.metrics["busy_ms"] = busy_ms
    if result.passes[WHOLE.key].rough:
        return  # others made the calls longer, so the device's share of them tells nothing
    idle = max(0.0, 1 - busy_ms / result.metrics["latency_ms"])
    result.details.update(idle_share=idle, launch_bound=idle > IDLE)


def _coverage(result: Timing, coverage: Coverage | str) -> None:
    """Say which share of the network's time goes into operators that `macs` leaves out."""
    if isinstance(coverage, str):
        result.absent["uncounted_fraction"] = coverage
        return
    result.metrics["uncounted_fraction"] = coverage.uncounted
    result.details["coverage"] = coverage._asdict()


def _ratio(result: Timing, session: Session) -> None:
    """Compare with the reference workload."""
    names = [f"reference_ratio{end}" for end in ("", "_low", "_high")]
    if session.workload is None:
        reason = "the reference workload was not timed (latency.reference)"
        result.absent.update(dict.fromkeys(names, reason))
        return
    found = ratio(result.passes[WHOLE.key], session.workload)
    result.metrics.update(zip(names, found, strict=True))
    median = float(np.median(session.workload.series("latency_ms")))
    result.details["workload"] = {"name": Reference.name, "latency_ms": median}


def _roofline(result: Timing, subject: Prepared, profile: Profile, session: Session) -> None:
    """Compare the network's time with what the device allows."""
    known, name = session.limits, "roofline_fraction"
    if known is None:
        result.absent[name] = "the device's limits were not measured (latency.reference)"
        return
    result.details["limits"] = described(known)
    if subject.macs is None:
        result.absent[name] = "operations were not counted; measure complexity, too"
    elif "network_ms" not in result.metrics:
        result.absent[name] = "the runtime does not run the network apart from NMS"
    elif profile.least_bytes is None:
        result.absent[name] = "what the network has to move is not known"
    else:
        macs = subject.macs * len(subject.inputs[0].images)
        seconds = result.metrics["network_ms"] / 1e3
        found = limits.roofline(macs, profile.least_bytes, seconds, known)
        result.metrics[name] = found.fraction
        result.details["roofline"] = {
            **found._asdict(),
            "macs": macs,
            "least_bytes": profile.least_bytes,
        }
        if known.caveats:
            result.caveats[name] = "; ".join(known.caveats.values())


def described(known: Limits) -> dict[str, Any]:
    """Return the limits of a device as JSON values."""
    return {
        "precision": known.precision,
        "flop_per_s": known.compute._asdict(),
        "bytes_per_s": known.memory._asdict(),
        **known.details,
    }


def _passes(result: Timing, session: Session) -> None:
    """Count the rounds that were spoilt and those that were dropped."""
    sampler = session.sampler
    if sampler is None:
        result.absent["conditions"] = "nobody watched the machine"
        return
    result.details["conditions"] = {
        **conditions.summary(sampler.samples),
        "absent": sampler.absent,
        "share_of_core": sampler.share_of_core,
        "passes": {
            key: {
                "rounds": len(part.windows),
                "dropped": len(part.windows) - len(part.kept),
                "tainted": conditions.tally(part.taints),
            }
            for key, part in result.passes.items()
        },
    }
    for what in (WHOLE, PARTS, STAGES, PREPROCESS):
        if what.key in result.passes:
            part = result.passes[what.key]
            _disturbed(result, what, conditions.remark(len(part.windows), part.taints))


def _disturbed(result: Timing, what: Pass, remark: str) -> None:
    """Say which rounds of a pass were spoilt; where most were, all that follows is rough."""
    names = [f"{name}_ms" for name in what.names]
    if result.passes[what.key].rough:
        remark = f"{ROUGH}{remark}"
        names += [name for name in FOLLOW[what.key] if name in result.metrics]
    if remark:
        for name in names:
            _remark(result, name, [remark] if name not in result.absent else [])


def _remarks(result: Timing, subject: Prepared, config: LatencyConfig) -> None:
    """Say what must be known to read the latency."""
    details, remarks = result.details, []
    taken = len(result.samples["latency_ms"])
    if not details["steady"]:
        remarks.append(f"not steady after {details['warmup_seconds']:.1f} s of warm-up")
    if taken < config.min_samples:
        remarks.append(f"only {taken} samples fit into the time")
    if details.get("launch_bound"):
        remarks.append(f"launch-bound: the device idles {details['idle_share']:.0%} of the time")
    if not locks.PAUSES_WORK:
        remarks.append("training on the device was not paused: no fcntl on this platform")
    if not subject.trained:
        remarks.append(UNTRAINED)
        if subject.inside is None:
            _remark(result, "nms_ms", [UNTRAINED])
    _remark(result, "latency_ms", remarks)


def _remark(result: Timing, name: str, remarks: Sequence[str]) -> None:
    found = [*remarks, *filter(None, [result.caveats.get(name)])]
    if found:
        result.caveats[name] = "; ".join(found)
