"""Comparisons whose parts are worked out by hand, or by scipy."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy.stats import t, ttest_rel

from harness.analysis import compare as compare_module
from harness.analysis.compare import compare, differences, matches
from harness.analysis.compare.differences import Difference, Measured, drawn_variance
from harness.analysis.compare.latency import compare_latency
from harness.analysis.compare.matches import ERRORS
from harness.measure.accuracy.evaluate import score
from harness.records import Record
from harness.records.progress import Progress
from tests.harness.detecting import detect, run, scenes


def figures(
    a: Sequence[Sequence[float]],
    b: Sequence[Sequence[float]],
    variance: float | Sequence[float],
    images: int = 100,
    *,
    paired: bool = False,
) -> list[Difference]:
    """Compare figures of [seeds][figures]; the variance is as drawn with replacement."""
    count = len(a[0])
    return differences.compare(
        Measured(
            [f"figure {index}" for index in range(count)],
            np.array(a),
            np.array(b),
            np.broadcast_to(variance, count),
            np.full(count, images),
            paired,
        )
    )


def test_the_variance_over_draws_leaves_out_those_without_the_figure() -> None:
    drawn = np.array([[1.0, np.nan, np.nan], [4.0, 3.0, np.nan], [7.0, 5.0, np.nan]])
    assert drawn_variance(drawn).tolist() == [9.0, 2.0, 0.0]


@pytest.mark.parametrize("images", [6, 50])
def test_one_training_a_side_has_students_interval_over_images(images: int) -> None:
    found = figures([[0.5]], [[0.53]], 0.0001, images)[0]
    error = math.sqrt(0.0001 * images / (images - 1))
    half = t.ppf(0.975, images - 1) * error
    assert (found.a, found.b, found.images) == (0.5, 0.53, images)
    assert (found.low, found.high) == pytest.approx((0.03 - half, 0.03 + half))
    p = 2 * t.sf(0.03 / error, images - 1)
    assert found.p == pytest.approx(max(p, 2.0 ** (1 - images)))
    assert found.p == figures([[0.53]], [[0.5]], 0.0001, images)[0].p


def test_fewer_than_six_images_have_no_interval_and_no_p() -> None:
    found = figures([[0.1]], [[0.9]], 0.0001, images=5)[0]
    assert (found.low, found.high, found.p, found.told_apart) == (None, None, None, False)


def test_images_that_all_agree_are_as_unlikely_as_heads_only() -> None:
    found = figures([[0.1]], [[0.2]], 0.0, images=6)[0]
    assert (found.low, found.high) == (found.difference, found.difference)
    assert found.p == 2 / 2**6
    assert found.told_apart
    nothing = figures([[0.1]], [[0.1]], 0.0, images=6)[0]
    assert (nothing.low, nothing.high, nothing.p) == (0.0, 0.0, 1.0)


@pytest.mark.parametrize("turned", [False, True])
def test_a_side_with_one_training_varies_as_the_other(turned: bool) -> None:
    several, one = [[0.1], [0.3], [0.2]], [[0.6]]
    found = figures(one, several, 0.0) if turned else figures(several, one, 0.0)
    half = t.ppf(0.975, 2) * math.sqrt(0.01 * (1 + 1 / 3))
    assert abs(found[0].difference) == pytest.approx(0.4)
    assert (found[0].high or 0) - (found[0].low or 0) == pytest.approx(2 * half)


def test_of_the_same_trainings_the_differences_vary() -> None:
    """Student's paired test: differences of 0.1, 0.2 and 0.3, whatever the trainings reached."""
    a, b = [[0.1], [0.5], [0.9]], [[0.2], [0.7], [1.2]]
    found = figures(a, b, 0.0, paired=True)[0]
    half = t.ppf(0.975, 2) * math.sqrt(0.01 / 3)
    assert (found.low, found.high) == pytest.approx((0.2 - half, 0.2 + half))
    flat = [[x[0] for x in side] for side in (a, b)]
    assert found.p == pytest.approx(ttest_rel(*flat).pvalue)
    apart = figures(a, b, 0.0)[0]
    assert (apart.high or 0) > 5 * half
    single = figures([[0.5]], [[0.53]], 0.0001, paired=True)
    assert single == figures([[0.5]], [[0.53]], 0.0001)  # images alone


