import numpy as np
import pytest
from scipy import stats

from harness.records.least_squares import fit


def test_a_line_has_the_slope_and_the_interval_that_scipy_gives() -> None:
    x = np.arange(8.0)
    y = 2 * x + 1 + np.array([0.1, -0.2, 0.05, 0.3, -0.1, 0.0, -0.25, 0.2])
    found, known = fit(np.column_stack([np.ones(8), x]), y), stats.linregress(x, y)
    assert found.coefficients == pytest.approx([known.intercept, known.slope])
    assert found.freedom == 6
    half = known.stderr * stats.t.ppf(0.975, 6)
    assert found.half(np.array([0.0, 1.0]), 0.95) == pytest.approx(half)


def test_without_repetition_nothing_is_said_of_the_scatter() -> None:
    found = fit(np.eye(2), np.array([1.0, 3.0]))
    assert found.coefficients == pytest.approx([1, 3])
    assert (found.variance, found.freedom) == (None, 0)
    assert found.half(np.array([1.0, -1.0]), 0.95) is None


def test_columns_that_depend_on_each_other_cost_one_degree_of_freedom() -> None:
    first = np.array([1.0, 1, 0, 0])
    design = np.column_stack([np.ones(4), first, 1 - first])
    found = fit(design, np.array([1.0, 2, 5, 6]))
    assert found.freedom == 2
    assert found.variance == pytest.approx(0.5)
    contrast = np.array([0.0, -1, 1])
    assert contrast @ found.coefficients == pytest.approx(4)
    assert found.half(contrast, 0.95) == pytest.approx(stats.t.ppf(0.975, 2) * 0.5**0.5)
