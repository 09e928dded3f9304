"""Settings of NMS against each other: the mAP and the time of each, from one pass of the network.

The network sees every validation image once; what any setting could need of its outputs is kept,
and each setting's mAP follows from that. Times are taken on the first images: in each round the
network runs on one of them, and then every setting on what came out, in an order drawn anew.
"""

from __future__ import annotations

import gc
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, NamedTuple

import numpy as np
from torch import nn

from detectors.config import KnobError
from detectors.config import override as turn
from detectors.interface import Detector
from harness.analysis.frontier import recommended
from harness.analysis.frontier.accuracy import (
    COCO_LIMITS,
    Setting,
    accuracies,
    detections,
    with_knobs,
)
from harness.analysis.frontier.cache import Cached, Needed, cache, total_bytes
from harness.analysis.frontier.recommended import Recommended
from harness.analysis.frontier.timing import Ready, Times, time_settings, undisturbed
from harness.config import knobs
from harness.config.frontier import FrontierConfig
from harness.config.latency import LatencyConfig
from harness.config.offers import offer
from harness.data import Split
from harness.machine import conditions, locks
from harness.machine.locks import sharing
from harness.machine.quiet import uncollected, with_threads
from harness.measure import runtimes
from harness.measure.inputs import read_inputs
from harness.measure.latency import statistics
from harness.measure.latency.subjects import Subject, distribution
from harness.measure.latency.timer import timer_for
from harness.measure.runtimes.torched import counter, in_float32
from harness.records import fronts
from harness.records.progress import OnProgress, ignore

NMS_GRID: dict[str, list[Any]] = {
    "score_threshold": [0.001, 0.01, 0.05, 0.1, 0.2, 0.3],
    "iou_threshold": [0.5, 0.6, 0.65, 0.7, 0.8],
    "max_candidates": [1000, 30000],
    "max_detections": [100, 300],
}
"""Holds the settings of RT-DETR, arXiv:2304.08069v3, table 1."""
QUERY_GRID: dict[str, list[Any]] = {
    "score_threshold": [0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5],
    "max_detections": [10, 20, 30, 50, 75, 100, 150, 200, 250, 300],
}
"""For detectors without suppression."""
WITHOUT_NMS = (
    "the detector needs no NMS: its settings are those of taking the best, and nms_ms is the time "
    "for that"
)
UNTRAINED = "untrained: the time for NMS depends on the scores, and both say nothing here"


class FrontierError(ValueError):
    """Settings that cannot be tried, or outputs that cannot be kept."""


class Plan(NamedTuple):
    """What is tried."""

    axes: dict[str, list[Any]]  # knob: its values
    settings: list[Setting]
    configured: int  # which of them the detector is configured with
    config: FrontierConfig


class Row(NamedTuple):
    """One setting."""

    setting: Setting
    configured: bool  # whether the detector is configured so
    optimal: bool  # no other setting is at least as good in mAP and latency, and better in one
    metrics: dict[str, float]
    """`mAP`, `mAP_50`, `mAP_75` in [0, 1]; `nms_ms`, median, milliseconds per image, and
    `latency_ms`, that and the network's, each with its 95 % interval, `_low_ms` and `_high_ms`."""
    counts: dict[str, dict[str, float]]
    """Boxes of the timed images: `candidates` that enter NMS, and `detections`."""


class Frontier(NamedTuple):
    """All settings of one detector."""

    rows: list[Row]
    network: dict[str, float]  # network_ms with its interval, from the same rounds
    details: dict[str, Any]
    absent: dict[str, str]
    caveats: dict[str, str]
    recommended: Recommended | None = None

    def plain(self) -> dict[str, Any]:
        """Return JSON values."""
        advice = self.recommended and self.recommended.plain()
        rows = [row._asdict() for row in self.rows]
        return {**self._asdict(), "rows": rows, "recommended": advice}


