"""Tables: records in, rows of plain values out; what is missing is None, never 0."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from harness.records import Record
from reports import protocols

METRICS = (
    "mAP",
    "mAP_50",
    "mAP_75",
    "mAP_s",
    "mAP_m",
    "mAP_l",
    "params",
    "macs",
    "flops",
    "params_deployed",
    "macs_deployed",
    "flops_deployed",
    "latency_ms",
    "latency_low_ms",
    "latency_high_ms",
    "latency_p95_ms",
    "network_ms",
    "backbone_ms",
    "neck_ms",
    "head_ms",
    "nms_ms",
    "memory_bytes",
    "energy_j",
)
RATIO = ("latency_ratio", "latency_ratio_low", "latency_ratio_high")
CANDIDATES = {"candidates_before_nms": "candidates", "candidates_after_nms": "detections"}
"""Key of a row: its name among the details of latency."""
SUMMARISED = ("mAP", "mAP_50", "params", "macs", "latency_ms", "network_ms", "nms_ms")


def knobs(records: Sequence[Record]) -> dict[str, str]:
    """Name the knobs that some trial overrides.

    Returns:
        Dotted path: the shortest tail of it that no other of these knobs shares.
    """
    paths = list(dict.fromkeys(path for record in records for path in record.overrides))
    if len({record.detector for record in records}) > 1:
        paths = ["detector", *(path for path in paths if path != "detector")]
    return {path: _short(path, paths) for path in paths}


def _short(path: str, paths: Sequence[str]) -> str:
    parts = path.split(".")
    tails = (".".join(parts[-length:]) for length in range(1, len(parts) + 1))
    others = [other for other in paths if other != path]
    return next(
        (tail for tail in tails if not any(f".{other}".endswith(f".{tail}") for other in others)),
        path,
    )


def value(record: Record, path: str) -> Any:
    """Return what a knob is set to in a trial: overridden, or as the study has it."""
    if path == "detector":
        return record.detector
    return record.overrides.get(path, record.config.get(path))


def plain(setting: Any) -> str:
    """Write the value of a knob the way YAML would, on one line."""
    if setting is None:
        return "null"
    if isinstance(setting, bool):
        return str(setting).lower()
    if isinstance(setting, list | tuple):
        return "[" + ", ".join(map(plain, setting)) + "]"
    if isinstance(setting, dict):
        return "{" + ", ".join(f"{key}: {plain(item)}" for key, item in setting.items()) + "}"
    return str(setting)


def variant(record: Record, paths: Iterable[str]) -> tuple[str, ...]:
    """Return what tells a trial's variant from others: its knobs, not its seed."""
    return tuple(plain(value(record, path)) for path in paths)


def variants(records: Sequence[Record]) -> list[list[Record]]:
    """Group trials that differ in their seed only, in the order they first appear.

    Trials that were measured differently are no seeds of one variant.
    """
    paths = knobs(records)
    groups: dict[tuple[str, ...], list[Record]] = {}
    for record in records:
        key = (*variant(record, paths), record.protocol_hash)
        groups.setdefault(key, []).append(record)
    return list(groups.values())


def has_seeds(records: Sequence[Record]) -> bool:
    """Say whether some variant was tried with more than one seed."""
    return any(len({record.seed for record in group}) > 1 for group in variants(records))


def title(record: Record) -> str:
    """Name a variant in words, for a reader."""
    return record.name or record.detector


def settings(record: Record, paths: Iterable[str]) -> str:
    """Write the values of a trial's knobs, without their names."""
    return ", ".join(variant(record, paths)) or title(record)


def labels(records: Sequence[Record]) -> list[str]:
    """Label each trial by its number, the values of its knobs, and its seed where seeds differ."""
    paths = knobs(records)
    seeds = has_seeds(records)
    return [
        f"#{number}: {settings(record, paths)}" + (f", seed {record.seed}" if seeds else "")
        for number, record in enumerate(records, 1)
    ]


def reference(records: Sequence[Record]) -> Record | None:
    """Return the trial that differences are shown against.

    That is the one most latencies were timed against, which with several workers need not be the
    first to start; without such, the first that is done.
    """
    done = [record for record in records if record.state == "done"]
    named = Counter(timed_against(record) for record in done)
    return max(done, key=lambda record: named[record.trial], default=None)


def missing(record: Record, metric: str) -> str:
    """Say why a trial lacks a metric."""
    if record.failure is not None:
        return f"the trial failed: {record.failure.message or record.failure.cause}"
    if record.state == "pruned":
        return f"the trial was given up: {record.stopped or 'pruned'}"
    return record.absent.get(metric, "not measured")


def candidates(record: Record) -> dict[str, float]:
    """Return the median number of boxes an image before and after NMS, where it was counted."""
    latency = record.details.get("latency", {})
    counted = {key: latency.get(name) for key, name in CANDIDATES.items()}
    return {key: float(found["median"]) for key, found in counted.items() if found}


