"""Studies over detectors and recipes: which trials they have, and what is refused before any."""

from pathlib import Path
from typing import Any

import pytest

from harness.study import Specs, StudyError, TrialSpec, expand, load
from harness.study.search import space
from tests.harness.studies import TOY, write

THREE = ["rtmdet_tiny", "rtmdet_s", "rtdetr_r18"]
FAMILIES = {"detector": THREE, "recipe": ["rtmdet_tiny", "rtmdet_s", "rtdetr"]}
SET = {**TOY["set"], "detector.input.size": [64, 64], "recipe.last_epochs": 0}


def specs(folder: Path, **changes: Any) -> list[TrialSpec]:
    plain = {"detector": None, "recipe": None, "set": SET, "design": "zip"}
    return expand(load(write(folder, **{**plain, **changes})))


def refused(folder: Path, **changes: Any) -> tuple[str, str]:
    """Return the line that is named, as it stands in the file, and what is said of it."""
    with pytest.raises(StudyError) as info:
        specs(folder, **changes)
    file = folder / "toy.yaml"
    message = str(info.value)
    assert "\n" not in message
    assert message.startswith(f"{file}:"), message
    number, _, said = message.removeprefix(f"{file}:").partition(": ")
    return file.read_text("utf-8").splitlines()[int(number) - 1].strip(), said


def test_detectors_and_recipes_go_side_by_side(tmp_path: Path) -> None:
    found = specs(tmp_path, sweep=FAMILIES)
    assert [spec.detector for spec in found] == THREE
    assert found[0].name == "detector=rtmdet_tiny, recipe=rtmdet_tiny"
    assert {spec.trusted for spec in found} == {tuple(THREE)}
    # the study's knobs are turned in each, and whatever is not said is the recipe's own
    assert {spec.recipe and spec.recipe.epochs for spec in found} == {2}
    assert len({spec.recipe and spec.recipe.lr for spec in found}) > 1
    assert {spec.knobs["input.size"] for spec in found} == {(64, 64)}
    assert {part for spec in found for part in spec.code["detector"] if "rtdetr/neck" in part}
    assert not any("rtdetr" in file for file in found[0].code["detector"])


def test_a_trial_has_the_hash_that_it_has_alone(tmp_path: Path) -> None:
    found = specs(tmp_path, sweep=FAMILIES)
    for spec, detector, recipe in zip(found, *FAMILIES.values(), strict=True):
        one = {"sweep": {"recipe.epochs": [2]}, "detector": detector, "recipe": recipe}
        fixed = {path: value for path, value in SET.items() if path != "recipe.epochs"}
        (alone,) = specs(tmp_path, set=fixed, **one)
        assert (alone.trial, alone.training) == (spec.trial, spec.training)


def test_a_condition_turns_a_knob_of_some_detectors(tmp_path: Path) -> None:
    wide = {"values": [0.25, 0.5], "when": {"detector": ["rtmdet_tiny", "rtmdet_s"]}}
    fewer = {"values": [100], "when": {"detector": "rtdetr_r18"}}
    knobs = {"detector.backbone.expand_ratio": wide, "detector.head.num_queries": fewer}
    found = specs(tmp_path, sweep={**FAMILIES, **knobs})
    assert [spec.knobs.get("backbone.expand_ratio") for spec in found] == [0.25, 0.5, None]
    assert [spec.knobs.get("head.num_queries") for spec in found] == [None, None, 100]
    crossed = {"detector": THREE, "detector.backbone.expand_ratio": wide}
    found = specs(tmp_path, sweep=crossed, design="grid", recipe="smoke")
    assert [(spec.detector, spec.knobs.get("backbone.expand_ratio")) for spec in found] == [
        ("rtmdet_tiny", 0.25),
        ("rtmdet_tiny", 0.5),
        ("rtmdet_s", 0.25),
        ("rtmdet_s", 0.5),
        ("rtdetr_r18", None),
    ]


def test_one_factor_turns_away_from_the_studys_own_detector(tmp_path: Path) -> None:
    own = {"detector": "rtmdet_tiny", "recipe": "smoke", "design": "one_factor"}
    found = specs(tmp_path, sweep={"detector": THREE, "recipe.lr": [0.1]}, **own)
    assert [spec.name for spec in found] == [
        "baseline",
        "detector=rtmdet_s",
        "detector=rtdetr_r18",
        "recipe.lr=0.1",
    ]
    assert found[3].detector == "rtmdet_tiny"


def test_a_value_may_need_that_of_another_axis(tmp_path: Path) -> None:
    depth, used = "detector.head.num_layers", "detector.head.layers_used"  # three layers by default
    own = {"detector": "rtdetr_r18", "recipe": "smoke", "design": "zip"}
    found = specs(tmp_path, sweep={depth: [3, 6, 6], used: [2, 5, 6]}, **own)
    assert [spec.knobs["head.layers_used"] for spec in found] == [2, 5, 6]
    line, said = refused(tmp_path, sweep={depth: [6, 4], used: [5, 5]}, **own)
    assert "layers_used must be in 0..3" in said or "layers_used must be in 0..4" in said
    assert line == "- 5"


