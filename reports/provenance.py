"""Where the numbers of a trial come from: what a reader needs to check or repeat one."""

from __future__ import annotations

import shlex
from datetime import datetime, timezone
from typing import Any

from harness.records import METRICS, Record
from reports import facts
from reports.facts import Fact


def provenance(record: Record) -> dict[str, Any]:
    """Collect where a trial's numbers come from.

    Returns:
        `facts`: pairs of name and text, on the trial; `samples`: key of a metric to what it was
        taken from.
    """
    return {
        "facts": [[fact.name, fact.text] for fact in _facts(record) if fact.text],
        "samples": {key: text for key in record.metrics if (text := samples(record, key))},
    }


def _facts(record: Record) -> list[Fact]:
    packages = record.environment.get("packages", {})
    python = record.environment.get("python")
    versions = [f"Python {python}"] if python else []
    return [
        Fact("trial", f"{record.trial}, of study {record.study}"),
        Fact("variant", f"{record.name or record.detector}, seed {record.seed}"),
        Fact("command", _command(record)),
        Fact("code", facts.code(record) or facts.unknown_code([record])),
        Fact("source files", _files(record)),
        Fact("versions", ", ".join([*versions, *(f"{n} {v}" for n, v in packages.items())])),
        Fact("device", facts.device(record)),
        Fact("data", facts.data(record)),
        Fact("weights", facts.weights(record)),
        Fact("training", _training(record)),
        Fact("protocol", record.protocol_hash),
        Fact("started", _moment(record.timings.get("started"))),
        Fact("finished", _moment(record.timings.get("finished"))),
    ]


def samples(record: Record, metric: str) -> str:
    """Say what a metric was taken from: images, samples of time, a count."""
    if metric in METRICS["complexity"]:
        size = facts.input_size(record)
        return f"counted at {size}" if size else "counted"
    if metric in METRICS["accuracy"]:
        images = (record.data.get("val") or {}).get("images")
        evaluator = record.protocol.get("evaluator")
        parts = [f"{images:,} val images"] if images else []
        parts += [f"evaluated by {evaluator}"] if evaluator else []
        return ", ".join(parts)
    if metric.endswith("_ms") or metric.startswith("latency"):
        return _timed(record)
    return ""


def _timed(record: Record) -> str:
    """Say how many samples a latency rests on, and when they were taken."""
    count = len(record.samples.get("latency_ms", []))
    parts = [f"{count:,} samples"] if count else []
    together = record.details.get("together")
    if isinstance(together, dict):
        trials = together.get("trials")
        many = f" of {len(trials)} trials" if isinstance(trials, list) else ""
        parts.append(f"in the shared rounds{many} of session {together.get('session', '')}")
    return ", ".join(parts)


def _command(record: Record) -> str:
    kept = record.environment.get("command")
    return shlex.join(map(str, kept)) if isinstance(kept, list) else str(kept or "")


def _training(record: Record) -> str:
    """Name the training that a trial shares, where another trial made it."""
    made_by = str((record.details.get("training") or {}).get("made_by", ""))
    return f"that of {made_by}" if made_by and not made_by.endswith(record.trial) else ""


def _files(record: Record) -> str:
    """Count the files of source that computed the result, part by part."""
    return ", ".join(f"{len(files)} of {part}" for part, files in record.code.items())


def _moment(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
