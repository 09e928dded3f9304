"""From numbers to verdicts, and that these are wrong as seldom as their intervals promise."""

from decimal import Decimal

import numpy as np
import pytest

from harness.analysis.reproduce import tables, verdicts
from harness.analysis.reproduce.schema import Known, Table
from harness.analysis.reproduce.verdicts import Judged

COUNTED = {"macs": Decimal("79.8973952")}
KNOWN = Known(counted="79.90", reason="a misprint, says the source")


@pytest.mark.parametrize(
    ("printed", "value", "cut", "text"),
    [
        ("8.10", "8.104", False, "8.10"),
        ("8.1", "8.15", False, "8.2"),  # half up, not to even
        ("14.8", "14.85", False, "14.9"),
        ("42", "42.89", True, "42"),
        ("42", "42.89", False, "43"),
        ("9.01", "9.0099999", True, "9.00"),
    ],
)
def test_a_value_is_written_as_it_would_be_printed(
    printed: str, value: str, cut: bool, text: str
) -> None:
    assert verdicts.as_printed(Decimal(value), printed, cut=cut) == text


def test_a_count_that_gives_the_printed_digits_is_reproduced() -> None:
    assert verdicts.count("79.9", COUNTED) == Judged(
        "reproduced", "", pytest.approx(79.8973952), 0.0, shown="79.9"
    )
    several = {"macs": Decimal("14.76"), "mmengine": Decimal("14.83")}
    found = verdicts.count("14.8", several)
    assert (found.verdict, found.shown) == ("reproduced", "14.8")
    found = verdicts.count("14.83", several)
    assert found.reason == "by mmengine; macs gives 14.76"


def test_a_count_that_gives_other_digits_differs_by_so_much() -> None:
    found = verdicts.count("79.7", COUNTED)
    assert (found.verdict, found.reason, found.shown) == ("differs", "unexplained", "79.9")
    assert found.difference == pytest.approx(0.2)
    known = verdicts.count("79.7", COUNTED, known=KNOWN)
    assert (known.verdict, known.reason, known.shown) == ("differs", KNOWN.reason, "79.90")
    assert known.difference == pytest.approx(0.2)


def test_a_known_difference_explains_no_other_one() -> None:
    found = verdicts.count("79.7", {"macs": Decimal("81.3")}, known=KNOWN)
    assert found.verdict == "differs"
    assert found.reason.startswith("unexplained; the table expects 79.90")


def test_a_known_difference_that_is_gone_is_reproduced() -> None:
    assert verdicts.count("79.9", COUNTED, known=KNOWN).verdict == "reproduced"


@pytest.mark.parametrize(
    ("printed", "place", "gap"),
    [
        (["51.4", "50.9", "51.3"], 0, 0.1),
        (["51.4", "50.9", "51.3"], 1, 0.4),
        (["44.4", "44.4", None, "44.9"], 0, 0.5),  # equal rows are no neighbours
        (["44.4", "44.4"], 0, None),
        (["44.4"], 0, None),
        (["44.4", "about 45"], 0, None),
    ],
)
def test_the_gap_is_that_to_the_nearest_other_figure(
    printed: list[str | None], place: int, gap: float | None
) -> None:
    assert verdicts.gap(printed, place) == pytest.approx(gap)


def test_the_interval_is_that_of_one_training_against_the_mean_of_several() -> None:
    """By hand: s = 0.1, n = 3, t(2) = 4.302653."""
    found = verdicts.trained("50.0", [50.0, 50.1, 50.2], gap=5.0)
    half = 4.302653 * 0.1 * np.sqrt(1 + 1 / 3)
    assert found.measured == pytest.approx(50.1)
    assert (found.low, found.high) == pytest.approx((0.1 - half, 0.1 + half), abs=1e-6)
    assert found.verdict == "reproduced"


@pytest.mark.parametrize(
    ("values", "gap", "verdict", "reason"),
    [
        ([50.0], 5.0, "not settled", "one seed, which has no interval"),
        ([44.0], 5.0, "not settled", "one seed, which has no interval"),
        ([50.0, 50.1, 50.2], 1.5, "not settled", "wider than half the gap of 1.5"),
        ([50.0, 50.1, 50.2], None, "not settled", "no other row to tell it from"),
        ([51.0, 51.1, 51.2], 5.0, "differs", "unexplained; 95 % interval"),
        ([51.0, 51.1, 51.2], 0.1, "differs", "unexplained; 95 % interval"),
        ([50.02, 50.021, 50.02], 5.0, "reproduced", "3 seeds"),  # 0.02 is less than is printed
        ([50.08, 50.081, 50.08], 5.0, "differs", "3 seeds"),
        ([44.0, 44.0], 5.0, "not settled", "2 seeds with equal values, which do not tell"),
    ],
)
def test_an_accuracy_is_judged_by_its_interval(
    values: list[float], gap: float | None, verdict: str, reason: str
) -> None:
    found = verdicts.trained("50.0", values, gap)
    assert found.verdict == verdict
    assert reason in found.reason