@pytest.mark.parametrize(
    ("changes", "at", "parts"),
    [
        (
            {"sweep": {**FAMILIES, "detector.head.num_queries": [10, 20, 30]}},
            "detector.head.num_queries:",
            ["so for rtmdet_tiny, rtmdet_s;", "when: {detector: [rtdetr_r18]}"],
        ),
        (
            {"sweep": FAMILIES, "set": {**SET, "detector.head.num_queries": 10}},
            "detector.head.num_queries: 10",
            ["{values: [10], when: {detector: [rtdetr_r18]}}"],
        ),
        (
            {"sweep": {**FAMILIES, "detector": [*THREE[:2], "rtdetr_r19"]}},
            "- rtdetr_r19",
            ["no 'rtdetr_r19'; did you mean rtdetr_r18?"],
        ),
        (
            {"sweep": {**FAMILIES, "recipe": ["smok", "smoke", "rtdetr"]}},
            "- smok",
            ["no recipe 'smok'; did you mean smoke?"],
        ),
        ({"sweep": {**FAMILIES, "detector": [1, *THREE[1:]]}}, "- 1", ["expected a name, got 1"]),
        ({"sweep": FAMILIES, "detector": "rtmdet_s"}, "detector: rtmdet_s", ["not both"]),
        ({"sweep": {"detector": THREE}}, "measure:", ["accuracy needs a recipe"]),
        (
            {"sweep": {**FAMILIES, "recipe": ["smoke", None, "smoke"]}},
            "recipe:",
            ["needs a recipe"],
        ),
        (
            {"sweep": {**FAMILIES, "recipe.lr": {"values": [1.0], "when": {"detektor": "a"}}}},
            "detektor: a",
            ["detektor is not swept above recipe.lr; did you mean detector?"],
        ),
        (
            {"sweep": {**FAMILIES, "recipe.lr": {"values": [1.0], "when": {"detector": "a"}}}},
            "detector: a",
            ["a is no value of detector; it has rtmdet_tiny, rtmdet_s, rtdetr_r18"],
        ),
        (
            {"sweep": {**FAMILIES, "recipe.lr": {"choices": [1.0]}}},
            "choices:",
            ["unknown key 'choices'. `sweep.recipe.lr` has when, values."],
        ),
        (
            {"sweep": {**FAMILIES, "recipe.lr": {"values": [1, 2], "when": {"detector": THREE}}}},
            "sweep:",
            ["the condition of recipe.lr holds in 3 rows, and it has 2 values"],
        ),
        (
            {
                "sweep": {**FAMILIES, "recipe.lr": {"values": [0.1], "when": {"detector": THREE}}},
                "design": "fractional_factorial",
            },
            "sweep:",
            ["recipe.lr has `when:`, which needs grid or zip"],
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_its_line(
    tmp_path: Path, changes: dict[str, Any], at: str, parts: list[str]
) -> None:
    line, said = refused(tmp_path, **changes)
    assert line.startswith(at) or line == at, (line, said)
    assert all(part in said for part in parts), said


SPACE = {
    "detector": THREE,
    "recipe": ["smoke"],
    "recipe.lr": {"low": 1e-4, "high": 1e-2, "log": True},
    "detector.head.num_queries": {"choices": [10, 20], "when": {"detector": "rtdetr_r18"}},
}


def searching(**changes: Any) -> dict[str, Any]:
    search = {"space": {**SPACE, **changes}, "objectives": {"mAP": "maximize"}, "trials": 4}
    return {"search": search, "sweep": None, "design": None}


def test_a_search_takes_the_same_axes(tmp_path: Path) -> None:
    made = load(write(tmp_path, **{"detector": None, "recipe": None, "set": SET}, **searching()))
    assert made.detectors == tuple(THREE)
    assert made.search is not None
    overrides = {"detector": "rtdetr_r18", "recipe": "smoke", "recipe.lr": 0.001}
    overrides |= {"detector.head.num_queries": 10}
    assert space.contains(made.search.space, overrides)
    spec = Specs(made)(overrides, 0)
    assert (spec.detector, spec.knobs["head.num_queries"]) == ("rtdetr_r18", 10)
    assert not space.contains(made.search.space, {**overrides, "detector": "rtmdet_s"})


@pytest.mark.parametrize(
    ("change", "at", "said"),
    [
        ({"detector.head.num_queries": [9]}, "- 9", "when: {detector: [rtdetr_r18]}}"),
        ({"detector": ["rtmdet_tiny", "rtmdet_x1"]}, "- rtmdet_x1", "no 'rtmdet_x1'"),
        ({"recipe": {"low": 1, "high": 2}}, "recipe:", "takes choices"),
        ({"detector": {"low": 1, "high": 2}}, "detector:", "takes choices"),
    ],
)
def test_a_space_that_does_not_fit_is_refused(
    tmp_path: Path, change: dict[str, Any], at: str, said: str
) -> None:
    line, message = refused(tmp_path, **searching(**change))
    assert line.startswith(at), (line, message)
    assert said in message
