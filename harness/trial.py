"""One trial: build, count, train, evaluate and time a detector, and write its record."""

from __future__ import annotations

import random
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

import detectors
from detectors import weights
from detectors.config import canonical
from detectors.interface import Detector
from harness import (
    complexity,
    data,
    detections,
    environment,
    latency,
    locks,
    record,
    reuse,
    samples,
    session,
    statistics,
    trainings,
)
from harness.data import DataError, DataSet
from harness.evaluate import Evaluation
from harness.latency import LatencyConfig, Subject, Timing
from harness.learn import Learner, Stopped, validated_with
from harness.progress import Judge, OnProgress, Progress, ignore
from harness.record import METRICS, Failure, Record
from harness.specification import TrialSpec
from harness.train import NotFiniteError
from harness.trainings import Story

LONG_PHASES = ("cheap", "train", "evaluate", "latency")
CHEAP_SECONDS = 2.0  # for the calls of an untrained network, and as much at most to warm it up
UNTRAINED = "of the untrained network, timed briefly"


@dataclass
class _Trial:
    """A trial under way."""

    spec: TrialSpec
    record: Record
    folder: Path
    device: str
    reference: Path | None
    shelf: Path
    shared: bool  # whether the shelf is that of a folder of studies
    judge: Judge | None
    on_progress: OnProgress
    all_threads: int  # for latency, which is alone on the device
    phase: str = "data"
    dataset: DataSet = field(init=False)
    detector: Detector = field(init=False)
    evaluation: Evaluation | None = None


