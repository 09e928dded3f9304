from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import nct

from harness.analysis.answer import contest, power
from harness.records import cells
from tests.harness.analysis.answer.made import study

LEVEL = 0.95


@pytest.mark.parametrize("freedom", [3, 10, 100])
def test_a_detectable_difference_is_that_of_the_noncentral_t(freedom: int) -> None:
    critical = power.of_one_of(2, LEVEL)(freedom)
    true = power.detectable(freedom, critical)
    shown = nct.sf(critical, freedom, true) + nct.cdf(-critical, freedom, true)
    assert shown == pytest.approx(power.POWER, abs=1e-4)


def test_one_degree_of_freedom_by_simulation() -> None:
    critical = power.of_one_of(1, LEVEL)(1)
    true = power.detectable(1, critical)
    rng = np.random.default_rng(0)
    ratios = rng.normal(true, 1, 40_000) / abs(rng.normal(size=40_000))
    assert np.mean(abs(ratios) > critical) == pytest.approx(power.POWER, abs=0.01)


@pytest.mark.parametrize(("variants", "seeds", "now"), [(2, 4, 2), (2, 3, 3), (4, 3, 2)])
def test_so_many_seeds_show_the_difference_in_8_of_10_cases(
    variants: int, seeds: int, now: int
) -> None:
    """Worked out from a study with `now` seeds and known scatter; then such studies are run."""
    rng = np.random.default_rng(1)
    critical = power.of_any_pair(variants, LEVEL)
    freedom = (variants - 1) * (now - 1)
    scale = power.Scale(np.sqrt(2 / now), now, freedom, variants - 1, critical)
    true = scale.smallest(seeds)
    found = rng.normal(size=(4000, variants, seeds)) + rng.normal(size=(4000, 1, seeds))
    found[:, 0] += true
    means = found.mean(axis=2)
    rest = (
        found
        - means[:, :, None]
        - found.mean(axis=1)[:, None]
        + found.mean(axis=(1, 2))[:, None, None]
    )
    left = (variants - 1) * (seeds - 1)
    error = np.sqrt(2 * (rest**2).sum(axis=(1, 2)) / left / seeds)
    shown = abs(means[:, 0] - means[:, 1]) > critical(left) * error
    assert shown.mean() == pytest.approx(power.POWER, abs=0.025)


def test_the_scale_of_a_study_is_its_scatter() -> None:
    records = study(["width"], {(n,): (40.0, 10.0) for n in range(3)}, seeds=4)
    values = np.array([100 * one.metrics["mAP"] for one in records])
    found = contest.over_seeds(cells.comparable(records, values), LEVEL, least=False)
    assert found.scale is not None
    assert (found.scale.seeds, found.scale.freedom, found.scale.more) == (4, 6, 2)
    by_seed = values.reshape(4, 3)
    rest = by_seed - by_seed.mean(axis=0) - by_seed.mean(axis=1)[:, None] + values.mean()
    assert found.scale.error == pytest.approx(np.sqrt(2 * (rest**2).sum() / 6 / 4))
    assert found.scale.smallest(8) < found.scale.smallest(4) / np.sqrt(2)
