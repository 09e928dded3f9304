"""What may be set in an order: latencies of the same rounds or turns, and nothing that is rough."""

from typing import Any

import pytest

from harness.records import Record, ranking
from harness.records.ranking import rank
from reports import designs, display, panels, points, tables
from reports.panels import Panel
from tests.reports.conftest import Make, together

KNOB = "detector.backbone.expand_ratio"
ROUGH = {"latency_ms": "rough: timed for other/t1, at another time"}
APART = (
    "Latency is not ranked: latencies were timed apart; "
    "`--remeasure latency` of `detbench run` times them together."
)


def in_turns(make: Make, trial: str, ratio: float, **changes: Any) -> Record:
    """Make a trial that was timed in turns with `first`, when all took thrice as long."""
    ends = {"": ratio, "_low": ratio - 0.05, "_high": ratio + 0.05}
    metrics = {f"latency_ratio{end}": value for end, value in ends.items()}
    metrics |= {"latency_ms": 30 * ratio, "latency_low_ms": 29 * ratio, "latency_high_ms": 99.0}
    metrics |= changes.pop("metrics", {})
    return make(trial, metrics=metrics, details={"reference": "first"}, **changes)


def by_session(**changes: Any) -> list[Record]:
    return [
        together("first", overrides={KNOB: 0.25}),
        together("b", 0.8, overrides={KNOB: 0.5}, metrics={"mAP": 0.4}),
        together("c", 1.2, overrides={KNOB: 0.75}, metrics={"mAP": 0.6}, **changes),
    ]


def latency_panel(records: list[Record]) -> Panel:
    return next(p for p in panels.panels(records) if p.key == "mAP-latency_ms")


def dots(panel: Panel) -> dict[str, list[str]]:
    """Return the numbers of the dots by how they are marked."""
    traces = [trace for trace in panel.figure.data if trace.name]
    return {trace.name: [text.partition(":")[0] for text in trace.text] for trace in traces}


def test_latencies_of_one_session_are_ranked_as_they_are() -> None:
    found = rank(by_session())
    assert (found.metric, found.reasons) == ("latency_ms", [])
    assert [record.metrics["latency_ms"] for record in found.records] == [10.0, 8.0, 12.0]
    shown = dots(latency_panel(by_session()))
    assert shown["Pareto-optimal"] == ["#2", "#1", "#3"]


def test_bars_of_shared_rounds_are_those_of_the_ratio_that_the_order_hangs_on() -> None:
    records = by_session()
    first, second, _ = rank(records).records
    assert not any(end in first.metrics for end in ranking.ENDS)
    low, high = (records[1].metrics[f"latency_ratio_{end}"] for end in ("low", "high"))
    assert [second.metrics[end] for end in ranking.ENDS] == pytest.approx([10 * low, 10 * high])
    assert "interval of its ratio to the baseline" in latency_panel(records).note
    assert all(end in records[1].metrics for end in ranking.ENDS)  # tables show the median's own


def test_latencies_timed_in_turns_with_one_trial_are_ranked_by_their_ratio(make: Make) -> None:
    records = [make("first"), in_turns(make, "b", 0.8), make("c", metrics={"latency_ms": None})]
    found = rank(records)
    assert (found.metric, found.reasons) == ("latency_adjusted_ms", [])
    assert found.records[1].metrics["latency_ms"] == pytest.approx(8.0)
    panel = latency_panel(records)
    assert panel.figure.layout.xaxis.title.text == "end-to-end latency, timed in turns (ms)"
    assert "ratio to it, measured in turns" in panel.note
    front = next(trace for trace in panel.figure.data if trace.name == "Pareto-optimal")
    assert list(front.x) == pytest.approx([8.0])
    assert records[1].metrics["latency_ms"] == pytest.approx(24.0)


@pytest.mark.parametrize(
    "others",
    [
        lambda make: [make("b")],
        lambda make: [in_turns(make, "b", 0.8), make("c")],
        lambda make: [
            in_turns(make, "b", 0.8),
            in_turns(make, "c", 0.8).model_copy(update={"details": {"reference": "another"}}),
        ],
        lambda make: [make("b", details={"reference": "first"})],  # says so, and has no ratio
    ],
)
def test_latencies_timed_apart_are_shown_and_not_ranked(make: Make, others: Any) -> None:
    records = [make("first", overrides={KNOB: 1}), *others(make)]
    found = rank(records)
    assert (found.metric, found.reasons) == (None, [APART])
    panel = latency_panel(records)
    numbers = [f"#{number}" for number in range(1, len(records) + 1)]
    assert dots(panel) == {"Pareto-optimal": [], "dominated": [], "not ranked": numbers}
    assert "Pareto" not in panel.note
    assert designs.summary(records)[0] == APART


def test_a_rough_latency_is_shown_hollow_and_on_no_front() -> None:
    records = by_session(caveats=ROUGH)
    records[2].metrics["latency_ms"] = 1.0
    shown = dots(latency_panel(records))
    assert shown == {
        "Pareto-optimal": ["#2", "#1"],
        "dominated": [],
        "not ranked": ["#3"],
    }
    (reason,) = rank(records).reasons
    assert reason.startswith(
        "Not all latencies are ranked: 1 of 3 latencies is rough; `--remeasure"
    )
    aside = next(t for t in latency_panel(records).figure.data if t.name == "not ranked")
    assert aside.marker.symbol == "square-open"
    assert "timed for other/t1" in aside.hovertext[0]


