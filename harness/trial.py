"""One trial: build, count, train, evaluate and time a detector, and write its record."""

from __future__ import annotations

import random
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
from detectors.interface import Detector
from harness import complexity, data, detections, environment, latency, locks, record, samples
from harness.data import DataError, DataSet
from harness.evaluate import Evaluation, evaluate
from harness.latency import Subject, Timing
from harness.progress import OnProgress, Progress, ignore
from harness.record import Failure, Record
from harness.specification import TrialSpec
from harness.train import NotFiniteError, train

LONG_PHASES = ("train", "evaluate", "latency")
METRICS = {
    "complexity": ("params", "macs", "flops", "params_deployed", "macs_deployed", "flops_deployed"),
    "accuracy": ("mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l"),
    "latency": (
        *("latency_ms", "latency_p95_ms", "latency_low_ms", "latency_high_ms", "network_ms"),
        *("backbone_ms", "neck_ms", "head_ms", "nms_ms", "latency_ratio", "latency_adjusted_ms"),
        *("latency_p99_ms", "reference_ratio", "roofline_fraction"),
    ),
}


@dataclass
class _Trial:
    """A trial under way."""

    spec: TrialSpec
    record: Record
    folder: Path
    device: str
    reference: Path | None
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
) -> Record:
    """Run one trial in this process; what goes wrong in it is a record, too.

    Args:
        spec: the trial.
        folder: where the record, the weights and the detections go.
        device: as torch spells it.
        reference: folder of the finished trial that latency is compared with; None for the first.
        share: number of trials that run at a time, and share the processor's cores.
        on_progress: called at every step of every phase.
    """
    threads = torch.get_num_threads()
    trial = _Trial(spec, _blank(spec), folder, device, reference, on_progress, threads)
    torch.set_num_threads(max(1, threads // share))
    folder.mkdir(parents=True, exist_ok=True)
    try:
        _seed(spec.seed)
        for phase, work in _phases(spec):
            with _timed(trial, phase), _beside_others(trial, phase):
                work(trial)
        trial.record.state = "done"
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


def _phases(spec: TrialSpec) -> Iterator[tuple[str, Callable[[_Trial], None]]]:
    yield "data", _open_data
    yield "build", _build
    if "complexity" in spec.measure:
        yield "complexity", _count
    if "accuracy" in spec.measure:
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


def _build(trial: _Trial) -> None:
    config = trial.spec.setup.detector
    trial.detector = detectors.create(config, weights=trial.spec.weights)


def _count(trial: _Trial) -> None:
    counted = complexity.count(trial.detector, trial.detector.config.input.size)
    trial.record.metrics |= counted.metrics
    trial.record.details["complexity"] = counted.details
    trial.record.absent |= counted.absent
    trial.record.caveats |= counted.caveats


def _train(trial: _Trial) -> None:
    recipe = trial.spec.recipe
    if recipe is None:
        raise ValueError("accuracy needs a recipe")
    best: dict[str, float] = {}

    def validate(detector: Detector) -> dict[str, float]:
        trial.evaluation = _judge(trial, detector, on_progress)
        metrics = trial.evaluation.metrics
        best["mAP"] = max(metrics.get("mAP", 0.0), best.get("mAP", 0.0))
        return metrics

    def show(progress: Progress) -> None:
        trial.on_progress(progress._replace(values={**progress.values, **best}))

    with sharing(trial.device, show) as on_progress:
        training = train(
            trial.detector,
            trial.dataset,
            recipe,
            seed=trial.spec.seed,
            device=trial.device,
            on_progress=on_progress,
            validate=validate,
        )
    trial.record.curves = training.curves
    _save_weights(trial)


def _save_weights(trial: _Trial) -> None:
    weights.save(trial.detector, trial.folder, trial.spec.detector)
    trial.record.artifacts |= {"weights": weights.WEIGHTS_FILE, "config": weights.CONFIG_FILE}


def _judge(trial: _Trial, detector: Detector, on_progress: OnProgress) -> Evaluation:
    workers = trial.spec.recipe.workers if trial.spec.recipe else 0
    split, device = trial.dataset.val, trial.device
    return evaluate(detector, split, device=device, workers=workers, on_progress=on_progress)


def _evaluate(trial: _Trial) -> None:
    """Keep the training's last validation, which saw the weights that are kept."""
    if trial.evaluation is None:
        with sharing(trial.device, trial.on_progress) as on_progress:
            trial.evaluation = _judge(trial, trial.detector, on_progress)
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
        _save_weights(trial)
    elif first is not None:
        subjects["reference"] = Subject(weights.load(trial.reference), "train" in first.timings)
    torch.set_num_threads(trial.all_threads)
    timings = latency.measure(
        subjects,
        trial.dataset.val,
        trial.spec.latency,
        device=trial.device,
        seed=trial.spec.seed,
        on_progress=trial.on_progress,
    )
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
