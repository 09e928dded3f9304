import itertools
from pathlib import Path

import numpy as np
import pytest

from harness.config.axes import Swept
from harness.study import StudyError, designs, expand, load
from harness.study.designs import DesignError, factorial
from tests.harness.studies import write

# Runs and resolution of the usual fractions: Box, Hunter and Hunter (2nd ed.), table 6.22.
PUBLISHED = {
    (3, 3): (4, 3),
    (4, 4): (8, 4),
    (5, 3): (8, 3),
    (5, 5): (16, 5),
    (6, 4): (16, 4),
    (6, 5): (32, 6),
    (7, 3): (8, 3),
    (7, 4): (16, 4),
    (8, 4): (16, 4),
    (8, 5): (64, 5),
    (9, 3): (16, 3),
    (9, 5): (128, 6),
    (11, 5): (128, 5),
    (15, 3): (16, 3),
}


@pytest.mark.parametrize(("asked", "expected"), PUBLISHED.items())
def test_runs_and_resolution_are_the_published_ones(
    asked: tuple[int, int], expected: tuple[int, int]
) -> None:
    found = factorial.fraction(*asked)
    assert (len(found.runs()), found.resolution) == expected


@pytest.mark.parametrize(("factors", "resolution"), [(4, 4), (5, 3), (6, 5), (7, 4)])
def test_aliases_are_the_effects_whose_columns_are_equal_or_opposite(
    factors: int, resolution: int
) -> None:
    found = factorial.fraction(factors, resolution)
    levels = 2 * np.array(found.runs()) - 1
    sets = [s for n in (1, 2) for s in itertools.combinations(range(factors), n)]
    columns = {sum(1 << i for i in s): levels[:, s].prod(axis=1) for s in sets}
    for word, column in columns.items():
        same = [w for w, c in columns.items() if w != word and abs(column @ c) == len(column)]
        assert found.aliases(word) == sorted(same)


def test_each_factor_is_balanced_and_apart_from_every_other() -> None:
    levels = 2 * np.array(factorial.fraction(7, 3).runs()) - 1
    assert (levels.T @ levels == 8 * np.eye(7)).all()


def test_the_first_run_has_all_first_values() -> None:
    sweep = {f"recipe.{name}": [name, name.upper()] for name in "abcde"}
    first, *rest = factorial.variants(sweep, 4)
    assert first == {f"recipe.{name}": name for name in "abcde"}
    assert len(rest) == 15


def test_what_is_mixed_up_is_said_in_words() -> None:
    assert factorial.describe(["a", "b", "c", "d"], 4) == [
        "a x b = c x d",
        "a x c = b x d",
        "a x d = b x c",
    ]
    assert factorial.describe(["a", "b", "c"], 3) == ["a = b x c", "b = a x c", "c = a x b"]
    assert factorial.describe(["a", "b", "c", "d", "e"], 5) == []


def test_more_than_two_values_are_refused_with_the_remedy() -> None:
    with pytest.raises(DesignError, match=r"a has 3 values; .* name the two ends"):
        factorial.variants({"a": [1, 2, 3], "b": [1, 2]}, 4)


def test_too_many_knobs_are_refused() -> None:
    with pytest.raises(DesignError, match="over 128 runs; sweep fewer knobs"):
        factorial.fraction(12, 5)


def test_a_study_runs_the_fraction_with_seeds_as_blocks(tmp_path: Path) -> None:
    sweep = {
        "detector.width": [4, 8],
        "recipe.lr": [0.1, 0.2],
        "recipe.weight_decay": [0.0, 0.1],
        "detector.assigner.topk": [2, 4],
    }
    design = "fractional_factorial"
    specs = expand(load(write(tmp_path, sweep=sweep, design=design, seeds=[0, 1])))
    assert [spec.seed for spec in specs] == [0] * 8 + [1] * 8
    specs = expand(load(write(tmp_path, sweep=sweep, design=design, resolution=5)))
    assert len(specs) == 16
    assert load(write(tmp_path, sweep=sweep, design=design)).confounded()[0] == (
        "detector.width x recipe.lr = recipe.weight_decay x detector.assigner.topk"
    )
    three = {**sweep, "detector.width": [4, 8, 16]}
    with pytest.raises(StudyError, match=r"toy\.yaml:\d+: detector.width has 3 values"):
        load(write(tmp_path, sweep=three, design=design))


def test_zip_names_the_lengths(tmp_path: Path) -> None:
    setup = load(write(tmp_path)).setup
    sweep = {"a": Swept(values=(1, 2)), "b": Swept(values=(1,))}
    with pytest.raises(DesignError, match="a has 2, b has 1"):
        designs.variants("zip", sweep, setup, 4)