def plan(detector: Detector, changes: Mapping[str, Any]) -> Plan:
    """Cross the axes; the configured setting is always among the result.

    Args:
        detector: its postprocess stage has a `config`, a dataclass whose fields are the knobs.
        changes: a knob's values, instead of those of the default grid; or a knob of
            `FrontierConfig`.

    Raises:
        FrontierError: a knob that is none, a value that it cannot take, or nothing to try.
    """
    if hasattr(detector.postprocess, "inside"):
        raise FrontierError("the detector's NMS is inside its network: there is no setting to try")
    config = getattr(detector.postprocess, "config", None)
    names = [item.name for item in fields(config)] if is_dataclass(config) else []
    grid = NMS_GRID if "iou_threshold" in names else QUERY_GRID
    own = {name: value for name, value in changes.items() if name in FrontierConfig.model_fields}
    axes = {name: values for name, values in grid.items() if name in names}
    axes |= {name: _axis(name, changes[name], names) for name in changes if name not in own}
    if not axes:
        raise FrontierError("the detector's postprocess stage has no knob to try")
    configured = {name: getattr(config, name) for name in axes}
    tried = [dict(zip(axes, values, strict=True)) for values in itertools.product(*axes.values())]
    tried += [configured] if configured not in tried else []
    for name, values in axes.items():
        _check(config, name, values)
    settings = knobs.override(FrontierConfig(), own, "frontier")
    return Plan(axes, tried, tried.index(configured), settings)


def _axis(name: str, values: Any, known: list[str]) -> list[Any]:
    if name not in known:
        own = [*known, *FrontierConfig.model_fields]
        raise FrontierError(
            f"frontier.{name}: the postprocess stage has no such knob"
            f"{offer(f'frontier.{name}', [f'frontier.{each}' for each in own])}"
        )
    listed = list(values) if isinstance(values, list | tuple) else [values]
    if not listed or any(listed.count(value) > 1 for value in listed):
        raise FrontierError(f"frontier.{name}: expected a list of different values, got {values!r}")
    return listed


def _check(config: Any, name: str, values: Sequence[Any]) -> None:
    try:
        for value in values:
            turn(config, {name: value})
    except KnobError as error:
        raise FrontierError(f"frontier.{error}") from error


def measure(
    subject: Subject,
    split: Split,
    plan: Plan,
    latency: LatencyConfig,
    *,
    device: str,
    seed: int = 0,
    on_progress: OnProgress = ignore,
) -> Frontier:
    """Find the mAP and the time of every setting.

    Args:
        subject: the detector; it stays as it is.
        split: where the images come from.
        plan: what is tried.
        latency: `images`, `precision`, `channels_last` and `threads` are those of the measurement.
        device: as torch spells it.
        seed: of the order of settings in each round.
        on_progress: called after every batch of the network, every group of settings that share
            their suppression, and every round.

    Raises:
        FrontierError: the outputs take more memory than they may, or the runtime is not eager.
        RuntimeUnavailable: the device cannot compute at the precision.
    """
    if latency.runtime != "eager":
        raise FrontierError(
            f"latency.runtime: settings of NMS are tried in runtime eager, not {latency.runtime}"
        )
    stage, config = subject.detector.postprocess, subject.detector.config.input
    stages = [with_knobs(stage, setting) for setting in plan.settings]
    allowed = plan.config.gigabytes * 1e9
    with sharing(device, on_progress) as step:
        read = read_inputs(split, config, images=latency.images, batch_size=1)
        runtime = runtimes.prepare(subject.detector, read, latency.deployment(), device)
        assert runtime.detector is not None
        with runtime.active():
            kept = cache(runtime.detector, split, _needed(stages), allowed, step)
        scores = accuracies(stage, plan.settings, kept, split, step)
    gc.collect()
    with locks.measuring(device), with_threads(latency.threads), uncollected(), runtime.active():
        steps, counters = [in_float32(each) for each in stages], [counter(each) for each in stages]
        ready = Ready(runtime.network, steps, counters, runtime.inputs)
        timer = timer_for(device)
        with conditions.Sampler(device) as sampler:
            times = time_settings(ready, plan.config, timer, seed=seed, on_progress=on_progress)
    taints = conditions.taint(times.windows, sampler.samples)
    found = _summarise(plan, scores, undisturbed(times, taints), kept, subject.trained)
    return _advised(found, plan.config.within, stages, kept, split, trained=subject.trained)


