"""A page claims nothing that `detbench compare` refuses: over made records of every kind."""

import itertools
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from harness.analysis.compare import runs
from harness.analysis.compare.latency import compare_latency
from harness.analysis.compare.runs import CompareError, Run
from harness.cli import verdicts
from harness.records import Record, effects
from harness.records.ranking import rank
from reports import designs, panels, protocols, tables
from tests.reports.conftest import make_record

KNOB = "detector.width"
ROUGH = {"latency_ms": "rough: most rounds were disturbed"}


class Kind(NamedTuple):
    """What is unlike between the first setting of a knob and the second."""

    machine: bool
    rough: str  # whose latency is: nobody, first, second
    timed: str  # apart, turns, session, sessions
    protocol: str  # same, other, swept
    data: bool
    code: str  # same, other, unknown
    seeds: int


KINDS = [
    Kind(*each)
    for each in itertools.product(
        (False, True),
        ("nobody", "first", "second"),
        ("apart", "turns", "session", "sessions"),
        ("same", "other", "swept"),
        (False, True),
        ("same", "other", "unknown"),
        (1, 3),
    )
]


def study(kind: Kind) -> list[Record]:
    """Make two settings of a knob: mAP 0.40 and 0.50, 10 and 12 ms."""
    return [_trial(kind, second, seed) for seed in range(kind.seeds) for second in (False, True)]


def _trial(kind: Kind, second: bool, seed: int) -> Record:
    is_first = not second and seed == 0
    ratio = (1.2 + 0.002 * seed) if second else (1.0 + 0.001 * seed)
    details: dict[str, Any] = {}
    metrics = {
        "mAP": (0.5 if second else 0.4) + (0.003 if second else 0.002) * seed,
        "latency_ms": 10 * ratio,
    }
    if kind.timed != "apart" and not is_first:
        details["reference"] = "first"
        ends = {"": ratio, "_low": ratio - 0.01, "_high": ratio + 0.01}
        metrics |= {f"latency_ratio{end}": value for end, value in ends.items()}
    if kind.timed.startswith("session"):
        details["together"] = {"session": f"s{second and kind.timed == 'sessions'}"}
    protocol = {"latency": {"batch_size": 1}, "input.size": [64, 64], "evaluator": "a"}
    overrides: dict[str, Any] = {KNOB: 8 if second else 4}
    if second and kind.protocol == "other":
        protocol["evaluator"] = "b"
    if second and kind.protocol == "swept":
        overrides["detector.input.size"] = protocol["input.size"] = [96, 96]
    code = {"detector": {"toy.py": "2" if second and kind.code == "other" else "1"}}
    return make_record(
        "first" if is_first else f"{'b' if second else 'a'}{seed}",
        seed=seed,
        overrides=overrides,
        metrics=metrics,
        details=details,
        caveats=ROUGH if kind.rough == ("second" if second else "first") else {},
        protocol=protocol,
        protocol_hash=repr(sorted(protocol.items())),
        data={"fingerprint": f"f{second and kind.data}"},
        code={} if kind.code == "unknown" else code,
        environment={"device": "cpu", "host": f"h{second and kind.machine}"},
    )


def refused(a: Record, b: Record) -> str | None:
    """Return why compare refuses two trials; None if it does not."""
    try:
        runs.check([Run(Path(), a, [])], [Run(Path(), b, [])], mixed=False)
    except CompareError as error:
        return str(error)
    return None


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize("timed", ["apart", "turns", "session", "sessions"])
def test_a_page_claims_nothing_that_compare_refuses(timed: str, seeds: int) -> None:
    for kind in (k for k in KINDS if (k.timed, k.seeds) == (timed, seeds)):
        records = study(kind)
        pairs = list(itertools.combinations(records, 2))
        ranking = rank(records)
        found = effects.by_metric(ranking)
        claims = {
            key: any(designs.verdict(effect, item) == "significant" for effect in item.effects)
            for key, item in found.items()
        }
        ranked = [r for r in ranking.records if {"mAP", "latency_ms"} <= r.metrics.keys()]

        unlike = [why for pair in pairs if (why := refused(*pair))]
        if any("protocols" in why for why in unlike):
            with pytest.raises(protocols.MixedProtocols):
                protocols.refuse(records)
        else:
            protocols.refuse(records)
        if unlike:
            assert "mAP" not in found, kind
            assert not ranked, kind
        assert not claims.get("mAP") or seeds > 1, kind

        shown = {r.trial for r in ranking.records if "latency_ms" in r.metrics}
        for a, b in pairs:
            if {a.trial, b.trial} <= shown:
                assert compare_latency(a, b).verdict is not None, kind
        assert not claims.get("latency_ms") or seeds > 1, kind
        _rows_agree(records, kind)


def _rows_agree(records: list[Record], kind: Kind) -> None:
    """See that a row's ratio is compare's, and its mAP is set against the first only if may be."""
    first = tables.reference(records)
    assert first is not None
    handed = verdicts.on_latency(records)
    for row, record in zip(tables.trial_rows(records, handed), records, strict=True):
        found = compare_latency(first, record)
        if record is not first and row["latency_ratio"] is not None:
            assert row["latency_ratio"] == found.ratio, kind
            assert row["latency_tie"] == (found.verdict == "no significant difference"), kind
            quotient = row["latency_ms"] / first.metrics["latency_ms"]
            assert quotient == pytest.approx(found.ratio), kind
        if record is not first and "different data" in (refused(first, record) or ""):
            assert row["mAP_delta"] is None, kind


def test_the_matrix_has_claims_to_make() -> None:
    """Where all is alike and three seeds agree, the page says so, and compare has a verdict."""
    kind = Kind(False, "nobody", "session", "same", False, "same", 3)
    records = study(kind)
    found = effects.by_metric(rank(records))
    assert {key: designs.verdict(item.effects[0], item) for key, item in found.items()} == {
        "mAP": "significant",
        "latency_ms": "significant",
    }
    assert compare_latency(records[0], records[1]).verdict == "slower"
    panel = panels.panels(records)[0]
    assert [trace.name for trace in panel.figure.data] == [
        None,
        "Pareto-optimal",
        "dominated",
    ]


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (Kind(True, "nobody", "session", "same", False, "same", 1), "on different machines"),
        (Kind(False, "second", "apart", "same", False, "same", 1), "B's is rough (most rounds"),
        (
            Kind(False, "nobody", "apart", "same", False, "same", 1),
            "--remeasure latency` of `detbench run` times",
        ),
    ],
)
def test_compare_says_why_latency_is_not_compared(kind: Kind, words: str) -> None:
    found = compare_latency(*study(kind))
    assert found.verdict is None
    assert words in found.words


def test_a_rough_latency_is_compared_by_its_ratio_and_tells_no_milliseconds() -> None:
    kind = Kind(False, "first", "turns", "same", False, "same", 1)
    found = compare_latency(*study(kind))
    assert (found.verdict, found.ratio) == ("slower", 1.2)
    assert (found.difference_ms, found.low_ms, found.high_ms) == (None, None, None)


def test_other_settings_of_latency_are_not_compared() -> None:
    a, b = study(Kind(False, "nobody", "turns", "same", False, "same", 1))
    b.protocol["latency"] = {"batch_size": 8}
    b.protocol_hash = "other"
    words = compare_latency(a, b).words
    assert words == (
        "latency is not compared: A and B were timed with other settings (latency.batch_size)"
    )