@pytest.mark.parametrize(
    ("chances", "told"),
    [
        # Holm: the smallest of three is held against 0.05 / 3, the next against 0.05 / 2, ...
        ([0.016, 0.024, 0.049], [True, True, True]),
        ([0.049, 0.016, 0.024], [True, True, True]),
        ([0.017, 0.02, 0.02], [False, False, False]),
        ([0.016, 0.026, 0.049], [True, False, False]),  # it ends at the first that fails
        ([0.051], [False]),
        ([0.049], [True]),
    ],
)
def test_several_are_told_apart_as_holm_allows(chances: list[float], told: list[bool]) -> None:
    gaps = [t.isf(chance / 2, 99) * math.sqrt(0.0001 * 100 / 99) for chance in chances]
    found = figures([[0.0] * len(gaps)], [gaps], 0.0001)
    assert [item.p for item in found] == pytest.approx(chances)
    assert [item.told_apart for item in found] == told


def test_a_figure_that_one_side_lacks_is_left_out_of_the_family() -> None:
    gap = t.isf(0.02 / 2, 99) * math.sqrt(0.0001 * 100 / 99)
    found = figures([[0.0, np.nan, 0.0]], [[gap, 0.3, gap]], 0.0001)
    assert [(item.name, item.told_apart) for item in found] == [
        ("figure 0", True),
        ("figure 2", True),
    ]


def timed(
    trial: str, reference: str | None, ratio: Sequence[float] = (), *, device: str = "cpu"
) -> Record:
    names = ("latency_ratio", "latency_ratio_low", "latency_ratio_high")
    return run(
        [],
        trial=trial,
        metrics={"latency_ms": 8.0, **dict(zip(names, ratio, strict=False))},
        details={"reference": reference} if reference else {},
        environment={"device": device, "host": "h"},
    ).record


def test_ratios_through_a_third_trial_add_their_intervals_as_squares() -> None:
    # e^0.1 (-0.03, +0.04) against e^0.3 (-0.12, +0.05), on the scale of logarithms.
    first = timed("a", "x", [math.exp(value) for value in (0.1, 0.07, 0.14)])
    second = timed("b", "x", [math.exp(value) for value in (0.3, 0.18, 0.35)])
    found = compare_latency(first, second)
    below, above = math.hypot(0.12, 0.04), math.hypot(0.05, 0.03)
    expected = [math.exp(value) for value in (0.2, 0.2 - below, 0.2 + above)]
    assert (found.ratio, found.low, found.high) == pytest.approx(expected)
    moved = [8.0 * (value - 1) for value in expected]
    assert (found.difference_ms, found.low_ms, found.high_ms) == pytest.approx(moved)
    assert found.verdict == "slower"
    assert found.words == (
        "B is slower than A: 1.221 times its latency (95 % interval 1.076 to 1.295)"
    )


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [
        ((1.1, 1.0, 1.2), "no significant difference"),
        ((1.1, 1.001, 1.2), "slower"),
        ((0.9, 0.8, 1.0), "no significant difference"),
        ((0.9, 0.8, 0.999), "faster"),
        ((1.0, 0.9, 1.1), "no significant difference"),
    ],
)
def test_latency_is_told_apart_where_the_interval_leaves_one_out(
    ratio: Sequence[float], verdict: str
) -> None:
    found = compare_latency(timed("a", None), timed("b", "a", ratio))
    assert found.verdict == verdict
    assert found.words.startswith(
        "no significant difference in latency: "
        if verdict == "no significant difference"
        else f"B is {verdict} than A: "
    )
    assert f" {ratio[0]:.3f} times its latency" in found.words


RATIO = (1.2, 1.1, 1.3)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (timed("a", "x", RATIO), timed("b", "x", RATIO[:2])),  # one end is not known
        (timed("a", "x", RATIO[:1]), timed("b", "x", RATIO)),
        (timed("a", "b", RATIO[:2]), timed("b", None)),
        (timed("a", "x", RATIO), timed("b", None)),
        (timed("a", None), timed("b", "x", RATIO)),
    ],
)
def test_latency_without_a_measurement_in_common_is_not_compared(a: Record, b: Record) -> None:
    found = compare_latency(a, b)
    assert found[:-1] == (None,) * 7
    assert "not timed in turns" in found.words


def test_latency_of_another_device_is_not_compared() -> None:
    found = compare_latency(timed("a", None), timed("b", "a", RATIO, device="cuda:0"))
    assert found.verdict is None
    assert found.words == "latency is not compared: A and B were timed on different machines"


def test_why_a_latency_is_absent_is_passed_on() -> None:
    silent = run([]).record
    silent.absent["latency_ms"] = "the machine was busy"
    found = compare_latency(timed("a", None), silent)
    assert found.words == "latency is not compared: B has none (the machine was busy)"


