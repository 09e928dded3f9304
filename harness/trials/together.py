"""A study's finished trials, timed once more and together: in rounds in which they take turns.

Each trial is timed by itself as it ends, hours apart from others perhaps, on a machine that was
never twice the same. What is ranked are times of the same moments: those of the shared rounds.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from detectors.config import override
from detectors.interface import Detector
from harness import adapters, data
from harness.adapters import folders
from harness.config import knobs
from harness.config.data import DataConfig, DataError
from harness.config.latency import LatencyConfig
from harness.machine import environment
from harness.measure import latency
from harness.measure.latency import Subject, Timing, samples
from harness.measure.latency.session import WHOLE
from harness.records import Record, RecordError, digest, latencies, record
from harness.records.progress import OnProgress
from harness.records.turns import Ratio
from harness.study import Study
from harness.trials.timing import is_trained

AT_A_TIME = 8  # trials whose weights lie in memory together, that of the reference included
WARMUP_SHARE = 0.25  # of the time for a trial's calls; each was warmed up before, alone
BLOCK = 4  # calls in a row, so that rounds are many, and few calls are spent where each takes long
MOST_SECONDS = 300.0  # for the calls of all trials; of many, each gets less
LEAST_SECONDS = 0.2  # for a trial's calls
FEWEST_CALLS = 60  # of each trial before its ratio may be called known: 15 rounds
ROOTS = ("latency.", "data.")  # of the knobs that say how and on what is timed
ALONE, SAMPLES, SAMPLES_ALONE = "alone", "samples", "samples_alone"
ASIDE = ("energy", "coverage", "workload", "limits", "roofline")  # details of what stays
RAW = ("latency_ms", "latency_device_ms")  # samples that a record keeps


class NotTimedError(Exception):
    """Trials that cannot be timed together; in one line, why."""


class Group(NamedTuple):
    """Finished trials that can be timed together: of one machine, one protocol and one data set."""

    trials: list[Record]  # the others are compared with the first
    latency: LatencyConfig
    data: DataConfig
    trusted: tuple[str, ...]  # detectors that the study names


class Renewed(NamedTuple):
    """What came of a trial."""

    before: Record
    record: Record
    timings: dict[str, Timing]  # to be kept beside the record


def share_rounds(trials: Sequence[Record]) -> bool:
    """Say whether trials were timed together already, all of them in the same rounds."""
    found = [item.details.get("together", {}) for item in trials]
    sessions = {latencies.session(item) for item in trials}
    whole = found[0].get("reference") in {item.trial for item in trials}
    return len(sessions) == 1 and None not in sessions and whole


def groups(study: Study, records: Iterable[Record], folder: Path, device: str) -> list[Group]:
    """Return the finished trials that can be timed on a device, by what makes them comparable.

    Args:
        study: that the records are of.
        records: in the order of the trials.
        folder: of the study's records.
        device: as torch spells it.
    """
    here = environment.identity(environment.capture(device))
    found: dict[str, Group] = {}
    for item in records:
        trusted = adapters.is_trusted(item.detector, study.detectors)
        is_here = environment.identity(item.environment) == here
        if not (trusted and is_here and _can_be_timed(item, folder)):
            continue
        turned = {path: value for path, value in item.overrides.items() if path.startswith(ROOTS)}
        setup = knobs.turn(study.setup(), turned)
        if item.protocol.get("latency") == setup.latency.of_result():
            key = digest([item.protocol["latency"], item.data.get("fingerprint")])
            group = found.setdefault(key, Group([], setup.latency, setup.data, study.detectors))
            group.trials.append(item)
    return list(found.values())


def _can_be_timed(item: Record, folder: Path) -> bool:
    if item.state != "done" or "latency_ms" not in item.metrics:
        return False
    stored = item.artifacts.get("weights")
    if stored is None:
        return not is_trained(item)
    return (folder / item.trial / stored).is_file()


def measure(group: Group, folder: Path, device: str, on_progress: OnProgress) -> list[Renewed]:
    """Time trials together; nothing is written.

    The first trial is in every round. What is said of another is its ratio to the first, taken in
    turns, times the median of the first over all rounds: trials that were not in memory at the
    same time are comparable, too.

    Raises:
        NotTimedError: a trial's detector does not pass what it passed before.
        DataError: the data set cannot be used, or is another than the trials were run with.
        RuntimeUnavailable: the runtime cannot be used any more.
        WeightsError: a trial's weights cannot be used.
    """
    began, first = time.perf_counter(), group.trials[0]
    config, split = brief(group.latency, len(group.trials)), _split(group)
    turns: list[dict[str, Timing]] = []
    for batch in _batches(group.trials):
        subjects = {item.trial: _subject(folder, item, group) for item in batch}
        timings = latency.measure(
            subjects,
            split,
            config,
            device=device,
            seed=first.seed + len(turns),
            against=first.trial,
            on_progress=on_progress,
        )
        _check(timings)
        turns.append(timings)
    facts = {
        "session": uuid.uuid4().hex[:12],
        "trials": [item.trial for item in group.trials],
        "reference": first.trial,
        "finished": time.time(),
        "seconds": time.perf_counter() - began,
    }
    return _renew(group.trials, turns, facts)


def brief(given: LatencyConfig, trials: int) -> LatencyConfig:
    """Return how trials are timed together: as alone, but in less time, without the workload.

    Args:
        given: how they were timed alone.
        trials: their number.
    """
    usual: float = LatencyConfig.model_fields["together_seconds"].default
    wanted = given.together_seconds or usual
    seconds = min(wanted, given.seconds, max(MOST_SECONDS / trials, LEAST_SECONDS))
    warmup = min(given.warmup_seconds, WARMUP_SHARE * seconds)
    changes = {"seconds": seconds, "warmup_seconds": warmup, "block": min(BLOCK, given.block)}
    changes |= {"min_samples": min(FEWEST_CALLS, given.min_samples)}
    return given.model_copy(update=changes | {"reference": False})


def _batches(trials: Sequence[Record]) -> list[list[Record]]:
    """Share trials out among measurements that all have the first trial in them."""
    first, others = trials[0], trials[1:]
    size = AT_A_TIME - 1
    starts = range(0, max(len(others), 1), size)
    return [[first, *others[start : start + size]] for start in starts]


def _split(group: Group) -> data.Split:
    found, wanted = data.load(group.data), group.trials[0].data.get("fingerprint")
    if found.fingerprint != wanted:
        raise DataError(
            f"data set {found.name} has fingerprint {found.fingerprint}, and the trials were run"
            f" with {wanted}"
        )
    return found.val


def _subject(folder: Path, item: Record, group: Group) -> Subject:
    if "weights" in item.artifacts:
        detector = folders.load(folder / item.trial, trusted=group.trusted)
    else:
        detector = _untrained(item)
    return Subject(detector, is_trained(item), item.metrics.get("macs_deployed"))


def _untrained(item: Record) -> Detector:
    """Build the detector of a trial that trained nothing, as its seed makes it."""
    of_detector = ((path.partition("."), value) for path, value in item.config.items())
    flat = {name: value for (root, _, name), value in of_detector if root == "detector"}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(item.seed)
        built: Detector = override(adapters.resolve(item.detector), flat).build().eval()
    return built


def _check(timings: Mapping[str, Timing]) -> None:
    for trial, timing in timings.items():
        if not timing.passes:
            raise NotTimedError(f"trial {trial}: {timing.absent['latency_ms']}")


def _renew(
    trials: Sequence[Record], turns: Sequence[Mapping[str, Timing]], facts: Mapping[str, Any]
) -> list[Renewed]:
    """Make the records anew."""
    first = trials[0].trial
    series = (timings[first].passes[WHOLE.key].series("latency_ms") for timings in turns)
    reference_ms = float(np.median([*chain.from_iterable(series)]))
    rough = _mostly_disturbed([timings[first] for timings in turns])
    of_trial = {name: timings for timings in reversed(turns) for name in timings}
    made = []
    for item in trials:
        timings = of_trial[item.trial]
        own, beside = timings[item.trial], timings[first]
        ratio = None if item.trial == first else latency.ratio(own, beside)
        scale = (ratio.ratio if ratio else 1.0) * reference_ms / own.metrics["latency_ms"]
        result = item.model_copy(deep=True)
        _set_aside(result)
        _take(result, own, scale, facts)
        _compare(result, ratio, first)
        if ratio is not None:
            result.samples["reference_latency_ms"] = beside.samples["latency_ms"]
        if rough and latencies.rough(result) is None:
            _call_rough(result)
        kept = {"trial": own, "reference": beside} if ratio else {"trial": own}
        made.append(Renewed(item, result, kept))
    return made


def _mostly_disturbed(timings: Sequence[Timing]) -> bool:
    """Say whether most of a trial's rounds were, over several measurements."""
    passes = [timing.passes[WHOLE.key] for timing in timings]
    disturbed = sum(len({taint.window for taint in part.taints}) for part in passes)
    return disturbed * 2 > sum(len(part.windows) for part in passes)