def test_a_known_reason_stands_with_an_accuracy_that_differs() -> None:
    found = verdicts.trained("50.0", [51.0, 51.1, 51.2], 5.0, known=KNOWN)
    assert found.reason.startswith(f"{KNOWN.reason}; 95 %")


@pytest.mark.parametrize(("value", "verdict"), [(40.949, "differs"), (40.951, "reproduced")])
def test_released_weights_are_judged_to_the_printed_digit(value: float, verdict: str) -> None:
    assert verdicts.evaluated("41.0", value).verdict == verdict


@pytest.mark.parametrize(
    ("published", "low", "high", "verdict"),
    [
        (-0.5, -0.9, -0.1, "appears"),
        (0.5, 0.1, 0.9, "appears"),
        (0.5, -0.9, -0.1, "contradicts"),
        (0.5, -0.1, 0.9, "not settled"),
        (0.5, 0.0, 0.9, "not settled"),
        (0.5, None, None, "not settled"),
    ],
)
def test_a_published_order_appears_where_the_interval_leaves_zero_out(
    published: float, low: float | None, high: float | None, verdict: str
) -> None:
    assert verdicts.order(published, low, high)[0] == verdict


TABLES = 200
NOISE = 0.15  # points of AP from seed to seed
SEEDS = 3


def published() -> Table:
    return tables.load("rtmdet/table5b_blocks")


def trainings(rng: np.random.Generator, truth: float, count: int) -> list[float]:
    return (truth + NOISE * rng.standard_normal(count)).tolist()


def simulated(shift: float, seeds: int) -> list[Judged]:
    """Draw tables from the published one: theirs of one training a row, ours of several.

    Args:
        shift: of our rows' true values against theirs, points.
        seeds: of ours.
    """
    rng = np.random.default_rng(0)
    truths = [float(str(row.cells["AP"])) for row in published().rows]
    judged = []
    for _ in range(TABLES):
        printed = [f"{trainings(rng, truth, 1)[0]:.1f}" for truth in truths]
        for place, truth in enumerate(truths):
            gap = verdicts.gap(printed, place)
            values = trainings(rng, truth + shift, seeds)
            judged.append(verdicts.trained(printed[place], values, gap))
    return judged


def share(judged: list[Judged], verdict: str) -> float:
    return float(np.mean([item.verdict == verdict for item in judged]))


def test_tables_that_agree_are_called_different_as_seldom_as_promised() -> None:
    """5 % of 600 cells are 30, give or take 5.3; rounding adds a little to each interval."""
    wrong = share(simulated(0.0, SEEDS), "differs")
    assert 0.02 <= wrong <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 600)


def test_one_noisy_seed_reproduces_nothing_and_refutes_nothing() -> None:
    for shift in (0.0, 2.0):
        assert share(simulated(shift, 1), "not settled") == 1.0


def test_tables_that_differ_are_never_called_reproduced_and_mostly_found_out() -> None:
    judged = simulated(2.0, SEEDS)
    assert share(judged, "reproduced") == 0.0
    assert share(judged, "differs") > 0.9


def test_many_seeds_reproduce_what_few_leave_open() -> None:
    """Where rows lie far apart: 3 seeds give an interval of about 1.5 points, 20 of 0.65."""
    rng, counts = np.random.default_rng(1), {}
    for seeds in (SEEDS, 20):
        found = [
            verdicts.trained("50.0", trainings(rng, 50.0, seeds), gap=1.5) for _ in range(TABLES)
        ]
        counts[seeds] = share(found, "reproduced")
    assert counts[SEEDS] < 0.25
    assert counts[20] > 0.7


def test_a_table_that_is_wrong_on_purpose_is_called_different() -> None:
    """Counts of another detector, and accuracies that lie a point beside."""
    rng = np.random.default_rng(2)
    for row in published().rows:
        wrong = f"{float(str(row.cells['params'])) + 0.1:.2f}"
        truth = {"parameters": Decimal(str(row.cells["params"]))}
        assert verdicts.count(wrong, truth).verdict == "differs"
        beside = f"{float(str(row.cells['AP'])) + 2:.1f}"
        values = trainings(rng, float(str(row.cells["AP"])), 5)
        assert verdicts.trained(beside, values, 0.4).verdict == "differs"