def test_the_mean_of_what_there_is() -> None:
    rows = np.array([[1.0, np.nan, 3.0], [np.nan] * 3, [0.0, 0.0, 0.75]])
    np.testing.assert_array_equal(matches.mean(rows), [2.0, np.nan, 0.25])


def test_images_with_objects_are_counted_by_area_and_by_class() -> None:
    there = np.zeros((4, 4, 2), dtype=np.int64)  # images; all, small, medium, large; classes
    there[0, [0, 1], 0] = 2  # two small ones of the first class
    there[1, [0, 2], 1] = 1
    there[2, [0, 2], :] = 1
    expected = [3, 3, 3, 1, 2, 0, 2, 2]  # three of mAP, three areas, two classes; one is empty
    assert compare_module._with_objects(there).tolist() == expected


def compared(**options: Any) -> tuple[Any, list[Any], Any, list[Progress]]:
    """Compare two runs a side over scenes with everything; return sides' runs too."""
    draw = np.random.default_rng(3)
    split = scenes(draw, 12, classes=3)
    every = [run(detect(draw, split, recall), number) for number, recall in enumerate((0.9, 0.5))]
    steps: list[Progress] = []
    found = compare(every[:1], every[1:], split, draws=8, on_progress=steps.append, **options)
    return found, every, split, steps


def test_figures_are_those_of_the_evaluator_and_errors_are_sums_over_images() -> None:
    found, every, split, _ = compared()
    truth = split.ground_truth()
    scored = [score(truth, item.detections) for item in every]
    for item in (found.accuracy, *found.figures):
        assert (item.a, item.b) == pytest.approx([s.metrics[item.name] for s in scored])
    assert {item.name for item in found.figures} == {*scored[0].metrics} - {"mAP"}
    for item in found.classes:
        mine = [s.details["per_class"][item.name] for s in scored]
        assert (item.a, item.b) == pytest.approx(mine)
    moved = [abs(item.difference) for item in found.classes]
    assert moved == sorted(moved, reverse=True)
    for item in found.costs:
        before, after = (s.details["tide"]["delta_ap"][item.name] for s in scored)
        assert tuple(item) == pytest.approx((item.name, before, after, after - before))
    assert [item.name for item in found.costs] == list(ERRORS)
    first, second = (matches.match(truth, item.detections, (1, 10, 100)).errors for item in every)
    for index, item in enumerate(found.errors):
        change = second[:, index] - first[:, index]
        half = t.ppf(0.975, 11) * math.sqrt(12 * change.var(ddof=1))
        assert item.difference == change.sum()
        assert (item.low, item.high) == pytest.approx((change.sum() - half, change.sum() + half))


def test_draws_of_images_are_those_of_their_seed_and_shared_by_both_sides() -> None:
    found, every, split, steps = compared(seed=5)
    weights = np.random.default_rng(5).multinomial(12, [1 / 12] * 12, 8).astype(float)
    sides = [matches.match(split.ground_truth(), item.detections, (100,)) for item in every]
    drawn = [
        [matches.mean(side.precision(row)[0].reshape(-1)) for row in weights] for side in sides
    ]
    error = math.sqrt(np.var(np.subtract(*drawn), ddof=1) * 12 / 11)
    half = t.ppf(0.975, 11) * error
    assert found.accuracy.high - found.accuracy.low == pytest.approx(2 * half)
    assert [(step.phase, step.done, step.total) for step in steps] == [
        ("compare", done, 16) for done in range(1, 17)
    ]


def test_images_and_the_method_are_told() -> None:
    found, every, split, _ = compared(notes=["a note"])
    alone = [
        matches.match(split.ground_truth(), item.detections, (100,)).precision_alone()
        for item in every
    ]
    change = alone[1] - alone[0]
    places = sorted(range(12), key=lambda place: -abs(change[place]))[:10]
    assert [(item.image_id, item.difference) for item in found.images] == [
        (split.images[place].id, change[place]) for place in places if change[place]
    ]
    assert found.method["seeds"] == {"A": 1, "B": 1}
    assert (found.method["images"], found.method["draws"]) == (12, 8)
    assert "seeds" not in found.method["interval"]
    assert found.notes == ["a note"]
    assert found.words.count("with one seed the scatter is unknown") == 1  # it is said once
    assert [side["seed"] for side in (*found.sides["A"], *found.sides["B"])] == [0, 1]