def _needed(stages: Sequence[nn.Module]) -> Needed:
    """Say which predictions any of the stages could look at."""
    configs: list[Any] = [stage.config for stage in stages]
    limit = "max_candidates" if hasattr(configs[0], "max_candidates") else "max_detections"
    limits: list[Any] = [getattr(config, limit, None) for config in configs]
    return Needed(
        min(getattr(config, "score_threshold", 0.0) for config in configs),
        None if limits[0] is None else max(limits),
    )


def _summarise(
    plan: Plan,
    scores: Sequence[dict[str, float]],
    taken: tuple[Times, dict[str, Any]],
    kept: Sequence[Cached],
    trained: bool,
) -> Frontier:
    times, told = taken
    spoilt = {"conditions": told["remark"]} if told["remark"] else {}
    network = _median("network", times.network)
    metrics = [
        {**score, **_with_latency(network, _median("nms", nms))}
        for score, nms in zip(scores, times.nms, strict=True)
    ]
    flags = fronts.front([(-item["latency_ms"], item.get("mAP", 0.0)) for item in metrics])
    counted = zip(times.candidates, times.detections, strict=True)
    counts = [
        {"detections": distribution(after)}
        | ({"candidates": distribution(before)} if before else {})
        for before, after in counted
    ]
    rows = [
        Row(setting, index == plan.configured, flags[index], metrics[index], counts[index])
        for index, setting in enumerate(plan.settings)
    ]
    details = {
        "axes": plan.axes,
        "rounds": len(times.network),
        "conditions": told,
        "seconds": times.seconds,
        "nms_seconds": sum(map(sum, times.nms)) / 1e3,
        "images": len(kept),
        "cached_bytes": total_bytes(kept),
        "max_detections": COCO_LIMITS,
    }
    absent = {} if "mAP" in metrics[0] else {"mAP": "the validation split has no object"}
    return Frontier(rows, network, details, absent, caveats(plan, trained) | spoilt)


def _advised(
    found: Frontier,
    within: float,
    stages: Sequence[nn.Module],
    kept: Sequence[Cached],
    split: Split,
    *,
    trained: bool,
) -> Frontier:
    """Add the setting to deploy, or why there is none."""
    metrics = [row.metrics for row in found.rows]
    reason = recommended.why_none(metrics, trained=trained)
    if reason:
        return found._replace(absent={**found.absent, "recommended": reason})
    choice = recommended.choose(metrics, within)
    stage: Any = stages[choice.place]
    configured = next(row.metrics for row in found.rows if row.configured)
    advice = recommended.recommend(
        choice,
        found.rows[choice.place].setting,
        (metrics[choice.place], configured),
        getattr(stage.config, "score_threshold", 0.0),
        split.ground_truth(),
        detections(stage, kept, split),
    )
    return found._replace(recommended=advice)


def caveats(plan: Plan, trained: bool) -> dict[str, str]:
    """Say what must be known to read the figures of a detector."""
    found = {} if "iou_threshold" in plan.axes else {"settings": WITHOUT_NMS}
    return found if trained else {**found, "nms_ms": UNTRAINED, "mAP": UNTRAINED}


def _median(name: str, samples: Sequence[float]) -> dict[str, float]:
    """Return the median, with its interval where the samples suffice for one."""
    found = {f"{name}_ms": float(np.median(samples))}
    interval = statistics.median_interval(samples)
    if interval is not None:
        found |= {f"{name}_low_ms": interval.low, f"{name}_high_ms": interval.high}
    return found


def _with_latency(network: Mapping[str, float], nms: Mapping[str, float]) -> dict[str, float]:
    """Add the network's time to that of NMS, end by end, which makes the interval wider, if any."""
    whole = {
        f"latency{end}_ms": network[f"network{end}_ms"] + nms[f"nms{end}_ms"]
        for end in ("", "_low", "_high")
        if f"network{end}_ms" in network and f"nms{end}_ms" in nms
    }
    return {**nms, **whole}