def test_a_rough_latency_makes_no_effect() -> None:
    """A borrowed time that is three times the others' is nobody's effect."""
    rows = [(0.25, 0), (0.5, 0), (0.25, 1), (0.5, 1)]
    records = [
        together(str(i) if i else "first", 1 + x if i else None, overrides={KNOB: x}, seed=seed)
        for i, (x, seed) in enumerate(rows)
    ]
    records[3] = records[3].model_copy(
        update={"caveats": ROUGH, "metrics": records[3].metrics | {"latency_ms": 125.6}}
    )
    assert "latency_ms" not in rank(records).records[3].metrics
    assert not [line for line in designs.summary(records) if "+11" in line or "+37" in line]


def test_where_all_but_one_are_rough_nothing_is_ranked() -> None:
    first, b, c = by_session()
    found = rank([first, *(each.model_copy(update={"caveats": ROUGH}) for each in (b, c))])
    assert found.metric is None
    assert found.reasons[0].startswith("Latency is not ranked: 2 of 3 latencies are rough;")


def test_a_rough_reference_leaves_no_milliseconds_to_rank_by(make: Make) -> None:
    records = [make("first", caveats=ROUGH), *(in_turns(make, name, 0.8) for name in "bc")]
    assert rank(records).metric is None
    row = tables.trial_rows(records)[1]
    assert (row["latency_ratio"], row["latency_ms"]) == (None, pytest.approx(24.0))
    table = display.trial_table(records)
    texts = " ".join(table.notes)
    assert "the first trial's own latency is rough" in texts or "latency" in " ".join(table.hidden)


def test_other_machines_are_not_ranked_together() -> None:
    records = by_session(environment={"device": "cuda:0", "host": "h"})
    assert rank(records).reasons == [
        "Latency is not ranked: the trials were timed on different machines."
    ]


def test_other_protocols_data_and_versions_are_not_ranked() -> None:
    records = by_session(
        protocol={"latency": {"batch_size": 1}, "evaluator": "b"}, protocol_hash="p2"
    )
    (reason,) = rank(records).reasons
    assert reason.startswith("Nothing is ranked: the protocols of these trials differ in evaluator")
    assert all(not panel.figure.data[0].x for panel in panels.panels(records)[:1])

    found = rank(by_session(data={"fingerprint": "f2"}))
    assert found.reasons[0].startswith("Accuracy is not ranked: the trials are of 2 data sets")
    assert {"mAP", "latency_ms"} & found.records[0].metrics.keys() == {"latency_ms"}

    edited = by_session(config={"recipe.epochs": 20})
    edited[0].config["recipe.epochs"] = 12
    assert "several versions of the study, which differ in recipe.epochs" in rank(edited).reasons[0]


def test_other_times_are_ranked_only_within_a_session(make: Make) -> None:
    records = [make("first"), in_turns(make, "b", 0.8)]
    assert "nms_ms" not in rank(records).records[1].metrics
    assert "nms_ms" in rank(by_session()).records[1].metrics


def test_a_row_tells_one_story(make: Make) -> None:
    """The latency that stands beside a ratio of 1.11 is 1.11 times the first's."""
    records = [make("first"), in_turns(make, "b", 1.11)]
    first, second = tables.trial_rows(records)
    assert second["latency_ratio"] == 1.11
    assert second["latency_ms"] / first["latency_ms"] == pytest.approx(1.11)
    assert second["latency_low_ms"] == pytest.approx(10.6)
    assert second["latency_own_ms"] == pytest.approx(33.3)
    assert first["latency_own_ms"] is None
    table = display.trial_table(records)
    place = [column.key for column in table.columns].index("latency_ms")
    cell = table.rows[1][place]
    assert (cell.text, cell.small) == ("11.1", "10.6 to 11.6")
    assert "end to end: " + display.IN_TURNS in table.notes


def test_rough_figures_are_marked_in_tables_and_left_out_of_means(make: Make) -> None:
    records = [make("a"), make("b", seed=1, caveats=ROUGH, metrics={"latency_ms": 99.0})]
    table = display.trial_table(records)
    keys = [column.key for column in table.columns]
    cell = table.rows[1][keys.index("latency_ms")]
    assert (cell.text, cell.style) == ("~99.0", "rough")
    assert dict(table.lettered)[cell.notes[0]] == f"end to end: {ROUGH['latency_ms']}"
    assert table.rows[1][keys.index("latency_p95_ms")].text.startswith("~")
    assert not table.rows[1][keys.index("mAP")].text.startswith("~")
    (row,) = tables.variant_rows(records)
    assert (row["latency_ms_n"], row["latency_ms_mean"]) == (1, 10.0)
    labels = [item.label for item in points.stages(records)]
    assert [label.endswith("(~ rough)") for label in labels] == [False, True]


def test_a_variant_of_which_all_is_rough_is_drawn_hollow_and_has_no_mean(make: Make) -> None:
    rough = [make(name, overrides={KNOB: x}, seed=seed, caveats=ROUGH, metrics={"latency_ms": 9.0})
             for name, x, seed in (("a", 1, 0), ("b", 1, 1), ("c", 2, 0), ("d", 2, 1))]  # fmt: skip
    assert dots(latency_panel(rough))["not ranked"] == ["V1", "V2"]
    table = display.variant_table([*rough, make("e", overrides={KNOB: 3})])
    place = [column.key for column in table.columns].index("latency_ms")
    assert [row[place].text for row in table.rows] == [display.DASH, display.DASH, "10.0"]


def test_nothing_and_one_trial_need_no_reason(make: Make) -> None:
    assert rank([]) == ([], "latency_ms", [], False)
    assert rank([make()]).reasons == []
    assert ranking.PLAIN in rank([make()]).records[0].metrics
