"""The answer of a study in a sentence or two: records in, plain text out.

What is called better, worse, faster or slower is so by an interval over repeated seeds, all
intervals of an answer together at 95 %; a latency of single trainings by the rounds in which they
were timed in turns. All else is no significant difference, or is said not to be known. Where a
study has one seed, the scatter may be that of other studies, see `borrowed`, which are then named.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from harness.analysis.answer import borrowed, contest, words
from harness.analysis.answer.power import Scale, of_one_of
from harness.records import Record, cells, effects, goals, learning, ranking, variants
from harness.records.cells import Cells
from harness.records.effects import LEVEL, Effects
from harness.records.goals import Goal
from harness.records.ranking import PLAIN, Ranking
from harness.records.units import METRICS

KEYS = ("mAP", PLAIN)


class Finding(NamedTuple):
    """What a study says of one metric."""

    text: str
    scale: Scale | None = None  # where more seeds may tell more
    lead: str = ""  # of which metric, among which variants
    named_by: str = ""  # knobs, where the text names variants by their settings of several


def answer(
    records: Sequence[Record],
    goal: Goal | None = None,
    *,
    total: int | None = None,
    others: Sequence[Record] = (),
) -> str:
    """Say what a study came to.

    Args:
        records: of one study as its file is now, in the order they were started.
        goal: of a search.
        total: number of its trials, if some may be under way.
        others: of any studies; where this one has one seed, they may tell how much one scatters.

    Returns:
        Plain text on one line, for a reader; names in it are those of the study.
    """
    under_way = total is not None and len(records) < total
    lead = f"so far, with {len(records)} of {total} trials over, " if under_way else ""
    claims = [
        lead + _claim(records, goal, others),
        _not_finished(records),
        _learnt_nothing(records),
    ]
    return " ".join(words.sentence(claim) for claim in claims if claim)


def _claim(records: Sequence[Record], goal: Goal | None, others: Sequence[Record]) -> str:
    """Say what the finished trials tell; the last full stop is left out."""
    done = [record for record in records if record.state == "done"]
    if not done:
        return "there is no answer, as no trial has finished"
    if len(done) == 1:
        return _single(done[0])
    if (why := ranking.unlike(records)) is not None:
        return f"the trials cannot be compared: {why}"
    return _sweep(records, others) if goal is None else _search(records, goal)


def _single(record: Record) -> str:
    """Say what the only finished trial has."""
    figures = [
        f"{words.value(key, record.metrics[key] * METRICS[key].scale)} {words.NAME[key]}"
        for key in KEYS
        if key in record.metrics
    ]
    has = f": it has {words.listed(figures)}" if figures else ""
    return f"there is nothing to compare, as one trial has finished{has}"


def _sweep(records: Sequence[Record], others: Sequence[Record]) -> str:
    """Say what differs between the variants of a study, and what more seeds would tell."""
    ranked = ranking.rank(records)
    tables = {key: found for key in KEYS if (found := _cells(ranked, key)) is not None}
    repeated = sum(found.scatter == "seeds" for found in tables.values())
    level = 1 - (1 - LEVEL) / max(repeated, 1)  # all intervals hold together
    modelled = effects.by_metric(ranked)
    findings = {
        key: _finding(records, tables[key], key, modelled.get(key), level, others)
        if key in tables
        else Finding(_lacking(records, ranked, key))
        for key in KEYS
    }
    told = _joined(list(findings.values())) + _change_together(tables)
    scales = [(key, found.scale) for key, found in findings.items() if found.scale is not None]
    more = [words.sentence(words.power(key, scale)) for key, scale in scales if scale.error]
    return ". ".join([told, *more[:1]])


def _joined(findings: Sequence[Finding]) -> str:
    """Join what metrics tell; the knobs whose settings name variants are named once."""
    clauses: list[str] = []
    named: set[str] = set()
    for one in findings:
        knobs = f"of {one.named_by}, " if one.named_by and one.named_by not in named else ""
        named.add(one.named_by)
        clauses.append(f"{one.lead}{knobs}{one.text}")
    return "; ".join(clauses)


def _cells(ranked: Ranking, key: str) -> Cells | None:
    """Return a metric by variant and seed; None where no trial has it that may be ranked."""
    having = [r for r in ranked.records if r.state == "done" and key in r.metrics]
    values = np.array([r.metrics[key] for r in having]) * METRICS[key].scale
    return cells.comparable(having, values) if having else None


def _lacking(records: Sequence[Record], ranked: Ranking, key: str) -> str:
    """Say why a metric tells nothing."""
    what = "accuracy" if key == "mAP" else "latency"
    if not any(key in record.metrics for record in records if record.state == "done"):
        return f"{what} was not measured"
    why = next((text for text in ranked.reasons if text.startswith(f"{what.capitalize()} is")), "")
    return f"{what} cannot be compared: {why.partition(': ')[2].rstrip('.')}"


def _finding(
    records: Sequence[Record],
    table: Cells,
    key: str,
    modelled: Effects | None,
    level: float,
    others: Sequence[Record],
) -> Finding:
    """Say what a metric tells: by effects of knobs, by a contest of variants, or by order alone."""
    firsts = table.firsts
    every = len(variants.variants(records))
    lead, by = f"in {words.NAME[key]}, ", contest.named_by(firsts)
    if len(firsts) == 1:
        mean = table.mean(0)
        half = table.fit.half(mean, level) if table.scatter == "seeds" else None
        name = contest.settings([*firsts, *records], variants.swept(records))[0]
        label = "the only variant" if every == 1 else f"of {every} variants only {name}"
        return Finding(lead + words.alone(key, table.values[0], half, table.counts[0], label))
    lead += f"among {len(firsts)} of {every} variants, " if len(firsts) < every else ""
    if key == "mAP" and (found := _by_others(table, others)) is not None:
        return found._replace(lead=lead, named_by=by)
    if table.scatter != "seeds":
        return Finding(_unrepeated(records, table, key), None, lead, by)
    if modelled is not None and modelled.scatter == "seeds" and not _one_way(firsts):
        mean_of_all = float(np.mean(table.values))
        text = words.effects(key, modelled.effects, mean_of_all)
        unsure = [one for one in modelled.effects if not words.significant(one)]
        return Finding(text, _scale(table, modelled) if unsure else None, lead)
    best = contest.over_seeds(table, level, least=key != "mAP")
    return Finding(words.winner(key, best), best.scale if best.ties else None, lead, by)


def _one_way(firsts: Sequence[Record]) -> bool:
    """Say whether some knob by itself tells all variants apart, so that knobs have no effects."""
    return bool(contest.telling(firsts)) or not variants.swept(firsts)


def _change_together(tables: Mapping[str, Cells]) -> str:
    """Name the knobs that a one-way design cannot tell apart."""
    firsts = next((table.firsts for table in tables.values()), [])
    telling, short = contest.telling(firsts), variants.knobs(firsts)
    others = [contest.clean(short[path]) for path in variants.swept(firsts) if path not in telling]
    if not telling or not others:
        return ""
    return f"; {contest.clean(short[telling[0]])} is confounded with {words.listed(others)}"


def _unrepeated(records: Sequence[Record], table: Cells, key: str) -> str:
    """Say which variant is ahead where the scatter of trainings is not known."""
    if key == PLAIN:
        trials = {first.trial for first in table.firsts}
        found = contest.in_turns([record for record in records if record.trial in trials])
        if found is not None:
            return f"of these trainings, {words.winner(key, found)}"
    values = np.array(table.values)
    order = np.argsort(-values if key == "mAP" else values, kind="stable").tolist()
    labels = contest.names(table.firsts)
    return words.unknown(key, [(labels[n], table.values[n]) for n in order], table.scatter)


def _by_others(table: Cells, others: Sequence[Record]) -> Finding | None:
    """Compare the mAP of single trainings by the scatter of other studies; None without one."""
    known = borrowed.scatter(table.firsts, others) if table.scatter == "one seed" else None
    if known is None:
        return None
    fit = table.fit._replace(variance=known.variance, freedom=known.freedom)
    best = contest.over_seeds(table._replace(fit=fit), LEVEL, least=False)
    text = f"{words.by_others(known)}, {words.winner('mAP', best)}"
    return Finding(text, best.scale if best.ties else None)


def _scale(table: Cells, modelled: Effects) -> Scale:
    """Say how sure the effects of a design are with as many seeds as most variants have."""
    critical = of_one_of(modelled.family, LEVEL)
    widths = [
        one.high - one.low
        for one in modelled.effects
        if one.low is not None and one.high is not None
    ]
    error = max(widths) / 2 / critical(modelled.freedom)
    seeds = round(float(np.median(table.counts)))
    return Scale(error, seeds, modelled.freedom, len(table.firsts) - 1, critical)


def _search(records: Sequence[Record], goal: Goal) -> str:
    """Say what a search found: the trials that no other beats, and the best in each objective."""
    ranked = ranking.rank(records)
    front = goals.front(ranked.records, goal)
    wanted = words.listed([words.NAME.get(key, key) for key in goal.objectives])
    if not front:
        none = f"there is no answer, as no trial within the limits has {wanted} that may be ranked"
        return ": ".join(
            [none, *(why.partition(": ")[2].rstrip(".") for why in ranked.reasons[:1])]
        )
    labels = contest.settings(front, list(variants.knobs(front)))
    named = dict(zip((one.trial for one in front), labels, strict=True))
    best = []
    for key, way in goal.objectives.items():
        order = sorted(front, key=lambda one: one.metrics[key] * (-1 if way == "maximize" else 1))
        scale = METRICS[key].scale if key in METRICS else 1.0
        most = "highest" if way == "maximize" else "lowest"
        figure = words.value(key, order[0].metrics[key] * scale)
        best.append(f"{named[order[0].trial]} has the {most} {words.NAME.get(key, key)}, {figure}")
    those = "1 is" if len(front) == 1 else f"{len(front)} are"
    return (
        f"of {len(records)} trials, {those} beaten by no other in {wanted}: {'; '.join(best)}."
        " A search picks what is best by luck, too: no difference is called significant before"
        " such trials are repeated with other seeds"
    )


def _not_finished(records: Sequence[Record]) -> str:
    """Count the trials that did not finish, by cause."""
    causes = Counter(map(_cause, (record for record in records if record.state != "done")))
    number, counts = causes.total(), ", ".join(f"{n} {cause}" for cause, n in causes.items())
    return f"{number} of {len(records)} trials did not finish ({counts})" if number else ""


def _cause(record: Record) -> str:
    if record.state == "pruned":
        return "given up"
    cause = record.failure.cause.replace("_", " ") if record.failure else "no known cause"
    return f"by {cause}"


def _learnt_nothing(records: Sequence[Record]) -> str:
    """Count the trainings that learnt nothing."""
    count = sum(learning.learnt_nothing(record) is not None for record in records)
    return f"{count} of {len(records)} trainings learnt nothing" if count else ""
