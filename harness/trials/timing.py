"""The latency of a trial: in turns with its reference, and in short before training."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import torch

from detectors import weights
from harness import adapters
from harness.adapters import folders
from harness.config.latency import LatencyConfig
from harness.machine import arithmetic, locks
from harness.measure import latency
from harness.measure.latency import Subject, Timing, samples, session, statistics
from harness.records import Record, latencies, record
from harness.trials.reuse import NO_REFERENCE
from harness.trials.state import Trial

SECONDS_TO_WRITE = 3.0  # for another trial that lets go of the device, until its record stands
CHEAP_SECONDS = 2.0  # for the calls of an untrained network, and as much at most to warm it up


def measure(trial: Trial) -> None:
    """Time the detector, taking turns with the reference where there is one."""
    trial.reference = trial.reference or _late_reference(trial)
    macs = trial.record.metrics.get("macs_deployed")
    learnt = trial.spec.trains or is_trained(trial.record)
    subjects = {"trial": Subject(trial.detector, learnt, macs)}
    first = _comparable(trial)
    if trial.reference is None:
        keep_weights(trial)
    elif first is not None:
        loaded = folders.load(trial.reference, trusted=trial.spec.trusted)
        subjects["reference"] = Subject(loaded, is_trained(first))
    timings = _measure(trial, subjects, trial.spec.latency)
    own = timings["trial"]
    trial.record.metrics |= own.metrics
    end_to_end = ("latency_ms", "latency_device_ms")
    trial.record.samples |= {key: own.samples[key] for key in end_to_end if key in own.samples}
    if own.passes:
        trial.record.artifacts["samples"] = samples.write(timings, trial.folder).name
    trial.record.details["latency"] = own.details
    trial.record.absent |= own.absent
    trial.record.caveats |= own.caveats
    told = arithmetic.warning("latency.precision", trial.spec.latency.precision, trial.device)
    if told is not None and "latency_ms" in own.metrics:
        known = own.caveats.get("latency_ms")
        trial.record.caveats["latency_ms"] = "; ".join(filter(None, (known, told)))
    if first is not None:
        _compare(trial, first, own, timings["reference"])


def _late_reference(trial: Trial) -> Path | None:
    """Return the trial that was done first since this one began, if there is one."""
    with locks.measuring(trial.device) as waited:
        pass
    until = time.monotonic() + (SECONDS_TO_WRITE if waited > 0.1 else 0.0)
    while (found := trial.find_reference()) is None and time.monotonic() < until:
        time.sleep(0.05)
    return found


def _measure(
    trial: Trial, subjects: dict[str, Subject], config: LatencyConfig
) -> dict[str, Timing]:
    """Time detectors, with all threads, since nothing else runs on the device meanwhile."""
    before = torch.get_num_threads()
    torch.set_num_threads(trial.all_threads)
    try:
        return latency.measure(
            subjects,
            trial.dataset.val,
            config,
            device=trial.device,
            seed=trial.spec.seed,
            on_progress=trial.on_progress,
        )
    finally:
        torch.set_num_threads(before)


def _comparable(trial: Trial) -> Record | None:
    """Return the record of the reference; None, and the reason in the record, if there is none."""
    first = None if trial.reference is None else record.read(trial.reference)
    if first is None:
        reason = NO_REFERENCE
    elif "latency_ms" not in first.metrics:
        first, reason = None, "the first trial has no latency"
    elif _latency_knobs(first) != _latency_knobs(trial.record):
        first, reason = None, "timed with other knobs than the first trial"
    elif _is_of_strange_code(trial):
        first, reason = None, "the first trial is of another detector, whose code is not run here"
    else:
        return first
    trial.record.absent |= dict.fromkeys(("latency_ratio", "latency_adjusted_ms"), reason)
    return first


def _is_of_strange_code(trial: Trial) -> bool:
    """Say whether the reference's weights name a detector that this study does not."""
    assert trial.reference is not None
    return not adapters.is_trusted(weights.saved_name(trial.reference), trial.spec.trusted)


def is_trained(result: Record) -> bool:
    """Say whether a trial's detector has learnt anything."""
    if "training" in result.details or "train" in result.timings:
        return True
    start = result.details.get("start")
    return start is not None and start.get("fresh_parameters") == 0


def _latency_knobs(result: Record) -> Any:
    return result.protocol.get("latency")


def _compare(trial: Trial, first: Record, own: Timing, reference: Timing) -> None:
    """Record the ratio to the reference's latency, its interval, and the reference's samples."""
    untimed = [item.absent["latency_ms"] for item in (own, reference) if not item.passes]
    if untimed:
        names = ("latency_ratio", "latency_adjusted_ms")
        trial.record.absent |= dict.fromkeys(names, untimed[0])
        return
    found = latency.ratio(own, reference)
    base, rough = first.metrics["latency_ms"], latencies.rough(first)
    if rough is not None:
        reason = f"the latency of the first trial is rough: {rough}"
        trial.record.absent["latency_adjusted_ms"] = reason
    for end, value in (("", found.ratio), ("_low", found.low), ("_high", found.high)):
        trial.record.metrics[f"latency_ratio{end}"] = value
        if rough is None:
            trial.record.metrics[f"latency_adjusted{end}_ms"] = base * value
    trial.record.samples["reference_latency_ms"] = reference.samples["latency_ms"]
    trial.record.details["reference"] = first.trial


def bound(trial: Trial) -> dict[str, float]:
    """Time the network before it has learnt anything, as `latency_ms` what it cannot be below.

    How long postprocessing takes depends on the scores, so that nothing is said about it; the
    network does the same work whatever its weights are. The bound is the low end of the network's
    interval, so that noise does not rule a variant out.
    """
    given = trial.spec.latency
    limits = {"seconds": CHEAP_SECONDS, "warmup_seconds": CHEAP_SECONDS}
    brief = {name: min(limit, getattr(given, name)) for name, limit in limits.items()}
    config = given.model_copy(update=brief | {"reference": False, "preprocess": False})
    subjects = {"trial": Subject(trial.detector, False, None)}
    timing = _measure(trial, subjects, config)["trial"]
    parts = timing.passes.get(session.PARTS.key)
    if parts is not None and parts.rough:
        return {}  # others may have slowed it: a bound too high would rule out what is fast enough
    names = ("network_ms", "backbone_ms", "neck_ms", "head_ms")
    found = {name: timing.metrics[name] for name in names if name in timing.metrics}
    if "network_ms" in found:
        series = timing.passes[session.PARTS.key].series("network_ms")
        interval = statistics.median_interval(series)
        found["latency_ms"] = interval.low if interval else min(series)
    return found


def keep_weights(trial: Trial) -> None:
    """Let others be timed against this trial, even one that has learnt nothing."""
    if "weights" not in trial.record.artifacts:
        spec = trial.spec
        weights.save(trial.detector, trial.folder, spec.detector, spec.classes)
        name_weights(trial)


def name_weights(trial: Trial) -> None:
    """Say in the record that the weights lie beside it."""
    trial.record.artifacts |= {"weights": weights.WEIGHTS_FILE, "config": weights.CONFIG_FILE}