def _is_timed(name: str) -> bool:
    """Say whether a metric is of those that shared rounds give anew: times, and their ratios."""
    return latencies.is_time(name) or name.startswith("latency_ratio")


def _set_aside(result: Record) -> None:
    """Take the times out of a record; those that it was first timed with become a detail."""
    parts = {name: getattr(result, name) for name in ("metrics", "absent", "caveats")}
    timed = {
        part: {name: value for name, value in values.items() if _is_timed(name)}
        for part, values in parts.items()
    }
    for part, values in timed.items():
        for name in values:
            del parts[part][name]
    details = result.details
    told = {name: details[name] for name in ("latency", "reference") if name in details}
    details.pop("reference", None)
    if ALONE not in details:
        details[ALONE] = timed | told
        if SAMPLES in result.artifacts:
            result.artifacts[SAMPLES_ALONE] = result.artifacts[SAMPLES]
    for name in (*RAW, "reference_latency_ms"):
        result.samples.pop(name, None)


def _take(result: Record, own: Timing, scale: float, facts: Mapping[str, Any]) -> None:
    """Enter what the shared rounds say of a trial; all of its times are scaled alike."""
    result.metrics |= {n: value * scale for n, value in own.metrics.items() if _is_timed(n)}
    result.absent |= {name: why for name, why in own.absent.items() if _is_timed(name)}
    result.caveats |= {name: why for name, why in own.caveats.items() if _is_timed(name)}
    for end in ("", "_low", "_high"):  # free of drift already
        name, adjusted = f"latency{end}_ms", f"latency_adjusted{end}_ms"
        if name in result.metrics:
            result.metrics[adjusted] = result.metrics[name]
        if latencies.reason(result.caveats.get(name, "")) is not None:
            result.caveats[adjusted] = result.caveats[name]
    result.samples |= {name: own.samples[name] for name in RAW if name in own.samples}
    before = result.details.get("latency", {})
    kept = {name: before[name] for name in ASIDE if name in before}
    result.details["latency"] = kept | own.details
    result.details["together"] = {**facts, "scale": scale}
    result.artifacts[SAMPLES] = f"samples-{facts['session']}.npz"


