import math

import pytest

from reports import points
from reports.points import Bound
from tests.reports.conftest import Make

KNOB = "detector.backbone.expand_ratio"


def test_trade_off_leaves_out_what_lacks_a_metric(make: Make, failing: Make) -> None:
    records = [
        make("a"),
        failing(),
        make("b", metrics={"latency_ms": None}),
        make("c", metrics={"mAP": 0.4, "latency_ms": 12.0}),
    ]
    first, last = points.trade_off(records, "latency_ms")
    assert (first.number, first.x, first.y) == (1, Bound(10.0, 9.8, 10.3), Bound(50.0))
    assert (last.number, last.optimal) == (4, False)
    assert first.optimal
    assert first.hover == ("expand_ratio: 0.25", "seed: 0")


def test_a_dot_that_is_not_ranked_is_placed_and_on_no_front(make: Make) -> None:
    records = [make("a"), make("b", metrics={"mAP": 0.9, "latency_ms": 1.0})]
    bare = records[1].model_copy(update={"metrics": {"mAP": 0.9}})
    first, second = points.trade_off(records, "latency_ms", ranked=[records[0], bare])
    assert (first.ranked, first.optimal) == (True, True)
    assert (second.ranked, second.optimal, second.x.value) == (False, False, 1.0)


def test_trials_that_were_given_up_are_no_dots(make: Make) -> None:
    assert points.trade_off([make("a", state="pruned")], "latency_ms") == []


def test_variants_are_placed_at_their_means(make: Make) -> None:
    records = [
        make("a", seed=0, metrics={"mAP": 0.4, "params": 1e6}),
        make("b", seed=1, metrics={"mAP": 0.5, "params": 1e6}),
        make("c", overrides={KNOB: 0.5}, metrics={"mAP": 0.3, "params": 2e6}),
    ]
    first, second = points.variant_trade_off(records, "params")
    assert first.x == Bound(1.0, 1.0, 1.0)
    assert (first.y.value, first.y.low, first.y.high) == pytest.approx((45, 40, 50))
    assert first.hover[-1] == "mean of n = 2"
    assert (second.y, second.optimal) == (Bound(30.0), False)


def test_stages_hold_only_what_was_measured(make: Make, failing: Make) -> None:
    (item,) = points.stages([make(metrics={"neck_ms": None}), failing()])
    assert item.times == {"backbone_ms": 5.0, "head_ms": 1.0, "nms_ms": 1.5}
    assert item.total == 10.0


def test_curves_are_by_epoch_and_skip_what_is_missing(make: Make) -> None:
    records = [make("a"), make("b", seed=1)]
    assert points.curve_names(records) == ["loss", "mAP", "loss_cls", "lr"]
    first, second = points.curves(records, "loss")
    assert (first.epochs, first.values) == ([1.0, 2.0], [3.0, 2.0])
    assert [(c.variant, c.repeat) for c in (first, second)] == [(0, 0), (0, 1)]
    assert points.curves(records, "mAP")[0].epochs == [2.0]
    assert points.curves(records, "mAP")[0].values == [50.0]


def test_curves_skip_values_that_are_not_finite(make: Make) -> None:
    rows = [{"epoch": 1.0, "loss": math.nan}, {"epoch": 2.0, "loss": 1.0}]
    assert points.curves([make(curves=rows)], "loss")[0].values == [1.0]
    shared = {"training": {"training": "t"}}
    trials = [make(name, seed=0, curves=rows, details=shared) for name in ("a", "b")]
    (line,) = points.curves(trials, "loss")  # of one training
    assert line.number == 1


def test_raw_latencies_keep_their_order_and_outliers(make: Make, failing: Make) -> None:
    (item,) = points.timed([make(), failing()])
    assert item.end_to_end == [10.0, 9.0, 11.0, 30.0]
    assert item.reference == [8.0, 8.5]


def test_raw_latencies_of_shared_rounds_are_on_the_scale_of_their_median(make: Make) -> None:
    (item,) = points.timed([make(details={"together": {"scale": 2.0}})])
    assert item.end_to_end == [20.0, 18.0, 22.0, 60.0]
    assert item.reference == [16.0, 17.0]


def test_swept_knobs_take_more_than_one_value(make: Make) -> None:
    records = [make("a", overrides={KNOB: x, "recipe.lr": 0.1}) for x in (0.25, 0.5)]
    assert points.swept(records) == [KNOB]
    assert points.swept(records[:1]) == []


def test_sweep_orders_numbers_and_keeps_every_trial(make: Make, failing: Make) -> None:
    records = [
        make("a", overrides={KNOB: 0.5}, metrics={"mAP": 0.5}),
        make("b", overrides={KNOB: 0.25}, metrics={"mAP": 0.4}),
        make("c", overrides={KNOB: 0.25}, metrics={"mAP": 0.3}, seed=1),
        failing(overrides={KNOB: 1.0}),
    ]
    sweep = points.sweep(records, KNOB, "mAP")
    assert (sweep.knob, sweep.settings, sweep.numbers) == (
        "expand_ratio",
        ["0.25", "0.5"],
        [0.25, 0.5],
    )
    assert sweep.values == [[40.0, 30.0], [50.0]]


def test_sweep_of_choices_keeps_their_order(make: Make) -> None:
    records = [make(str(i), overrides={KNOB: x}) for i, x in enumerate(["shared", "sepbn"])]
    sweep = points.sweep(records, KNOB, "mAP")
    assert (sweep.settings, sweep.numbers) == (["shared", "sepbn"], None)


def test_grid_averages_seeds_and_leaves_holes(make: Make, failing: Make) -> None:
    other = "detector.neck.expand_ratio"
    records = [
        make("a", overrides={KNOB: 0.5, other: 1}, metrics={"mAP": 0.5}),
        make("b", overrides={KNOB: 0.5, other: 1}, metrics={"mAP": 0.3}, seed=1),
        make("c", overrides={KNOB: 0.25, other: 2}, metrics={"mAP": 0.2}),
        failing(overrides={KNOB: 0.25, other: 1}),
    ]
    grid = points.grid(records, (KNOB, other), "mAP")
    assert (grid.xs, grid.ys) == (["0.25", "0.5"], ["1", "2"])
    assert grid.means == [[None, 40.0], [20.0, None]]
    assert grid.counts == [[0, 2], [1, 0]]


def test_axis_holds_values_with_a_margin() -> None:
    assert points.axis_range([10, 20], least=0) == pytest.approx((8.8, 21.2))


def test_axis_of_one_value_is_as_wide_as_asked() -> None:
    assert points.axis_range([50], least=4) == (48, 52)


def test_axis_stays_within_what_is_possible() -> None:
    assert points.axis_range([1, 99], least=4, floor=0, ceiling=100) == (0, 100)
