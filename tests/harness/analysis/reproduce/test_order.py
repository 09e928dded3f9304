"""Comparisons between the rows of a published table, and whether they appear here."""

import pytest

from harness.analysis.reproduce.measured import Ours, values
from harness.analysis.reproduce.order import Comparison, compare_rows
from harness.analysis.reproduce.schema import Column
from harness.records import Record
from tests.harness.analysis.reproduce.published import trained
from tests.reports.conftest import together

AP = Column(name="AP", unit="%", metric="mAP")
LATENCY = Column(name="latency", unit="ms", metric="latency_ms", device="T4")
FPS = Column(name="fps", unit="images/s", metric="fps", device="T4")
NMS = Column(name="nms", unit="ms", metric="nms_ms", device="T4")


def ours(label: str, printed: str | None, records: list[Record]) -> Ours:
    return Ours(label, printed, None, None, records)


def seeds(width: int, values: list[float]) -> list[Record]:
    return [trained(width, seed, ap) for seed, ap in enumerate(values)]


def only(column: Column, *rows: Ours) -> Comparison:
    (found,) = compare_rows(column, rows)
    return found


LOW, HIGH = [40.0, 40.1, 40.2], [41.0, 41.1, 41.2]


@pytest.mark.parametrize(
    ("printed", "values", "verdict"),
    [
        (("50", "51"), (LOW, HIGH), "appears"),
        (("51", "50"), (HIGH, LOW), "appears"),
        (("51", "50"), (LOW, HIGH), "contradicts"),
        (("50", "51"), (HIGH, LOW), "contradicts"),
        (("50", "51"), (LOW, [40.1, 40.2, 40.3]), "not settled"),
        (("50", "51"), (LOW, [41.0]), "not settled"),
        (("50", "51"), ([40.0], [41.0]), "not settled"),
    ],
)
def test_the_interval_decides_on_the_order_of_two_rows(
    printed: tuple[str, str], values: tuple[list[float], list[float]], verdict: str
) -> None:
    rows = [ours(str(w), p, seeds(w, v)) for w, p, v in zip((4, 8), printed, values, strict=True)]
    assert only(AP, *rows).verdict == verdict


def test_rows_of_the_same_trainings_are_compared_training_by_training() -> None:
    """By hand: differences of 1.0, 1.1 and 1.2; s = 0.1, 2 degrees of freedom, t = 4.302653."""
    reached = [30.0, 40.0, 50.0]
    mine, others = (
        [
            trained(width, seed, ap, details={"training": {"training": f"t{seed}"}})
            for seed, ap in enumerate(figures)
        ]
        for width, figures in ((4, reached), (8, [ap + 1 + i / 10 for i, ap in enumerate(reached)]))
    )
    found = only(AP, ours("4", "50", mine), ours("8", "51", others[::-1]))
    half = 4.302653 * 0.1 * (1 / 3) ** 0.5
    assert (found.low, found.high) == pytest.approx((1.1 - half, 1.1 + half), abs=1e-6)
    assert (found.verdict, found.reason) == ("appears", "over 3 trainings that both rows share")
    apart = only(AP, ours("4", "50", mine), ours("8", "51", others[:2]))
    assert (apart.verdict, apart.reason) == ("not settled", "the interval holds zero; over 2 seeds")


def test_the_interval_is_that_of_compare() -> None:
    """By hand: both have s = 0.1 and n = 3, so 4 degrees of freedom, t = 2.776445."""
    found = only(AP, ours("4", "50", seeds(4, LOW)), ours("8", "51.5", seeds(8, HIGH)))
    half = 2.776445 * 0.1 * (2 / 3) ** 0.5
    assert (found.published, found.measured) == pytest.approx((1.5, 1.0))
    assert (found.low, found.high) == pytest.approx((1 - half, 1 + half), abs=1e-6)


def test_what_varies_with_the_images_widens_the_interval() -> None:
    rows = [ours("4", "50", seeds(4, LOW)), ours("8", "51", seeds(8, HIGH))]
    (narrow,) = compare_rows(AP, rows)
    (wide,) = compare_rows(AP, rows, lambda a, b, metric: (4.0, 87))
    assert (narrow.verdict, wide.verdict) == ("appears", "not settled")
    assert wide.measured == narrow.measured


def test_equal_figures_and_missing_ones_are_not_compared() -> None:
    rows = [
        ours("a", "50", seeds(4, LOW)),
        ours("b", "50", seeds(8, HIGH)),
        ours("c", None, seeds(8, HIGH)),
        ours("d", "51", []),
        ours("e", "52", seeds(4, LOW)),  # the trials of the first row
    ]
    assert [(pair.first, pair.second) for pair in compare_rows(AP, rows)] == [("b", "e")]


def test_times_are_compared_by_their_ratio() -> None:
    rows = [ours("a", "2.0", [together("first")]), ours("b", "3.0", [together("b", 1.6)])]
    found = only(LATENCY, *rows)
    assert (found.published, found.measured, found.unit) == (1.5, pytest.approx(1.6), "ratio")
    assert (found.low, found.high) == pytest.approx((1.58, 1.62))
    assert found.verdict == "appears"
    tied = [ours("a", "2.0", [together("first")]), ours("b", "3.0", [together("b", 1.01)])]
    assert only(LATENCY, *tied).verdict == "not settled"
    turned = [ours("a", "3.0", [together("first")]), ours("b", "2.0", [together("b", 1.6)])]
    assert only(LATENCY, *turned).verdict == "contradicts"


def test_speeds_are_compared_the_other_way_round() -> None:
    rows = [ours("a", "100", [together("first")]), ours("b", "70", [together("b", 1.6)])]
    found = only(FPS, *rows)
    assert (found.published, found.measured) == pytest.approx((0.7, 1 / 1.6))
    assert (found.low, found.high) == pytest.approx((1 / 1.62, 1 / 1.58))
    assert found.verdict == "appears"


def test_times_of_several_seeds_have_the_interval_over_these() -> None:
    slow = [{"nms_ms": value} for value in (2.0, 2.1, 2.2)]
    sides = [
        [trained(4, seed, 40, metrics={"nms_ms": 1.0 + seed / 100}) for seed in range(3)],
        [trained(8, seed, 40, metrics=metrics) for seed, metrics in enumerate(slow)],
    ]
    rows = [ours("a", "1.0", sides[0]), ours("b", "1.5", sides[1])]
    found = only(NMS, *rows)
    assert found.verdict == "appears"
    assert found.low is not None
    assert 1 < found.low < found.measured < 2.2
    single = [ours("a", "1.0", sides[0][:1]), ours("b", "1.5", sides[1][:1])]
    assert only(NMS, *single).verdict == "not settled"


@pytest.mark.parametrize(
    ("metric", "own", "shown"),
    [
        ("fps", "latency_ms", 250.0),
        ("network_fps", "network_ms", 250.0),
        ("training_ms", "images_per_second", 250.0),
        ("nms_ms", "nms_ms", 4.0),
    ],
)
def test_rates_are_a_thousand_over_what_a_record_has(metric: str, own: str, shown: float) -> None:
    column = Column.model_validate({"name": "x", "metric": metric, "device": "T4"})
    assert values([trained(4, 0, 40, metrics={own: 4.0})], column) == [shown]
    assert values([trained(4, 0, 40, metrics={"latency_ms": None, own: None})], column) == []
