import itertools
from typing import Any

import numpy as np
import pytest

from harness.records import Record
from harness.study.designs import factorial
from reports import designs, effects
from tests.reports.conftest import Make

A, B, C = "detector.a", "detector.b", "detector.c"


def study(
    make: Make, rows: list[dict[str, Any]], values: list[float], seeds: Any = 0
) -> list[Record]:
    listed = [seeds] * len(rows) if isinstance(seeds, int) else list(seeds)
    return [
        make(str(index), overrides=row, metrics={"mAP": value}, seed=seed)
        for index, (row, value, seed) in enumerate(zip(rows, values, listed, strict=True))
    ]


def grid(**settings: list[Any]) -> list[dict[str, Any]]:
    paths = [f"detector.{name}" for name in settings]
    return [dict(zip(paths, row, strict=True)) for row in itertools.product(*settings.values())]


def by_label(records: list[Record]) -> dict[str, effects.Effect]:
    found = effects.effects(records, "mAP")
    assert found is not None
    return {effect.label: effect for effect in found.effects}


def test_effects_of_a_two_by_two_with_two_seeds_by_hand(make: Make) -> None:
    rows = grid(a=[0, 1], b=[0, 1])
    first, second = [0.20, 0.30, 0.40, 0.60], [0.22, 0.34, 0.40, 0.64]
    records = study(make, rows * 2, first + second, [0] * 4 + [1] * 4)
    found = by_label(records)
    assert found["a: 0 to 1"].estimate == pytest.approx(51.0 - 26.5)
    assert found["b: 0 to 1"].estimate == pytest.approx(47.0 - 30.5)
    assert found["a × b"].estimate == pytest.approx(((62 - 40) - (32 - 21)) / 2)
    # Scatter: differences between the seeds are 2, 4, 0, 4 around their mean of 2.5, two a pair.
    variance = ((np.array([2, 4, 0, 4]) - 2.5) ** 2).sum() / 2 / 3
    half = 3.182446 * np.sqrt(variance * 4 / 8)
    effect = found["a: 0 to 1"]
    assert effect.low == pytest.approx(24.5 - half, rel=1e-6)
    assert effect.high == pytest.approx(24.5 + half, rel=1e-6)


def test_without_repetitions_interactions_are_taken_for_scatter(make: Make) -> None:
    records = study(make, grid(a=[0, 1], b=[0, 1]), [0.2, 0.3, 0.4, 0.6])
    found = effects.effects(records, "mAP")
    assert found is not None
    assert (found.pooled, found.freedom, len(found.effects)) == (True, 1, 2)
    assert found.effects[0].estimate == pytest.approx(25.0)


def test_a_knob_of_several_settings_is_compared_with_its_first(make: Make) -> None:
    rows = grid(a=[1, 2, 3], b=["x", "y"])
    records = study(make, rows, [0.1, 0.2, 0.3, 0.4, 0.7, 0.8])
    found = by_label(records)
    assert {label: round(item.estimate, 6) for label, item in found.items()} == {
        "a: 1 to 2": 20.0,
        "a: 1 to 3": 60.0,
        "b: x to y": 10.0,
    }


def test_one_factor_at_a_time_is_estimated_against_the_base(make: Make) -> None:
    config = {A: 0, B: 0}
    rows: list[dict[str, Any]] = [{}, {A: 1}, {B: 1}]
    records = [
        record.model_copy(update={"config": config})
        for record in study(make, rows, [0.5, 0.6, 0.3])
    ]
    found = by_label(records)
    assert found["a: 0 to 1"].estimate == pytest.approx(10)
    assert found["b: 0 to 1"].estimate == pytest.approx(-20)
    assert found["a: 0 to 1"].low is None


def test_seeds_are_blocks_even_where_trials_are_missing(make: Make) -> None:
    rows = grid(a=[0, 1])
    full = [(row, seed) for seed in (0, 1, 2) for row in rows]
    values = [0.5 + 0.1 * row[A] + 0.2 * seed for row, seed in full]
    records = study(make, [row for row, _ in full], values, [seed for _, seed in full])
    effect = by_label(records[:-1])["a: 0 to 1"]
    assert (effect.estimate, effect.low, effect.high) == pytest.approx((10, 10, 10))


def test_what_a_fraction_mixes_up_is_named_with_its_effect(make: Make) -> None:
    sweep = {A: [0, 1], B: [0, 1], C: [0, 1]}
    rows = factorial.variants(sweep, 3)
    records = study(make, rows * 2, [0.1, 0.2, 0.3, 0.5] * 2, [0] * 4 + [1] * 4)
    found = by_label(records)
    assert {label: item.aliases for label, item in found.items()} == {
        "a: 0 to 1": ("b × c",),
        "b: 0 to 1": ("a × c",),
        "c: 0 to 1": ("a × b",),
    }


def test_a_planted_effect_is_within_its_interval_nineteen_times_of_twenty(make: Make) -> None:
    random = np.random.default_rng(0)
    rows = grid(a=[0, 1], b=[0, 1], c=[0, 1])
    held = 0
    for _ in range(60):
        values = [0.4 + 0.05 * row[A] + random.normal(0, 0.02) for row in rows * 2]
        effect = by_label(study(make, rows * 2, values, [0] * 8 + [1] * 8))["a: 0 to 1"]
        assert effect.low is not None
        assert effect.high is not None
        held += effect.low <= 5 <= effect.high
    assert held >= 53


def test_knobs_that_move_together_are_said_to(make: Make) -> None:
    records = study(make, [{A: 0, B: 0}, {A: 1, B: 1}, {A: 0, B: 0}], [0.1, 0.2, 0.12])
    assert by_label(records)["a: 0 to 1"].aliases == ("b",)


def test_where_nothing_or_too_much_is_swept_there_are_no_effects(make: Make) -> None:
    assert effects.effects([make()], "mAP") is None
    rows = [{A: value} for value in range(7)]
    assert effects.effects(study(make, rows, [0.1] * 7), "mAP") is None
    assert effects.effects([], "mAP") is None
    assert effects.effects(study(make, grid(a=[0, 1]), [0.1, 0.2]), "mAP") is None


def test_a_table_says_which_effects_are_told_from_nothing(make: Make) -> None:
    rows = grid(a=[0, 1], b=[0, 1])
    records = study(make, rows * 2, [0.1, 0.2, 0.4, 0.5, 0.1, 0.2, 0.4, 0.5], [0] * 4 + [1] * 4)
    found = effects.effects(records, "mAP")
    assert found is not None
    table = designs.effect_table(found)
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["a: 0 to 1", "+30", "+30", "+30", "yes"],
        ["b: 0 to 1", "+10", "+10", "+10", "yes"],
        ["a × b", "0", "0", "0", "not told apart"],
    ]
    assert designs.effect_caption(found) == (
        "Effects on mAP, %. Intervals of 95% from 3 degrees of freedom of repetitions in 8 trials."
    )
    assert designs.summary(records)[:2] == [
        designs.effect_caption(found),
        "  a: 0 to 1: +30 (+30 to +30), real",
    ]


def test_verdicts() -> None:
    assert designs.verdict(effects.Effect("a", 1.0, 0.5, 1.5)) == "yes"
    assert designs.verdict(effects.Effect("a", -1.0, -1.5, -0.5)) == "yes"
    assert designs.verdict(effects.Effect("a", 1.0, -0.5, 1.5)) == "not told apart"
    assert designs.verdict(effects.Effect("a", 1.0, None, None)) == "not known"
