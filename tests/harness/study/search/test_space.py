from pathlib import Path
from typing import Any

import optuna
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from optuna.trial import FixedTrial

from harness.config import knobs
from harness.config.axes import Axis
from harness.study import StudyError
from harness.study.search import space
from tests.harness.study.search.spaces import SPACE, searching

NEAREST = {"detector.assigner.type": "Nearest", "detector.assigner.topk": 3}
INSIDE = {"detector.assigner.type": "Inside", "detector.assigner.shrink": 0.25}
REST = {"detector.width": 8, "recipe.lr": 0.00123456, "detector.input.size": "[32, 32]"}


def of(folder: Path, **changes: Any) -> dict[str, Axis]:
    search = searching(folder, **changes).search
    assert search is not None
    return search.space


def refused(folder: Path, changes: dict[str, Any]) -> str:
    with pytest.raises(StudyError) as info:
        of(folder, space={**SPACE, **changes})
    message = str(info.value)
    assert "\n" not in message
    return message


@pytest.mark.parametrize("chosen", [NEAREST, INSIDE])
def test_a_conditional_knob_is_turned_only_under_its_condition(
    tmp_path: Path, chosen: dict[str, Any]
) -> None:
    found = space.suggest(FixedTrial({**REST, **chosen}), of(tmp_path))
    assert found == {
        **{"detector.width": 8, "recipe.lr": 0.001235, "detector.input.size": (32, 32)},
        **chosen,
    }


def test_optuna_sees_a_knob_only_when_it_exists(tmp_path: Path) -> None:
    found = of(tmp_path)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        trial = study.ask()
        overrides = space.suggest(trial, found)
        assert trial.params.keys() == overrides.keys()
        inside = overrides["detector.assigner.type"] == "Inside"
        assert ("detector.assigner.shrink" in overrides) == inside
        assert ("detector.assigner.topk" in overrides) == (not inside)
        study.tell(trial, 0.0)


@given(seed=st.integers(0, 10_000))
@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_whatever_is_drawn_fits_the_knobs(tmp_path: Path, seed: int) -> None:
    study = searching(tmp_path)
    assert study.search is not None
    sampler = optuna.samplers.RandomSampler(seed=seed)
    trial = optuna.create_study(sampler=sampler).ask()
    overrides = space.suggest(trial, study.search.space)
    flat = knobs.turn(study.setup(), overrides).flat()
    assert 1e-4 <= overrides["recipe.lr"] <= 1e-2
    assert flat["detector.width"] in (4, 8, 12)
    assert {path: flat[path] for path in overrides} == overrides


def test_whole_groups_are_choices_with_readable_names(tmp_path: Path) -> None:
    groups = [{"type": "Nearest", "topk": 2}, {"type": "Inside"}]
    found = of(tmp_path, space={"detector.assigner": groups})
    trial = FixedTrial({"detector.assigner": "Nearest(topk=2)"})
    assert space.suggest(trial, found) == {"detector.assigner": {"type": "Nearest", "topk": 2}}
    assert space.suggest(FixedTrial({"detector.assigner": "Inside"}), found) == {
        "detector.assigner": {"type": "Inside"}
    }


def test_numbers_are_of_the_knobs_type(tmp_path: Path) -> None:
    found = of(tmp_path, space={"recipe.lr": {"low": 1, "high": 2}, "detector.width": [4, 8]})
    assert isinstance(found["recipe.lr"].low, float)
    value = space.suggest(FixedTrial({"recipe.lr": 1.5, "detector.width": 4}), found)["recipe.lr"]
    assert value == 1.5


def test_a_knob_beside_a_choice_of_its_group_is_tried_under_each(tmp_path: Path) -> None:
    changes = {"detector.assigner.topk": {"low": 1, "high": 6}}
    message = refused(tmp_path, changes)
    assert "Inside has no knob 'topk'" in message
    assert "when detector.assigner.type is Inside" in message


@pytest.mark.parametrize(
    ("changes", "at", "part"),
    [
        ({"detector.widht": [4]}, "widht", "did you mean"),
        ({"detector.width": [4, "x"]}, "- x", "expected int, got 'x'"),
        ({"detector.width": {"low": 4.5, "high": 8}}, "low: 4.5", "expected int, got 4.5"),
        ({"detector.width": {"low": 4, "high": 8, "step": 0.5}}, "step: 0.5", "whole numbers"),
        ({"detector.width": {"low": 4, "high": 9, "step": 4}}, "width:", "use 8"),
        ({"detector.width": {"low": 8, "high": 4}}, "width:", "low must be below high"),
        ({"detector.width": {"low": 4}}, "width:", "needs low and high"),
        ({"detector.width": {"lo": 4, "high": 8}}, "lo: 4", "did you mean low?"),
        ({"detector.width": {"choices": [4], "low": 4}}, "width:", "choices stand alone"),
        ({"detector.width": [4, 4]}, "width:", "4 stands twice"),
        ({"detector.width": 4}, "width: 4", "expected a list of values, or low and high"),
        ({"recipe.lr": {"low": 0, "high": 1, "log": True}}, "lr:", "log needs low above 0"),
        ({"recipe.lr": {"low": -1, "high": 1}}, "low: -1", "greater than 0"),
        ({"recipe.batch": [4]}, "batch:", "did you mean recipe.batch_size?"),
        (
            {"detector.assigner.topk": {"choices": [1], "when": {"detector.asigner.type": "A"}}},
            "asigner.type: [A]",
            "did you mean detector.assigner.type?",
        ),
        (
            {"detector.assigner.topk": {"choices": [1], "when": {"detector.assigner.type": "A"}}},
            "when:",
            "A is no choice of detector.assigner.type; it has Nearest, Inside",
        ),
        (
            {"detector.assigner.topk": {"choices": [1], "when": {"recipe.lr": 0.1}}},
            "recipe.lr: 0.1",
            "recipe.lr is a range",
        ),
        (
            {"detector.width": {"choices": [4], "when": {"recipe.lr": 0.1}}},
            "detector.width:",
            "recipe.lr must stand above detector.width",
        ),
    ],
)
def test_a_mistake_in_the_space_is_refused_with_its_place(
    tmp_path: Path, changes: dict[str, Any], at: str, part: str
) -> None:
    message = refused(tmp_path, changes)
    assert part in message, message
    assert message.startswith(f"{tmp_path / 'toy.yaml'}:"), message
