"""Tables: records in, rows of plain values out; what is missing is None, never 0."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from harness.records import Record, escaping, latencies, learning, origins
from harness.records.protocols import letters
from harness.records.ranking import rank
from harness.records.turns import timed_against
from harness.records.variants import has_seeds as has_seeds
from harness.records.variants import knobs as knobs
from harness.records.variants import plain as plain
from harness.records.variants import title as title
from harness.records.variants import value as value
from harness.records.variants import variant as variant
from harness.records.variants import variants as variants
from harness.records.variants import worded as worded
from reports.against import RATIO, Verdicts, as_shown, differences
from reports.significance import Difference, Seeds

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
ROUGH = "~"
"""Stands before a latency that is not ranked."""
CANDIDATES = {"candidates_before_nms": "candidates", "candidates_after_nms": "detections"}
"""Key of a row: its name among the details of latency."""
SUMMARISED = (
    *("mAP", "mAP_50", "prop_cls", "prop_both", "params", "macs", "images_per_second"),
    *("latency_ms", "network_ms", "nms_ms"),
)


def settings(record: Record, paths: Mapping[str, str]) -> str:
    """Write the values of a trial's knobs, with a name only where a value is none without it.

    Args:
        record: of the trial.
        paths: dotted paths of knobs, with the names that a reader knows them by.
    """
    parts = []
    for path, name in paths.items():
        found = value(record, path)
        if found is None or found is False or found in ([], {}):
            parts.append(f"no {name}")
        else:
            parts.append(name if found is True else worded(found))
    return ", ".join(parts) or title(record)


def labels(records: Sequence[Record]) -> list[str]:
    """Label each trial by its number, the values of its knobs, and its seed where seeds differ."""
    paths = knobs(records)
    seeds = has_seeds(records)
    return [
        f"#{number}: {settings(record, paths)}" + (f", seed {record.seed}" if seeds else "")
        for number, record in enumerate(records, 1)
    ]


def marked(label: str, record: Record) -> str:
    """Mark a label beside a latency that is only rough."""
    return f"{label} ({ROUGH} rough)" if latencies.rough(record) is not None else label


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
    """Return the median number of boxes per image before and after NMS, where it was counted."""
    latency = record.details.get("latency", {})
    counted = {key: latency.get(name) for key, name in CANDIDATES.items()}
    return {key: float(found["median"]) for key, found in counted.items() if found}


def trial_rows(
    records: Sequence[Record], verdicts: Verdicts | None = None, *, alone: bool = False
) -> list[dict[str, Any]]:
    """Make one flat row of plain values a trial, all with the same keys.

    Keys: number, trial, name, detector, seed, protocol (a letter, the same for rows that were
    measured alike but for what the study sweeps), protocol_hash, state, cause, message; the dotted
    path of each swept knob; the metrics by their names in `Record`; candidates_before_nms,
    candidates_after_nms; against the reference trial: mAP_delta (points), params_delta, macs_delta
    (%), latency_ratio with _low and _high, and latency_tie (the interval contains 1);
    latency_rough and other_code (why a latency is not ranked, and by what a result is out of date);
    learnt_nothing (how it shows, and what to try).

    A row's latency and its ratio are of one measurement: where a trial was timed in turns with the
    reference trial, `latency_ms` is that one's times the ratio, and `latency_own_ms` what it took
    at its own moment.

    Args:
        records: of one study.
        verdicts: from `harness.analysis.compare`; without, only ratios that records hold are shown.
        alone: whether rows are compared with none.
    """
    first = None if alone else reference(records)
    paths = knobs(records)
    marks = letters(records)
    shown = [as_shown(record, first, verdicts) for record in records]
    metrics = _metrics(shown)
    return [
        {"number": number}
        | _identity(record)
        | {"protocol": marks[record.protocol_hash]}
        | {path: value(record, path) for path in paths}
        | {metric: record.metrics.get(metric) for metric in metrics}
        | {key: candidates(record).get(key) for key in CANDIDATES}
        | differences(record, first, verdicts)
        | {"latency_rough": latencies.rough(record), "other_code": origins.stale(record)}
        | {"learnt_nothing": learning.learnt_nothing(record)}
        for number, record in enumerate(shown, 1)
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


def variant_rows(records: Sequence[Record]) -> list[dict[str, Any]]:
    """Make one flat row a variant over its seeds.

    Keys: number, name, done and failed (numbers of trials), seeds; the dotted path of each swept
    knob; for each of `SUMMARISED` its _n, _mean, _min and _max over the trials that have it;
    rough latencies do not count; mAP_delta (points, to the variant of the reference trial) with
    _low and _high, of intervals that hold together, and _tie (the interval contains 0).
    """
    paths = knobs(records)
    first = reference(records)
    deltas = _deltas(records, first)
    return [
        {
            "number": number,
            "name": title(group[0]),
            "done": sum(record.state == "done" for record in group),
            "failed": sum(record.state != "done" for record in group),
            "seeds": [record.seed for record in group],
        }
        | {path: value(group[0], path) for path in paths}
        | {
            key: item
            for metric in SUMMARISED
            for key, item in spread(_counted(group, metric, first), metric).items()
        }
        | _delta(deltas[number - 1])
        for number, group in enumerate(variants(records), 1)
    ]


def _deltas(records: Sequence[Record], first: Record | None) -> list[Difference | None]:
    """Compare the mAP of each variant over seeds with that of the reference trial's variant."""
    may = {record.trial: record for record in rank(records).records if record.state == "done"}
    groups = variants(records)
    own = next((i for i, group in enumerate(groups) if first in group), None)
    if own is None or len(groups) < 2:
        return [None] * len(groups)
    values = {t: 100 * r.metrics["mAP"] for t, r in may.items() if "mAP" in r.metrics}
    seeds = Seeds(groups, values)
    family = len(groups) - 1
    return [None if i == own else seeds.difference(i, own, family) for i in range(len(groups))]


def _delta(found: Difference | None) -> dict[str, Any]:
    names = ("mAP_delta", "mAP_delta_low", "mAP_delta_high", "mAP_delta_tie")
    values = (None,) * 4 if found is None else (*found, found.tie)
    return dict(zip(names, values, strict=True))


def _counted(group: Sequence[Record], metric: str, first: Record | None) -> list[Record]:
    """Return the trials of a variant that count towards its mean, as they are shown."""
    shown = [as_shown(record, first) for record in group]
    timed = metric.endswith("_ms")
    return [record for record in shown if not timed or latencies.rough(record) is None]


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
    """Write rows as CSV, an empty field where a value is missing; no cell is a formula."""
    made = frame(rows).map(escaping.in_csv).rename(columns=escaping.in_csv)
    text: str = made.to_csv(index=False, lineterminator="\n")
    return text


def to_markdown(rows: list[dict[str, Any]], columns: dict[str, str]) -> str:
    """Write chosen columns of rows as a Markdown table.

    Args:
        rows: as from `trial_rows` or `variant_rows`.
        columns: key of a row: heading.
    """
    lines = [list(map(escaping.in_markdown, columns.values())), ["---"] * len(columns)]
    lines += [[_markdown(row.get(key)) for key in columns] for row in rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def _markdown(item: Any) -> str:
    if item is None:
        return "–"
    text = plain(item)
    if isinstance(item, float):
        text = f"{item:,.0f}" if abs(item) >= 10_000 else f"{item:.4g}"
    return escaping.in_markdown(text)