def trial_rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Make one flat row of plain values a trial, all with the same keys.

    Keys: number, trial, name, detector, seed, protocol (a letter, the same for rows that were
    measured alike), protocol_hash, state, cause, message; the dotted path of each swept
    knob; the metrics by their names in `Record`; candidates_before_nms, candidates_after_nms;
    against the first finished trial: mAP_delta (points), params_delta, macs_delta (%),
    latency_ratio with _low and _high, and latency_tie (the interval contains 1).
    """
    first = reference(records)
    paths = knobs(records)
    metrics = _metrics(records)
    letters = protocols.letters(records)
    return [
        {"number": number}
        | _identity(record)
        | {"protocol": letters[record.protocol_hash]}
        | {path: value(record, path) for path in paths}
        | {metric: record.metrics.get(metric) for metric in metrics}
        | {key: candidates(record).get(key) for key in CANDIDATES}
        | differences(record, first)
        for number, record in enumerate(records, 1)
    ]


def _metrics(records: Sequence[Record]) -> list[str]:
    others = {metric for record in records for metric in record.metrics}
    return [*METRICS, *sorted(others - {*METRICS, *RATIO})]


def _identity(record: Record) -> dict[str, Any]:
    return {
        "trial": record.trial,
        "name": record.name,
        "detector": record.detector,
        "seed": record.seed,
        "protocol_hash": record.protocol_hash,
        "state": record.state,
        "cause": record.failure.cause if record.failure else record.stopped,
        "message": record.failure.message if record.failure else record.stopped,
    }


def differences(record: Record, first: Record | None) -> dict[str, Any]:
    """Compare a trial with the first: points of mAP, % of params and MACs, ratio of latencies.

    A ratio is taken over only where the trial was timed against this very trial.
    """
    ratios: list[float | None] = [None, None, None]
    if first is not None and record is not first and timed_against(record) == first.trial:
        ratios = [record.metrics.get(metric) for metric in RATIO]
    _, low, high = ratios
    return {
        "mAP_delta": _points(record, first),
        "params_delta": _percent(record, first, "params"),
        "macs_delta": _percent(record, first, "macs"),
        **dict(zip(RATIO, ratios, strict=True)),
        "latency_tie": None if low is None or high is None else low <= 1 <= high,
    }


def timed_against(record: Record) -> str | None:
    """Return the trial that a trial's latency was interleaved with."""
    found = record.details.get("reference")
    return found.get("trial") if isinstance(found, dict) else found


def _pair(record: Record, first: Record | None, metric: str) -> tuple[float, float] | None:
    if first is None or record is first:
        return None
    mine, theirs = record.metrics.get(metric), first.metrics.get(metric)
    return None if mine is None or theirs is None else (mine, theirs)


def _points(record: Record, first: Record | None) -> float | None:
    pair = _pair(record, first, "mAP")
    return None if pair is None else 100 * (pair[0] - pair[1])


def _percent(record: Record, first: Record | None, metric: str) -> float | None:
    pair = _pair(record, first, metric)
    return None if pair is None or pair[1] == 0 else 100 * (pair[0] / pair[1] - 1)


def variant_rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Make one flat row a variant over its seeds.

    Keys: number, name, done and failed (numbers of trials), seeds; the dotted path of each swept
    knob; for each of `SUMMARISED` its _n, _mean, _min and _max over the trials that have it.
    """
    paths = knobs(records)
    return [
        {
            "number": number,
            "name": title(group[0]),
            "done": sum(record.state == "done" for record in group),
            "failed": sum(record.state != "done" for record in group),
            "seeds": [record.seed for record in group],
        }
        | {path: value(group[0], path) for path in paths}
        | {key: item for metric in SUMMARISED for key, item in spread(group, metric).items()}
        for number, group in enumerate(variants(records), 1)
    ]


def spread(group: Sequence[Record], metric: str) -> dict[str, float | int | None]:
    """Return a metric's count, mean, least and greatest over a variant's trials."""
    found = [record.metrics[metric] for record in group if metric in record.metrics]
    return {
        f"{metric}_n": len(found),
        f"{metric}_mean": sum(found) / len(found) if found else None,
        f"{metric}_min": min(found, default=None),
        f"{metric}_max": max(found, default=None),
    }


def frame(rows: list[dict[str, Any]]) -> pd.DataFrame:
    """Make a data frame of rows; lists become text, so that every cell is one value."""
    made: pd.DataFrame = pd.DataFrame(
        [{key: _scalar(item) for key, item in row.items()} for row in rows]
    )
    return made


def _scalar(item: Any) -> Any:
    return plain(item) if isinstance(item, list | tuple | dict) else item


def to_csv(rows: list[dict[str, Any]]) -> str:
    """Write rows as CSV, an empty field where a value is missing."""
    return frame(rows).to_csv(index=False, lineterminator="\n")


def to_markdown(rows: list[dict[str, Any]], columns: dict[str, str]) -> str:
    """Write chosen columns of rows as a Markdown table.

    Args:
        rows: as from `trial_rows` or `variant_rows`.
        columns: key of a row: heading.
    """
    lines = [list(columns.values()), ["---"] * len(columns)]
    lines += [[_markdown(row.get(key)) for key in columns] for row in rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _markdown(item: Any) -> str:
    if item is None:
        return "–"
    text = plain(item)
    if isinstance(item, float):
        text = f"{item:,.0f}" if abs(item) >= 10_000 else f"{item:.4g}"
    return text.replace("|", "\\|").replace("\n", " ")
