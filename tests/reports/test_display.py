import pytest

from reports import display, tables
from reports.display import Cell, Table
from tests.reports.conftest import Make


def cell(table: Table, row: int, key: str) -> Cell:
    return table.rows[row][[column.key for column in table.columns].index(key)]


def test_cells_show_units_and_intervals(make: Make) -> None:
    table = display.trial_table([make()])
    assert cell(table, 0, "mAP").text == "50.0"
    assert cell(table, 0, "params").text == "4.00"
    assert cell(table, 0, "macs").text == "2.00"
    latency = cell(table, 0, "latency_ms")
    assert (latency.text, latency.small, latency.sort) == ("10.0", "9.8 to 10.3", 10.0)


def test_ties_are_shown_as_ties(make: Make) -> None:
    ratios = {"latency_ratio": 1.01, "latency_ratio_low": 0.99, "latency_ratio_high": 1.02}
    records = [make("first"), make("b", metrics=ratios, details={"reference": "first"})]
    shown = cell(display.trial_table(records), 1, "latency_ratio")
    assert (shown.text, shown.small, shown.style) == ("≈ 1.010", "0.990 to 1.020", "tie")


@pytest.mark.parametrize(
    ("mine", "text"), [(0.512, "+1.2"), (0.488, "−1.2"), (0.5002, "0.0"), (0.4998, "0.0")]
)
def test_differences_have_a_sign(make: Make, mine: float, text: str) -> None:
    table = display.trial_table([make("first"), make("b", metrics={"mAP": mine})])
    assert cell(table, 1, "mAP_delta").text == text


def test_the_first_trial_is_marked_and_has_no_differences(make: Make) -> None:
    table = display.trial_table([make("first"), make("b")])
    assert cell(table, 0, "number").small == "baseline"
    assert cell(table, 0, "mAP_delta").text == ""


def test_a_missing_value_is_a_dash_with_its_reason_and_never_zero(make: Make) -> None:
    records = [make("a"), make("b", metrics={"nms_ms": None}, absent={"nms_ms": "has no NMS"})]
    table = display.trial_table(records)
    shown = cell(table, 1, "nms_ms")
    assert (shown.text, shown.sort, shown.hint) == (display.DASH, None, "has no NMS")
    assert [dict(table.lettered)[letter] for letter in shown.notes] == ["NMS missing: has no NMS"]


def test_caveats_become_footnotes_that_equal_ones_share(make: Make) -> None:
    caveats = {"nms_ms": "untrained"}
    records = [make("a", caveats=caveats), make("b", caveats=caveats), make("c")]
    table = display.trial_table(records)
    assert table.notes == ["NMS: untrained"]
    assert [cell(table, row, "nms_ms").notes for row in range(3)] == [("a",), ("a",), ()]


def test_what_all_trials_share_is_one_sentence_and_marks_no_row(make: Make, failing: Make) -> None:
    caveats = {key: "2 of 12 rounds disturbed, dropped" for key in ("network_ms", "nms_ms")}
    others = {key: "3 of 12 rounds disturbed, dropped" for key in ("network_ms", "nms_ms")}
    table = display.trial_table([make("a", caveats=caveats), make("b", caveats=others), failing()])
    assert table.shared == (
        "Of all trials that are done: network, NMS: 2 to 3 of 12 rounds disturbed, dropped."
    )
    assert table.notes == []
    assert cell(table, 1, "nms_ms").hint == "3 of 12 rounds disturbed, dropped"


def test_what_holds_for_several_numbers_of_a_row_is_marked_once(make: Make) -> None:
    names = ("latency_ms", "latency_p95_ms", "network_ms", "nms_ms", "mAP", "mAP_50")
    records = [make("a"), make("b", caveats=dict.fromkeys(names, "of another day"))]
    table = display.trial_table(records)
    assert [cell.notes for cell in table.rows[1] if cell.notes] == [("a",)]
    assert cell(table, 1, "number").notes == ("a",)
    assert table.notes[0].endswith("p95, network, NMS: of another day")


def test_a_size_that_all_share_has_no_column_of_differences(make: Make) -> None:
    table = display.trial_table([make("a"), make("b", metrics={"macs": 1e9})])
    keys = [column.key for column in table.columns]
    assert "params_delta" not in keys
    assert "macs_delta" in keys
    assert "against the baseline: params, %: the same in all trials" in table.hidden


def test_a_latency_without_interval_says_why(make: Make) -> None:
    bounds = {"latency_low_ms": None, "latency_high_ms": None}
    record = make(metrics=bounds, absent={"latency_low_ms": "too few samples"})
    table = display.trial_table([record])
    assert cell(table, 0, "latency_ms").small == ""
    assert "end to end: no interval: too few samples" in table.notes


def test_columns_that_no_trial_fills_are_left_out_with_the_reason(make: Make) -> None:
    reason = "the study does not measure accuracy"
    absent = {"mAP": reason, "mAP_50": reason}
    table = display.trial_table([make(metrics={"mAP": None, "mAP_50": None}, absent=absent)])
    assert "mAP" not in [column.key for column in table.columns]
    assert f"accuracy, %: mAP: {reason}" in table.hidden


