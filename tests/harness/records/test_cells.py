from typing import Any

import numpy as np
import pytest

from harness.records import Record, cells
from tests.reports.conftest import make_record


def records(*pairs: tuple[int, int]) -> list[Record]:
    return [
        make_record(f"t{n}", overrides={"detector.width": width}, seed=seed)
        for n, (width, seed) in enumerate(pairs)
    ]


def test_the_scatter_is_what_cells_and_seeds_leave_over() -> None:
    found = cells.cells(records((1, 0), (2, 0), (1, 1), (2, 1)), np.array([1.0, 3.0, 2.0, 6.0]))
    assert (found.scatter, found.fit.freedom, found.counts, found.seeds) == (
        "seeds",
        1,
        [2, 2],
        [0, 1],
    )
    assert found.values == pytest.approx([1.5, 4.5])
    assert found.fit.variance == pytest.approx(1.0)  # rests of half a unit each


def test_a_seed_that_is_missing_counts_as_the_others_tell() -> None:
    """Seed 1 gives 2 more; the cell that lacks it is as if it had it."""
    found = cells.comparable(records((1, 0), (2, 0), (1, 1)), np.array([1.0, 3.0, 3.0]))
    assert found.values == pytest.approx([2.0, 4.0])
    assert found.scatter == "few seeds"


def test_cells_without_a_common_seed_are_compared_by_their_means() -> None:
    pairs = records((1, 0), (1, 1), (2, 2), (2, 3))
    found = cells.comparable(pairs, np.array([1.0, 2.0, 5.0, 7.0]))
    assert found.seeds == []
    assert found.values == pytest.approx([1.5, 6.0])
    assert found.fit.variance == pytest.approx((0.5 + 2.0) / 2)


@pytest.mark.parametrize(
    ("pairs", "scatter"),
    [(((1, 0), (2, 0)), "one seed"), (((1, 0), (2, 0), (1, 1)), "few seeds")],
)
def test_without_repetitions_there_is_no_scatter(pairs: Any, scatter: str) -> None:
    assert cells.cells(records(*pairs), np.ones(len(pairs))).scatter == scatter


def test_equal_values_of_seeds_do_not_tell_the_scatter() -> None:
    pairs = records((1, 0), (2, 0), (1, 1), (2, 1))
    found = cells.cells(pairs, np.array([0.1, 0.3, 0.2, 0.4]))  # seed 1 gives 0.1 more to both
    assert (found.scatter, found.fit.variance, found.fit.freedom) == ("equal seeds", None, 1)
    assert found.fit.half(found.mean(0) - found.mean(1), 0.95) is None


def test_the_same_seed_twice_is_no_repetition() -> None:
    found = cells.cells(records((1, 0), (1, 0), (2, 0)), np.array([1.0, 2.0, 4.0]))
    assert found.scatter == "one seed"
    assert found.values == pytest.approx([1.5, 4.0])
