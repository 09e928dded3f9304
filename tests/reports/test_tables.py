import csv
import io
import json

import pytest

from reports import tables
from tests.reports.conftest import Make

BACKBONE = "detector.backbone.expand_ratio"
NECK = "detector.neck.expand_ratio"


def test_knobs_are_named_by_the_shortest_tail_that_tells_them_apart(make: Make) -> None:
    assert tables.knobs([make(overrides={BACKBONE: 0.5})]) == {BACKBONE: "expand_ratio"}
    both = make(overrides={BACKBONE: 0.5, NECK: 0.25, "recipe.lr": 0.1})
    assert tables.knobs([both]) == {
        BACKBONE: "backbone.expand_ratio",
        NECK: "neck.expand_ratio",
        "recipe.lr": "lr",
    }


def test_a_knob_whose_path_is_the_tail_of_another_keeps_its_whole_path(make: Make) -> None:
    records = [make(overrides={"latency.size": 1, "data.latency.size": 2})]
    assert tables.knobs(records) == {
        "latency.size": "latency.size",
        "data.latency.size": "data.latency.size",
    }


def test_detector_counts_as_a_knob_where_it_differs(make: Make) -> None:
    records = [make("a", detector="small"), make("b", detector="large")]
    assert list(tables.knobs(records)) == ["detector", BACKBONE]
    assert [row["detector"] for row in tables.trial_rows(records)] == ["small", "large"]


def test_a_knob_that_is_not_overridden_shows_what_the_study_has(make: Make) -> None:
    records = [make("a", overrides={}), make("b", overrides={BACKBONE: 0.25})]
    assert [row[BACKBONE] for row in tables.trial_rows(records)] == [0.5, 0.25]


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        (None, "null"),
        (True, "true"),
        (0.25, "0.25"),
        ([3, 6], "[3, 6]"),
        ({"type": "SimOTA", "topk": 10}, "{type: SimOTA, topk: 10}"),
    ],
)
def test_settings_read_like_yaml(setting: object, text: str) -> None:
    assert tables.plain(setting) == text


def test_differences_are_against_the_first_finished_trial(make: Make, failing: Make) -> None:
    records = [
        failing(),
        make("first"),
        make(
            "second",
            metrics={
                "mAP": 0.512,
                "params": 5e6,
                "macs": 1e9,
                "latency_ratio": 1.1,
                "latency_ratio_low": 1.05,
                "latency_ratio_high": 1.15,
            },
            details={"reference": "first"},
        ),
    ]
    broken, first, second = tables.trial_rows(records)
    assert broken["mAP_delta"] is first["mAP_delta"] is None
    assert second["mAP_delta"] == pytest.approx(1.2)
    assert second["params_delta"] == pytest.approx(25)
    assert second["macs_delta"] == pytest.approx(-50)
    assert second["latency_ratio"] == 1.1
    assert second["latency_tie"] is False


@pytest.mark.parametrize(("low", "high", "tie"), [(0.98, 1.02, True), (1.001, 1.02, False)])
def test_a_ratio_whose_interval_contains_one_is_a_tie(
    make: Make, low: float, high: float, tie: bool
) -> None:
    ratios = {"latency_ratio": 1.01, "latency_ratio_low": low, "latency_ratio_high": high}
    records = [make("first"), make("b", metrics=ratios, details={"reference": "first"})]
    assert tables.trial_rows(records)[1]["latency_tie"] is tie


def test_a_ratio_against_another_trial_is_not_shown(make: Make) -> None:
    ratios = {"latency_ratio": 1.01, "latency_ratio_low": 1.0, "latency_ratio_high": 1.1}
    records = [make("first"), make("b", metrics=ratios, details={"reference": "gone"})]
    row = tables.trial_rows(records)[1]
    assert (row["latency_ratio"], row["latency_tie"]) == (None, None)


def test_differences_are_against_the_trial_that_others_were_timed_against(make: Make) -> None:
    timed = {"details": {"reference": "second"}}
    records = [make("a", **timed), make("second"), make("c", **timed)]
    assert tables.reference(records) is records[1]
    assert tables.reference([make("a"), make("b")]).trial == "a"
    assert tables.reference([]) is None


def test_what_is_missing_is_none_and_has_its_reason(make: Make, failing: Make) -> None:
    record = make(metrics={"mAP": None}, absent={"mAP": "no box"})
    rows = tables.trial_rows([record, failing()])
    assert rows[0]["mAP"] is None
    assert rows[1]["params"] is None
    assert tables.missing(record, "mAP") == "no box"
    assert tables.missing(record, "energy_j") == "not measured"
    assert tables.missing(failing(), "mAP") == "the trial failed: needs 9 GB of 8 GB"


def test_failed_trials_have_their_cause(failing: Make) -> None:
    (row,) = tables.trial_rows([failing()])
    assert (row["state"], row["cause"]) == ("failed", "out_of_memory")


def test_candidates_are_those_that_were_counted(make: Make) -> None:
    rows = tables.trial_rows([make("a"), make("b", details={})])
    assert [row["candidates_before_nms"] for row in rows] == [40.0, None]
    assert [row["candidates_after_nms"] for row in rows] == [7.0, None]


def test_all_rows_have_the_same_keys_and_every_metric(make: Make, failing: Make) -> None:
    rows = tables.trial_rows([make(metrics={"latency_device_ms": 3.0}), failing()])
    assert rows[0].keys() == rows[1].keys()
    assert rows[0]["latency_device_ms"] == 3.0


def test_variants_gather_seeds(make: Make, failing: Make) -> None:
    records = [
        make("a", seed=0, metrics={"mAP": 0.4}),
        make("b", seed=1, metrics={"mAP": 0.6}),
        failing("c", seed=2),
        make("d", seed=0, overrides={BACKBONE: 0.5}),
    ]
    first, second = tables.variant_rows(records)
    assert (first["done"], first["failed"], first["seeds"]) == (2, 1, [0, 1, 2])
    assert first["mAP_mean"] == pytest.approx(0.5)
    assert (first["mAP_n"], first["mAP_min"], first["mAP_max"]) == (2, 0.4, 0.6)
    assert (second[BACKBONE], second["done"]) == (0.5, 1)


def test_labels_name_the_seed_only_where_seeds_differ(make: Make) -> None:
    assert tables.labels([make("a", seed=7)]) == ["#1: 0.25"]
    assert tables.labels([make("a", seed=0), make("b", seed=1)]) == [
        "#1: 0.25, seed 0",
        "#2: 0.25, seed 1",
    ]
    assert tables.labels([make(overrides={}, name="baseline")]) == ["#1: baseline"]


def test_csv_leaves_missing_fields_empty(make: Make) -> None:
    blocks = {"detector.backbone.blocks": [3, 6]}
    rows = tables.trial_rows([make(overrides=blocks, metrics={"mAP": None})])
    (read,) = csv.DictReader(io.StringIO(tables.to_csv(rows)))
    assert read["mAP"] == ""
    assert read["detector.backbone.blocks"] == "[3, 6]"
    assert float(read["params"]) == 4e6


def test_rows_are_plain_json(make: Make) -> None:
    rows = tables.trial_rows([make()])
    assert json.loads(json.dumps(rows)) == rows


def test_markdown_escapes_what_would_break_the_table() -> None:
    rows = [{"name": "a|b", "mAP": None, "params": 4896168.0}]
    text = tables.to_markdown(rows, {"name": "trial", "mAP": "mAP", "params": "params"})
    assert text.splitlines() == [
        "| trial | mAP | params |",
        "| --- | --- | --- |",
        "| a\\|b | – | 4,896,168 |",
    ]
