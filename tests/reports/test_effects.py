import itertools
from typing import Any

import numpy as np
import pytest
from scipy.special import stdtrit

from harness.records import Record, effects
from harness.records.ranking import rank
from harness.study.designs import factorial
from reports import designs
from tests.reports.conftest import Make, together

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


def untimed(records: list[Record]) -> list[Record]:
    return [
        record.model_copy(update={"metrics": {"mAP": record.metrics["mAP"]}}) for record in records
    ]


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
    assert found["a: 0 to 1"].high is not None
    half = stdtrit(3, 1 - 0.025 / 3) * np.sqrt(variance * 4 / 8)  # three effects share 5 %
    effect = found["a: 0 to 1"]
    assert effect.low == pytest.approx(24.5 - half, rel=1e-6)
    assert effect.high == pytest.approx(24.5 + half, rel=1e-6)


def test_without_repetitions_interactions_are_taken_for_scatter(make: Make) -> None:
    records = study(make, grid(a=[0, 1], b=[0, 1]), [0.2, 0.3, 0.4, 0.6])
    found = effects.effects(records, "mAP")
    assert found is not None
    assert (found.scatter, found.freedom, len(found.effects)) == ("one seed", 1, 2)
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
    luck = [0, 0, 0, 1e-6, 0, 0]
    values = [
        0.5 + 0.1 * row[A] + 0.2 * seed + more for (row, seed), more in zip(full, luck, strict=True)
    ]
    records = study(make, [row for row, _ in full], values, [seed for _, seed in full])
    effect = by_label(records[:-1])["a: 0 to 1"]
    assert (effect.estimate, effect.low, effect.high) == pytest.approx((10, 10, 10), abs=0.01)


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
    values = [0.1, 0.2, 0.4, 0.5, 0.1, 0.2, 0.4, 0.500001]
    records = study(make, rows * 2, values, [0] * 4 + [1] * 4)
    found = effects.effects(records, "mAP")
    assert found is not None
    table = designs.effect_table(found)
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["a: 0 to 1", "+30", "+30", "+30", "significant"],
        ["b: 0 to 1", "+10", "+10", "+10", "significant"],
        ["a × b", "+2.5e-05", "−9.64e-05", "+0.000146", "not significant"],
    ]
    assert designs.effect_caption(found) == (
        "Effects on mAP, %. Intervals that hold for all 3 effects on this page at once, in"
        " 95% of cases (Bonferroni), from 3 degrees of freedom of repeated seeds in 8 trials."
    )
    lines = designs.summary(untimed(records))
    assert lines[:2] == [
        designs.effect_caption(found),
        "  a: 0 to 1: +30 (+30 to +30), significant",
    ]


@pytest.mark.parametrize(
    ("low", "high", "scatter", "metric", "words"),
    [
        (0.5, 1.5, "seeds", "mAP", "significant"),
        (-1.5, -0.5, "seeds", "latency_ms", "significant"),
        (-0.5, 1.5, "seeds", "mAP", "not significant"),
        (4.48, 29.85, "one seed", "mAP", "unknown: one seed"),
        (4.48, 29.85, "one seed", "latency_ms", "unknown: one seed"),
        (4.48, 29.85, "few seeds", "mAP", "unknown: too few repeated seeds"),
        (None, None, "few seeds", "mAP", "unknown: too few repeated seeds"),
        (None, None, "equal seeds", "mAP", "unknown: seeds gave equal values"),
    ],
)
def test_a_verdict_explains_itself(
    low: float | None, high: float | None, scatter: Any, metric: str, words: str
) -> None:
    effect = effects.Effect("a", 1.0, low, high)
    among = effects.Effects(metric, [effect], 8, 3, scatter, 1)
    assert designs.verdict(effect, among) == words


def test_one_training_a_cell_tells_nothing_of_seeds_whatever_the_interval(make: Make) -> None:
    rows = grid(a=[0, 1], b=[0, 1], c=[0, 1])
    values = [
        0.2 + 0.3 * row[A] + 0.001 * row[B] + 0.001 * row[A] * row[B] * row[C] for row in rows
    ]
    found = effects.effects(study(make, rows, values), "mAP")
    assert found is not None
    first = found.effects[0]
    assert first.low is not None
    assert first.low > 0
    assert {designs.verdict(effect, found) for effect in found.effects} == {"unknown: one seed"}
    caption = designs.effect_caption(found)
    assert "None is called significant: with one seed the scatter is unknown; one train" in caption
    lines = designs.summary(untimed(study(make, rows, values)))
    assert not [line for line in lines if line.endswith(", significant")]