def test_what_few_studies_measure_is_shown_where_it_is_and_not_missed_elsewhere(make: Make) -> None:
    metrics = {"images_per_second": 41.25, "prop_cls": 0.0082, "prop_both": 0.0067}
    records = [make("a", metrics=metrics), make("b", absent={"prop_cls": "selects none"})]
    table = display.trial_table(records)
    shown = [cell(table, 0, name).text for name in metrics]
    assert shown == ["41.2", "0.820", "0.670"]
    assert cell(table, 1, "prop_cls").hint == "selects none"
    without = display.trial_table([make("a"), make("b")])
    assert not {*metrics} & {column.key for column in without.columns}
    assert not any("selected" in text or "images/s" in text for text in without.hidden)
    seeds = display.variant_table([make("a", metrics=metrics), make("b", seed=1, metrics=metrics)])
    assert cell(seeds, 0, "images_per_second").text == "41.2"


def test_failed_trials_show_their_cause_and_no_numbers(make: Make, failing: Make) -> None:
    table = display.trial_table([make("a"), failing()])
    assert cell(table, 1, "state").text == "failed: out of memory"
    assert cell(table, 1, "latency_ms").text == display.DASH
    assert cell(table, 1, "latency_ms").hint == "the trial failed: needs 9 GB of 8 GB"


def test_a_ratio_against_another_trial_says_so(make: Make) -> None:
    ratios = {"latency_ratio": 1.0, "latency_ratio_low": 0.9, "latency_ratio_high": 1.1}
    records = [
        make("first"),
        make("b", metrics=ratios, details={"reference": "first"}),
        make("c", metrics=ratios, details={"reference": "gone"}),
    ]
    table = display.trial_table(records)
    assert "timed against trial gone" in cell(table, 2, "latency_ratio").hint


def test_groups_span_their_columns(make: Make) -> None:
    table = display.trial_table([make()])
    assert table.groups[:3] == [("trial", 2), ("knobs", 1), ("accuracy, %", 2)]
    assert {2, 3, 5} <= table.edges
    assert sum(span for _, span in table.groups) == len(table.columns)


def test_variants_say_how_many_and_how_far_apart(make: Make, failing: Make) -> None:
    records = [
        make("a", seed=0, metrics={"mAP": 0.4}),
        make("b", seed=1, metrics={"mAP": 0.6, "nms_ms": None}),
        failing("c", seed=2),
    ]
    table = display.variant_table(records)
    assert cell(table, 0, "done").text == "2"
    assert cell(table, 0, "mAP")[:3] == ("50.0", 0.5, "40.0 to 60.0")
    assert cell(table, 0, "params").small == ""
    assert cell(table, 0, "nms_ms").small == "n = 1"


def test_variants_are_compared_over_seeds_and_ties_are_shown_as_ties(make: Make) -> None:
    knob = "detector.backbone.expand_ratio"
    values = {0.25: (40.0, 41.0, 42.0), 0.5: (50.0, 51.2, 51.8), 1.0: (40.3, 40.7, 42.0)}
    records = [
        make(f"{x}-{seed}", overrides={knob: x}, seed=seed, metrics={"mAP": value / 100})
        for x, found in values.items()
        for seed, value in enumerate(found)
    ]
    shown = [cell(display.variant_table(records), row, "mAP_delta") for row in range(3)]
    assert shown[0].text == ""
    assert (shown[1].text, shown[1].style) == ("+10.0", "")
    assert (shown[2].text, shown[2].style) == ("≈ 0.0", "tie")
    low, high = (float(text) for text in shown[1].small.split(" to "))
    assert 9.2 < low < 10 < high < 10.8
    alone = display.variant_table([make("a"), make("b", overrides={knob: 1})])
    assert "mAP_delta" not in [column.key for column in alone.columns]


@pytest.mark.parametrize(
    ("values", "places"), [([4.9, 94.8], 2), ([0.05], 3), ([120.0], 1), ([], 2), ([0.0, 31.0], 1)]
)
def test_decimals_show_three_digits_of_the_smallest(values: list[float], places: int) -> None:
    assert display.decimals(values) == places


def test_hand_made_names_stay_text(make: Make) -> None:
    record = make(overrides={"recipe.optimiser": "<b>"})
    assert cell(display.trial_table([record]), 0, "recipe.optimiser").text == "<b>"
    assert tables.title(make(name="")) == "toy"


def test_a_number_that_was_drawn_is_short_and_whole_under_the_pointer(make: Make) -> None:
    drawn = make("a", overrides={"recipe.lr": 0.0005998767680796905})
    written = make("b", overrides={"recipe.lr": 0.000125})
    table = display.trial_table([drawn, written])
    place = [column.key for column in table.columns].index("recipe.lr")
    first, second = (row[place] for row in table.rows)
    assert (first.text, first.hint) == ("0.0005999", "0.0005998767680796905")
    assert (second.text, second.hint) == ("0.000125", "")