def _compare(result: Record, ratio: Ratio | None, first: str) -> None:
    """Enter the ratio to the first trial."""
    if ratio is None:
        result.absent["latency_ratio"] = "the others are compared with this trial"
        return
    for end, value in (("", ratio.ratio), ("_low", ratio.low), ("_high", ratio.high)):
        result.metrics[f"latency_ratio{end}"] = value
    result.details["reference"] = first


def _call_rough(result: Record) -> None:
    """Say of all times that they hang on a reference that was disturbed."""
    reason = f"{latencies.ROUGH}most rounds of the reference were disturbed"
    for name in filter(latencies.is_time, result.metrics):
        result.caveats[name] = "; ".join(filter(None, (reason, result.caveats.get(name))))


def write(made: Sequence[Renewed], folder: Path) -> list[Record]:
    """Put new records in the place of the old ones, each whole, the samples before them.

    A record that was changed meanwhile by somebody else stays as it is.

    Args:
        made: from `measure`.
        folder: of the study's records.

    Returns:
        The records that were written.
    """
    ready = [item for item in made if _is_unchanged(item.before, folder)]
    for item in ready:
        samples.write(item.timings, folder / item.record.trial, item.record.artifacts[SAMPLES])
    for item in ready:
        item.record.write(folder / item.record.trial)
    for item in ready:
        _sweep(folder / item.record.trial, item.record)
    return [item.record for item in ready]


def _is_unchanged(before: Record, folder: Path) -> bool:
    try:
        return record.read(folder / before.trial).to_json() == before.to_json()
    except (OSError, RecordError):
        return False


def _sweep(folder: Path, result: Record) -> None:
    """Remove the samples of shared rounds that no record speaks of any more."""
    for file in folder.glob("samples-*.npz"):
        if file.name not in result.artifacts.values():
            file.unlink(missing_ok=True)
