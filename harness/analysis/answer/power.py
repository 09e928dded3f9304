"""Power: the smallest difference that so many seeds show, from the scatter that was measured."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import numpy as np
from scipy.optimize import brentq
from scipy.special import chdtri, ndtr, stdtrit
from scipy.stats import studentized_range

POWER = 0.8
"""The share of cases in which a difference of that size is called significant."""
STEPS = 4000  # of the average over standard errors

Critical = Callable[[float], float]
"""By degrees of freedom, how many standard errors a significant difference is from nothing."""


class Scale(NamedTuple):
    """How sure a study's differences are with its seeds, and how that changes with their number."""

    error: float  # standard error of a difference
    seeds: int  # of each variant
    freedom: int  # degrees, of the scatter
    more: int  # degrees that a further seed of all variants adds
    critical: Critical

    def smallest(self, seeds: int) -> float:
        """Return the smallest difference that so many seeds show in 8 of 10 cases.

        The scatter is taken to be what was measured, and every variant to have as many seeds.
        """
        freedom = self.freedom + self.more * (seeds - self.seeds)
        error = self.error * math.sqrt(self.seeds / seeds)
        return error * detectable(freedom, self.critical(freedom))


@cache
def detectable(freedom: float, critical: float) -> float:
    """Return the true difference, in standard errors, that is significant in 8 of 10 cases.

    Args:
        freedom: degrees of freedom of the standard error.
        critical: by how many of it a difference has to leave nothing.

    Source: Cohen, Statistical Power Analysis for the Behavioral Sciences (1988), ch. 2: the
    estimate over its standard error follows a noncentral t distribution. It is averaged here over
    the standard error that may come out, which works for one degree of freedom, too.
    """
    shares = (np.arange(STEPS) + 0.5) / STEPS
    limits = critical * np.sqrt(chdtri(freedom, 1 - shares) / freedom)  # in true standard errors

    def missing(true: float) -> float:
        shown = ndtr(true - limits) + ndtr(-true - limits)
        return float(shown.mean()) - POWER

    return float(brentq(missing, 0.0, 10.0 + float(limits.max())))


def of_one_of(family: int, level: float) -> Critical:
    """Return the limit of one of several differences that hold together (Bonferroni)."""
    share = (1 - level) / family
    return lambda freedom: float(stdtrit(freedom, 1 - share / 2))


def of_any_pair(count: int, level: float) -> Critical:
    """Return the limit of the difference of any two of so many variants.

    Source: Tukey, The Problem of Multiple Comparisons (1953); Hayter, A proof of the conjecture
    that the Tukey-Kramer multiple comparisons procedure is conservative, Ann. Statist. 12 (1984).
    """
    if count == 2:
        return of_one_of(1, level)
    return lambda freedom: _studentized_range(level, count, freedom) / math.sqrt(2)


@cache
def _studentized_range(level: float, count: int, freedom: float) -> float:
    """Return a quantile, which takes a second to work out."""
    return float(studentized_range.ppf(level, count, freedom))
