import numpy as np
import pytest

from harness.records.fronts import dominates, front


def test_the_front_is_what_nothing_beats_by_hand() -> None:
    cheap, good, worse, same_cost, same_gain = (-1, 1), (-2, 3), (-3, 2), (-2, 2), (-4, 3)
    expected = [True, True, False, False, False]
    assert front([cheap, good, worse, same_cost, same_gain]) == expected


def test_equal_points_are_both_on_the_front() -> None:
    assert front([(1, 1), (1, 1)]) == [True, True]
    assert front([(1, 1), (1, 1), (1, 2)]) == [False, False, True]
    assert front([]) == []


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_a_point_is_on_the_front_unless_another_dominates_it(objectives: int) -> None:
    points = np.random.default_rng(0).integers(0, 4, (40, objectives)).tolist()
    expected = [not any(dominates(other, point) for other in points) for point in points]
    assert front(points) == expected
    assert 0 < sum(expected) < len(points)
