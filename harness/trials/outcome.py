"""How a trial ends: the record it starts from, why a metric is missing, and what went wrong."""

from __future__ import annotations

import time
import traceback
from typing import Any

from harness.config.data import DataError
from harness.records import METRICS, OF_TRAINING, Failure, Record
from harness.study.specification import TrialSpec
from harness.training.memory import ran_out
from harness.training.train import NotFiniteError


def blank(spec: TrialSpec) -> Record:
    """Return the record of a trial before it has any result."""
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
        code=spec.code,
        details=_details(spec),
        timings={"started": time.time()},
    )


def _details(spec: TrialSpec) -> dict[str, Any]:
    """Return what is told of a trial before it has any result."""
    start = spec.start
    return {} if start is None else {"start": start.model_dump(mode="json", by_alias=True)}


def blank_failure(spec: TrialSpec, failure: Failure, started: float) -> Record:
    """Return the record of a trial whose process left none."""
    result = blank(spec)
    result.failure = failure
    result.timings = {"started": started, "finished": time.time()}
    result.absent = _reasons(spec, result)
    return result


def close(spec: TrialSpec, result: Record) -> None:
    """Say what is missing and why, and when the trial ended."""
    result.absent = {
        name: reason
        for name, reason in {**_reasons(spec, result), **result.absent}.items()
        if name not in result.metrics
    }
    result.timings["finished"] = time.time()


def _reasons(spec: TrialSpec, result: Record) -> dict[str, str]:
    reasons = {
        name: _reason(result, group)
        if group in spec.measure
        else f"the study does not measure {group}"
        for group, names in METRICS.items()
        for name in names
    }
    trained = _reason(result, "training") if spec.trains else "the trial trains nothing"
    reasons |= dict.fromkeys(OF_TRAINING, trained)
    return {name: reason for name, reason in reasons.items() if name not in result.metrics}


def _reason(result: Record, group: str) -> str:
    """Say why a trial lacks what it was to measure."""
    if result.failure is not None:
        return f"the trial failed before: {result.failure.cause}"
    if result.stopped is not None:
        return f"the trial was given up: {result.stopped}"
    if group == "accuracy":
        return "the validation split has no object of that size"
    if group == "training":
        return "the training is one of another machine, or from before this was measured"
    return "not measured"


def failure(error: Exception, phase: str) -> Failure:
    """Describe what a trial ran into, and in which phase."""
    message = " ".join(str(error).split()) or type(error).__name__
    details = "".join(traceback.format_exception(error))
    return Failure(cause=_cause(error), message=f"{phase}: {message}", details=details)


def _cause(error: Exception) -> str:
    """Name the kind of failure."""
    if ran_out(error):
        return "out_of_memory"
    if isinstance(error, NotFiniteError):
        return "not_finite"
    return "data" if isinstance(error, DataError) else "error"
