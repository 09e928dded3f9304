"""Least squares with the scatter that is left, for effects and comparisons of variants."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtrit

Floats = NDArray[np.float64]
SAME = 1e-9  # what rounding leaves of nothing, as a share of the largest value


class Fit(NamedTuple):
    """Coefficients and what is known of their scatter."""

    coefficients: Floats  # [P]
    covariance: Floats  # [P, P] in units of the variance
    variance: float | None
    """Of the residuals; None without a degree of freedom, and where they are all 0: equal values do
    not tell how much others would scatter."""
    freedom: int

    def half(self, contrast: Floats, level: float) -> float | None:
        """Return half the interval of a combination of coefficients; None without scatter.

        Args:
            contrast: [P], what the coefficients are multiplied by.
            level: confidence, such as 0.95.
        """
        error = self.error(contrast)
        return None if error is None else float(stdtrit(self.freedom, (1 + level) / 2)) * error

    def error(self, contrast: Floats) -> float | None:
        """Return the standard error of a combination of coefficients; None without scatter."""
        if self.variance is None:
            return None
        spread = self.variance * max(float(contrast @ self.covariance @ contrast), 0.0)
        return float(np.sqrt(spread))

    def known(self, contrasts: Floats) -> bool:
        """Say whether the data tell combinations of coefficients, [M, P]."""
        projection = np.linalg.pinv(self.covariance) @ self.covariance
        return bool(np.allclose(contrasts @ projection, contrasts, atol=1e-6))


def fit(design: Floats, y: Floats) -> Fit:
    """Fit a linear model; of columns that depend on each other, the shortest solution is taken.

    Args:
        design: [N, P].
        y: [N].
    """
    inverse = np.linalg.pinv(design.T @ design)
    found = inverse @ design.T @ y
    freedom = len(y) - int(np.linalg.matrix_rank(design)) if len(y) else 0
    squares = float(((y - design @ found) ** 2).sum())
    scatters = freedom > 0 and squares > len(y) * (SAME * np.abs(y).max()) ** 2
    return Fit(found, inverse, squares / freedom if scatters else None, freedom)
