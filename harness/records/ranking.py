"""Which trials a page may set in an order, and why it leaves others out; records in, records out.

A front, an effect or a volume is drawn over accuracies that mean the same, and over latencies that
were taken together: in the rounds of one session, or each in turns with the same trial. What may
not be ranked is shown all the same, marked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from harness.records import latencies, origins, protocols, turns
from harness.records.record import METRICS, Record

PLAIN, ADJUSTED = "latency_ms", "latency_adjusted_ms"
ENDS = ("latency_low_ms", "latency_high_ms")


class Ranking(NamedTuple):
    """The records of a page as its fronts and effects may see them."""

    records: list[Record]  # all, in order; figures that may not be ranked are taken out
    metric: str | None  # which latency is ranked: PLAIN or ADJUSTED; None for none
    reasons: list[str]  # why figures are not ranked, a line each
    beside: bool = False  # whether intervals of latency are those of the ratio to one trial


def rank(records: Sequence[Record]) -> Ranking:
    """Take out of records what may not be ranked.

    Where latencies are ranked by their ratio to one trial, `latency_ms` is that trial's own times
    the ratio, and stands as `latency_adjusted_ms`, too; of shared rounds it is that already. Either
    way its interval is the ratio's, which says what the order hangs on, and that trial has none.
    """
    mixed = unlike(records)
    if mixed is not None:
        bare = [_with(record, {}) for record in records]
        return Ranking(bare, None, [f"Nothing is ranked: {mixed}."])
    metric, reason = _latency(records)
    named = turns.reference(_fresh(records)) if metric else None
    first = next((record for record in records if record.trial == named), None)
    shown = [_ranked(record, metric, first) for record in records]
    reasons = [] if reason is None else [reason]
    sets = protocols.data_sets([record for record in records if record.state == "done"])
    if len(sets) > 1:
        shown = [_without(record, METRICS["accuracy"]) for record in shown]
        reasons.append(
            f"Accuracy is not ranked: the trials are of {len(sets)} data sets, and images can only"
            " be compared with themselves."
        )
    return Ranking(shown, metric, reasons, first is not None)


def in_turns(record: Record, first: Record) -> Record | None:
    """Give a trial the latency that goes with its ratio to another; None where it has none.

    That is the other's latency times the ratio, so that what the machine's speed did between the
    two does not show.
    """
    ratio = turns.own_ratio(record)
    if ratio is None or turns.timed_against(record) != first.trial:
        return None
    if PLAIN not in first.metrics:
        return None
    if latencies.rough(first) is not None and not turns.together(first, record):
        return None  # a latency of this trial's own is the better one
    values = [first.metrics[PLAIN] * value for value in ratio]
    figures = dict(zip((PLAIN, *ENDS), values, strict=True))
    return _with(record, record.metrics | figures | {ADJUSTED: values[0]})


def unlike(records: Sequence[Record]) -> str | None:
    """Return why the figures of trials do not mean the same; None if they do."""
    done = [record for record in records if record.state == "done"]
    if keys := protocols.unexplained(done):
        return (
            f"the protocols of these trials differ in {', '.join(keys)}, which no trial overrides"
        )
    if keys := origins.edited(done):
        return (
            f"these trials are of several versions of the study, which differ in {', '.join(keys)}"
        )
    return None


def _latency(records: Sequence[Record]) -> tuple[str | None, str | None]:
    """Say which latency may be ranked, and why others or all may not."""
    timed = [record for record in records if record.state == "done" and PLAIN in record.metrics]
    fresh = _fresh(timed)
    if len(timed) < 2:
        return PLAIN, None
    again = "`--remeasure latency` of `detbench run` times them together."
    rough = len(timed) - len(fresh)
    left_out = f"{rough} of {len(timed)} latencies {'is' if rough == 1 else 'are'} rough"
    if len(fresh) < 2:
        return None, f"Latency is not ranked: {left_out}; {again}"
    if why := next(filter(None, (turns.unlike(fresh[0], r) for r in fresh[1:])), None):
        return None, f"Latency is not ranked: {why.replace('A and B', 'the trials')}."
    aside = f"Not all latencies are ranked: {left_out}; {again}" if rough else None
    common = turns.reference(fresh)
    if common and all(turns.together(fresh[0], other) for other in fresh[1:]):
        return PLAIN, aside
    if common in {record.trial for record in fresh}:
        return ADJUSTED, aside
    return None, f"Latency is not ranked: latencies were timed apart; {again}"


def _fresh(records: Sequence[Record]) -> list[Record]:
    """Return the finished trials whose latency is none that is only rough."""
    timed = (record for record in records if record.state == "done" and PLAIN in record.metrics)
    return [record for record in timed if latencies.rough(record) is None]


def _ranked(record: Record, metric: str | None, first: Record | None) -> Record:
    """Leave a trial the times by which it may be ranked, and no others."""
    bare = _with(record, {k: v for k, v in record.metrics.items() if not _is_timed(k)})
    if record.state != "done" or metric is None or latencies.rough(record) is not None:
        return bare
    if metric == PLAIN:  # all times are of the same rounds
        return record if first is None else _beside(record, first)
    assert first is not None
    if record is first:  # what the others are measured by
        figures = dict.fromkeys((PLAIN, ADJUSTED), record.metrics[PLAIN])
    else:
        found = in_turns(record, first)
        figures = {} if found is None else {k: found.metrics[k] for k in (PLAIN, *ENDS, ADJUSTED)}
    return _with(bare, bare.metrics | figures)


def _beside(record: Record, first: Record) -> Record:
    """Give a trial of shared rounds the interval of its ratio in place of its median's."""
    found = in_turns(record, first)
    ends = {} if found is None else {name: found.metrics[name] for name in ENDS}
    return _with(record, {k: v for k, v in record.metrics.items() if k not in ENDS} | ends)


def _is_timed(name: str) -> bool:
    return name.endswith("_ms") or name in METRICS["latency"] or name == "energy_j"


def _without(record: Record, names: Sequence[str]) -> Record:
    return _with(record, {k: v for k, v in record.metrics.items() if k not in names})


def _with(record: Record, metrics: dict[str, float]) -> Record:
    return record.model_copy(update={"metrics": metrics})