def run(
    spec: TrialSpec,
    folder: Path,
    *,
    device: str = "cpu",
    reference: Path | None = None,
    share: int = 1,
    on_progress: OnProgress = ignore,
    shelf: Path | None = None,
    judge: Judge | None = None,
) -> Record:
    """Run one trial in this process; what goes wrong in it is a record, too.

    Args:
        spec: the trial.
        folder: where the record, the weights and the detections go.
        device: as torch spells it.
        reference: folder of the finished trial that latency is compared with; None for the first.
        share: number of trials that run at a time, and share the processor's cores.
        on_progress: called at every step of every phase.
        shelf: where trainings stand that trials share; its folder holds the studies whose results
            are taken over where they are the same. None for a shelf of the trial's own, which is
            gone once the trial is done.
        judge: may give the trial up before and during training; None never does.
    """
    threads, own = torch.get_num_threads(), folder / trainings.SHELF
    trial = _Trial(
        spec=spec,
        record=_blank(spec),
        folder=folder,
        device=device,
        reference=reference,
        shelf=shelf or own,
        shared=shelf is not None,
        judge=judge,
        on_progress=on_progress,
        all_threads=threads,
    )
    torch.set_num_threads(max(1, threads // share))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _seed(spec.seed)
        for phase, work in _phases(trial):
            with _timed(trial, phase), _beside_others(trial, phase):
                work(trial)
        trial.record.state = "done"
        shutil.rmtree(own, ignore_errors=True)
    except Stopped as stop:
        trial.record.state, trial.record.stopped = "pruned", str(stop)
    except Exception as error:  # whatever a trial runs into, the study goes on
        trial.record.failure = _failure(error, trial.phase)
    torch.set_num_threads(threads)
    _close(trial)
    trial.record.write(folder)
    return trial.record


def blank_failure(spec: TrialSpec, failure: Failure, started: float) -> Record:
    """Return the record of a trial whose process left none."""
    result = _blank(spec)
    result.failure = failure
    result.timings = {"started": started, "finished": time.time()}
    result.absent = _reasons(spec, result)
    return result


def _phases(trial: _Trial) -> Iterator[tuple[str, Callable[[_Trial], None]]]:
    spec, reused = trial.spec, trial.record.details
    yield "data", _open_data
    if "reused" in reused and ("latency" not in spec.measure or reused["reused"]["latency"]):
        return
    yield "build", _build
    if "complexity" in spec.measure and "reused" not in reused:
        yield "complexity", _count
    if "accuracy" in spec.measure and "reused" not in reused:
        if trial.judge is not None:
            yield "cheap", _judge_cheaply
        yield "train", _train
        yield "evaluate", _evaluate
    if "latency" in spec.measure:
        yield "latency", _time


def _blank(spec: TrialSpec) -> Record:
    return Record(
        study=spec.study,
        trial=spec.trial,
        name=spec.name,
        detector=spec.detector,
        overrides=spec.overrides,
        config=spec.config,
        seed=spec.seed,
        state="failed",
        protocol=spec.protocol,
        protocol_hash=spec.protocol_hash,
        data=spec.dataset,
        timings={"started": time.time()},
    )


def _beside_others(trial: _Trial, phase: str) -> AbstractContextManager[None]:
    """Keep a short phase from disturbing a measurement; a long one sees to that at every step."""
    return nullcontext() if phase in LONG_PHASES else locks.working(trial.device)


@contextmanager
def _timed(trial: _Trial, phase: str) -> Iterator[None]:
    trial.phase = phase
    trial.on_progress(Progress(phase, 0, 1, {}))
    start = time.perf_counter()
    try:
        yield
    finally:
        trial.record.timings[phase] = time.perf_counter() - start


def _seed(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def _open_data(trial: _Trial) -> None:
    trial.record.environment = environment.capture(trial.device)
    trial.dataset = data.load(trial.spec.data)
    planned = trial.spec.dataset["fingerprint"]
    if trial.dataset.fingerprint != planned:
        raise DataError(
            f"data set {trial.dataset.name} changed since the study was started: fingerprint "
            f"{trial.dataset.fingerprint}, planned {planned}; run the study again"
        )
    out = trial.shelf.parent
    earlier = reuse.find(trial.spec, out, trial.record.environment) if trial.shared else None
    if earlier is not None:
        reuse.adopt(earlier, trial.record, trial.folder, trial.reference)


def _build(trial: _Trial) -> None:
    config = trial.spec.setup.detector
    known = trial.folder if "weights" in trial.record.artifacts else trial.spec.weights
    trial.detector = detectors.create(config, weights=known).eval()


def _count(trial: _Trial) -> None:
    counted = complexity.count(trial.detector, trial.detector.config.input.size)
    trial.record.metrics |= counted.metrics
    trial.record.details["complexity"] = counted.details
    trial.record.absent |= counted.absent
    trial.record.caveats |= counted.caveats


def _judge_cheaply(trial: _Trial) -> None:
    """Ask the judge before anything is trained: about counts, then about time where it matters."""
    known = dict(trial.record.metrics)
    _ask(trial, known)
    if trial.spec.cheap_latency:
        timed = _time_untrained(trial)
        try:
            _ask(trial, known | timed)
        except Stopped:
            timed.pop("latency_ms", None)
            trial.record.metrics |= timed
            trial.record.caveats |= dict.fromkeys(timed, UNTRAINED)
            raise


def _ask(trial: _Trial, metrics: dict[str, float]) -> None:
    assert trial.judge is not None
    reason = trial.judge("cheap", metrics, [])
    if reason is not None:
        raise Stopped(reason)


def _time_untrained(trial: _Trial) -> dict[str, float]:
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
    names = ("network_ms", "backbone_ms", "neck_ms", "head_ms")
    found = {name: timing.metrics[name] for name in names if name in timing.metrics}
    if "network_ms" in found:
        series = timing.passes[session.PARTS.key].series("network_ms")
        interval = statistics.median_interval(series)
        found["latency_ms"] = interval.low if interval else min(series)
    return found


def _train(trial: _Trial) -> None:
    """Take the weights from the shelf, or train them and put them there."""
    spec = trial.spec
    learner = Learner(
        spec,
        trial.dataset,
        trial.device,
        trial.on_progress,
        judge=trial.judge,
        measured=trial.record.metrics,
        environment=trial.record.environment,
    )

    def make(folder: Path) -> Story:
        _seed(spec.seed)
        with sharing(trial.device, trial.on_progress) as learner.on_progress:
            return learner.learn(folder)

    def wait() -> None:
        trial.on_progress(Progress("wait", 0, 1, {}))

    stored = trainings.obtain(trial.shelf, spec.training, make, wait)
    weights.fill(trial.detector, stored.folder)
    trial.detector.eval()
    if canonical(spec.setup.detector) == spec.setup.detector:
        trial.evaluation = learner.evaluation
    trial.record.curves = stored.story.curves
    trial.record.details["training"] = {
        **stored.story.model_dump(include={"training", "made_by", "seconds", "details"}),
        "validated_with": validated_with(spec),
    }
    trainings.share(stored, trial.folder)
    weights.save_config(trial.detector.config, trial.folder, spec.detector)
    _name_weights(trial)


def _keep_weights(trial: _Trial) -> None:
    """Let others be timed against this trial, even one that has learnt nothing."""
    if "weights" not in trial.record.artifacts:
        weights.save(trial.detector, trial.folder, trial.spec.detector)
        _name_weights(trial)


def _name_weights(trial: _Trial) -> None:
    trial.record.artifacts |= {"weights": weights.WEIGHTS_FILE, "config": weights.CONFIG_FILE}


def _evaluate(trial: _Trial) -> None:
    """Keep the training's last validation, if it was made with the trial's own knobs."""
    if trial.evaluation is None:
        with sharing(trial.device, trial.on_progress) as on_progress:
            learner = Learner(trial.spec, trial.dataset, trial.device, on_progress)
            trial.evaluation = learner.look(trial.detector)
    trial.record.metrics |= trial.evaluation.metrics
    trial.record.details["accuracy"] = trial.evaluation.details
    stored = detections.write(trial.evaluation.detections, trial.folder)
    trial.record.artifacts["detections"] = stored.name


def _time(trial: _Trial) -> None:
    """Time the detector, taking turns with the reference where there is one."""
    macs = trial.record.metrics.get("macs_deployed")
    subjects = {"trial": Subject(trial.detector, "accuracy" in trial.spec.measure, macs)}
    first = _comparable(trial)
    if trial.reference is None:
        _keep_weights(trial)
    elif first is not None:
        subjects["reference"] = Subject(weights.load(trial.reference), _is_trained(first))
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
    if first is not None:
        _compare(trial, first, own, timings["reference"])


def _measure(
    trial: _Trial, subjects: dict[str, Subject], config: LatencyConfig
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


def _comparable(trial: _Trial) -> Record | None:
    """Return the record of the reference; None, and the reason in the record, if there is none."""
    first = None if trial.reference is None else record.read(trial.reference)
    if first is None:
        reason = "timed before any other trial was finished"
    elif "latency_ms" not in first.metrics:
        first, reason = None, "the first trial has no latency"
    elif _latency_knobs(first) != _latency_knobs(trial.record):
        first, reason = None, "timed with other knobs than the first trial"
    else:
        return first
    trial.record.absent |= dict.fromkeys(("latency_ratio", "latency_adjusted_ms"), reason)
    return first


def _is_trained(result: Record) -> bool:
    return "training" in result.details or "train" in result.timings


def _latency_knobs(result: Record) -> dict[str, Any]:
    return {path: value for path, value in result.config.items() if path.startswith("latency.")}


@contextmanager
def sharing(device: str, on_progress: OnProgress) -> Iterator[OnProgress]:
    """Work on a device, and let a measurement go first between any two steps.

    Yields:
        What to call at every step.
    """
    with ExitStack() as held:
        held.enter_context(locks.working(device))

        def step(progress: Progress) -> None:
            held.close()
            held.enter_context(locks.working(device))
            on_progress(progress)

        yield step


def _close(trial: _Trial) -> None:
    """Say what is missing and why, and when the trial ended."""
    result = trial.record
    result.absent = {
        name: reason
        for name, reason in {**_reasons(trial.spec, result), **result.absent}.items()
        if name not in result.metrics
    }
    result.timings["finished"] = time.time()


def _reasons(spec: TrialSpec, result: Record) -> dict[str, str]:
    reasons = {}
    for group, names in METRICS.items():
        for name in names:
            if group not in spec.measure:
                reasons[name] = f"the study does not measure {group}"
            elif result.failure is not None:
                reasons[name] = f"the trial failed before: {result.failure.cause}"
            elif result.stopped is not None:
                reasons[name] = f"the trial was given up: {result.stopped}"
            elif group == "accuracy":
                reasons[name] = "the validation split has no object of that size"
            else:
                reasons[name] = "not measured"
    return {name: reason for name, reason in reasons.items() if name not in result.metrics}


def _failure(error: Exception, phase: str) -> Failure:
    message = " ".join(str(error).split()) or type(error).__name__
    details = "".join(traceback.format_exception(error))
    return Failure(cause=_cause(error), message=f"{phase}: {message}", details=details)


def _cause(error: Exception) -> str:
    """Name the kind of failure; torch's CPU allocator has no exception class of its own."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return "out_of_memory"
    if isinstance(error, RuntimeError) and "not enough memory" in str(error):
        return "out_of_memory"
    if isinstance(error, NotFiniteError):
        return "not_finite"
    return "data" if isinstance(error, DataError) else "error"


def _compare(trial: _Trial, first: Record, own: Timing, reference: Timing) -> None:
    """Record the ratio to the reference's latency, its interval, and the reference's samples."""
    untimed = [item.absent["latency_ms"] for item in (own, reference) if not item.passes]
    if untimed:
        names = ("latency_ratio", "latency_adjusted_ms")
        trial.record.absent |= dict.fromkeys(names, untimed[0])
        return
    found = latency.ratio(own, reference)
    base = first.metrics["latency_ms"]
    for end, value in (("", found.ratio), ("_low", found.low), ("_high", found.high)):
        trial.record.metrics[f"latency_ratio{end}"] = value
        trial.record.metrics[f"latency_adjusted{end}_ms"] = base * value
    trial.record.samples["reference_latency_ms"] = reference.samples["latency_ms"]
    trial.record.details["reference"] = first.trial