def test_the_same_seed_twice_is_no_repetition(make: Make) -> None:
    rows = grid(a=[0, 1], b=[0, 1])
    records = study(make, rows * 2, [0.1, 0.2, 0.4, 0.5, 0.1, 0.2, 0.4, 0.5], [0] * 8)
    found = effects.effects(records, "mAP")
    assert found is not None
    assert found.scatter == "one seed"


def test_one_repeated_cell_is_too_little(make: Make) -> None:
    rows = grid(a=[0, 1], b=[0, 1])
    records = study(make, [*rows, rows[0]], [0.1, 0.2, 0.4, 0.5, 0.11], [0, 0, 0, 0, 1])
    found = effects.effects(records, "mAP")
    assert found is not None
    assert found.scatter == "few seeds"


def test_an_interaction_is_no_scatter_of_seeds(make: Make) -> None:
    """Three knobs interact strongly, and seeds agree closely: intervals are those of seeds."""
    rows = grid(a=[0, 1], b=[0, 1], c=[0, 1])
    values = [0.2 + 0.02 * row[A] + 0.3 * row[A] * row[B] * row[C] for row in rows]
    both = [*values, values[0] + 1e-6, *values[1:]]
    records = study(make, rows * 2, both, [0] * 8 + [1] * 8)
    found = effects.effects(records, "mAP")
    assert found is not None
    assert (found.scatter, found.freedom) == ("seeds", 7)
    main = found.effects[0]
    assert (main.low, main.high) == pytest.approx((main.estimate, main.estimate), abs=0.001)


def test_seeds_that_agree_to_the_bit_tell_no_scatter(make: Make) -> None:
    rows = grid(a=[0, 1], b=[0, 1])
    records = study(make, rows * 2, [0.1, 0.2, 0.4, 0.5] * 2, [0] * 4 + [1] * 4)
    found = effects.effects(records, "mAP")
    assert found is not None
    assert {(item.low, item.high) for item in found.effects} == {(None, None)}
    assert "No interval: repeated seeds gave equal values" in designs.effect_caption(found)
    assert "unknown: seeds gave equal values" in designs.summary(untimed(records))[1]


def test_where_no_knob_does_anything_few_pages_call_one_real(make: Make) -> None:
    """Of 200 studies whose knobs do nothing, about 5 % claim an effect, over all that they show."""
    random = np.random.default_rng(1)
    rows = grid(a=[0, 1], b=[0, 1], c=[0, 1])
    claims = 0
    for _ in range(200):
        seeds = [seed for seed in (0, 1, 2) for _ in rows]
        values = [0.4 + 0.05 * seed + random.normal(0, 0.02) for seed in seeds]
        found = effects.effects(study(make, rows * 3, values, seeds), "mAP")
        assert found is not None
        assert found.family == 6
        claims += any(designs.verdict(effect, found) == "significant" for effect in found.effects)
    assert 1 <= claims <= 20  # 5 % are 10, four deviations are 12


def test_effects_on_accuracy_and_latency_are_one_family() -> None:
    rows = grid(a=[0, 1], b=[0, 1])
    cells = enumerate(itertools.product((0, 1), rows))
    records = [
        together(
            str(index) if index else "first",
            1 + index / 10 + index**2 / 1000 if index else None,
            overrides=row,
            seed=seed,
            metrics={"mAP": 0.4 + 0.01 * index + 1e-4 * index**2},
        )
        for index, (seed, row) in cells
    ]
    found = effects.by_metric(rank(records))
    assert {key: (item.metric, item.family) for key, item in found.items()} == {
        "mAP": ("mAP", 6),
        "latency_ms": ("latency_ms", 6),
    }
    assert "for all 6 effects on this page at once" in designs.effect_caption(found["mAP"])
    assert "with its training and with its timing" in designs.effect_caption(found["latency_ms"])
