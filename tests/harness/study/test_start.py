"""Weights in a study: found, matched with its classes, and part of what names a trial."""

from pathlib import Path
from typing import Any

import pytest

from detectors import weights
from detectors.config import override
from harness.study import StudyError, TrialSpec, expand, load
from tests.harness.studies import TOY as STUDY
from tests.harness.studies import write
from tests.toy import TOY

SHAPES = ("disc", "square", "triangle", "ring", "cross", "bar")
ONE = {"detector.width": [8]}


@pytest.fixture
def names(tmp_path: Path) -> tuple[str, ...]:
    """Return the classes of the toy study's data set."""
    return tuple(expand(load(write(tmp_path)))[0].dataset["classes"])


def saved(folder: Path, classes: tuple[str, ...] | None, width: int = 8) -> str:
    """Save weights of a toy detector that tells these classes apart; six where none is named."""
    changes = {"width": width, "num_classes": len(classes or SHAPES)}
    weights.save(override(TOY, changes).build(), folder, "tests.toy:TOY", classes)
    return str(folder)


def specs(folder: Path, given: Any, **changes: Any) -> list[TrialSpec]:
    return expand(load(write(folder, **{"sweep": ONE, "weights": given, **changes})))


def refused(folder: Path, given: Any, **changes: Any) -> str:
    with pytest.raises(StudyError) as info:
        specs(folder, given, **changes)
    message = str(info.value)
    assert "\n" not in message
    return message.removeprefix(f"{folder / 'toy.yaml'}:")


def start(spec: TrialSpec) -> Any:
    assert spec.start is not None
    return spec.start


def test_the_same_classes_are_taken_as_they_are(tmp_path: Path, names: tuple[str, ...]) -> None:
    (spec,) = specs(tmp_path, saved(tmp_path / "w", names))
    found = start(spec)
    assert (found.labels, found.parts, found.notes) == (None, None, ())
    assert (found.taken, found.fresh_parameters) == ("taken: backbone, head", 0)
    assert spec.config["weights.from"] == str(tmp_path / "w")
    assert spec.trains


def test_classes_in_another_order_are_matched_by_name(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    (spec,) = specs(tmp_path, saved(tmp_path / "w", names[::-1]))
    assert start(spec).labels == (5, 4, 3, 2, 1, 0)
    assert "matched by name" in start(spec).notes[0]


def test_a_class_that_weights_lack_lets_all_of_them_start_anew(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    found = start(specs(tmp_path, saved(tmp_path / "w", (*names[:2], "cat")))[0])
    assert found.labels == "fresh"
    assert 0 < found.fresh_parameters < found.parameters
    assert f"does not know {names[2]}, {names[3]}" in found.notes[0]
    assert "starts anew" in found.notes[0]


def test_by_name_takes_the_rows_of_shared_classes(tmp_path: Path, names: tuple[str, ...]) -> None:
    given = {"from": saved(tmp_path / "w", ("cat", *names[:2])), "classes": "by_name"}
    found = start(specs(tmp_path, given)[0])
    assert found.labels == (1, 2, None, None, None, None)
    assert "4 of 6 classes" in found.taken
    given = {"from": saved(tmp_path / "cats", ("cat", "dog")), "classes": "by_name"}
    message = refused(tmp_path, given)
    assert message.split(": ")[0] == str(line_of(tmp_path, "weights:"))
    assert "knows no class of data set shapes" in message


def line_of(folder: Path, text: str) -> int:
    lines = (folder / "toy.yaml").read_text("utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def test_nameless_weights_start_anew_or_are_the_same_on_request(tmp_path: Path) -> None:
    source = saved(tmp_path / "w", None)
    found = start(specs(tmp_path, source)[0])
    assert found.labels == "fresh"
    assert "`classes: same`" in found.notes[0]
    same = start(specs(tmp_path, {"from": source, "classes": "same"})[0])
    assert (same.labels, same.fresh_parameters) == (None, 0)
    few = saved(tmp_path / "few", ("a", "b"))
    message = refused(tmp_path, {"from": few, "classes": "same"})
    assert "head.predict" in message


def test_a_part_is_taken_alone(tmp_path: Path, names: tuple[str, ...]) -> None:
    source = saved(tmp_path / "w", names)
    whole, backbone, all_of_them = (
        specs(tmp_path, {"from": source, "parts": parts})[0]
        for parts in (None, ["backbone"], ["head", "neck", "backbone"])
    )
    assert start(backbone).parts == ("backbone",)
    assert start(backbone).fresh_parameters > 0
    assert whole.trial == all_of_them.trial
    assert len({whole.trial, backbone.trial}) == 2
    assert len({whole.training, backbone.training}) == 2


def test_weights_are_an_axis(tmp_path: Path, names: tuple[str, ...]) -> None:
    source = saved(tmp_path / "w", names)
    values = [None, source, {"from": source, "parts": ["backbone"]}]
    found = specs(tmp_path, None, sweep={"weights": values, **ONE})
    plain = specs(tmp_path, None)[0]
    assert found[0].trial == plain.trial
    assert [spec.start is None for spec in found] == [True, False, False]
    assert [spec.name for spec in found] == [
        "weights=null, width=8",
        f"weights={source}, width=8",
        f"weights=(from={source}, parts=[backbone]), width=8",
    ]
    assert len({spec.trial for spec in found}) == 3
    again = type(found[2]).model_validate_json(found[2].model_dump_json())
    assert (again.start, again.trial, again.training) == (
        found[2].start,
        found[2].trial,
        found[2].training,
    )


def test_the_content_of_weights_names_a_trial(tmp_path: Path, names: tuple[str, ...]) -> None:
    first = specs(tmp_path, saved(tmp_path / "a", names))[0].trial
    assert specs(tmp_path, saved(tmp_path / "b", names))[0].trial != first
    (tmp_path / "a").rename(tmp_path / "moved")
    assert specs(tmp_path, str(tmp_path / "moved"))[0].trial == first


def test_without_a_recipe_weights_are_evaluated(tmp_path: Path, names: tuple[str, ...]) -> None:
    source = saved(tmp_path / "w", (*names, "cat"))
    fixed = {k: v for k, v in STUDY["set"].items() if not k.startswith("recipe.")}
    (spec,) = specs(tmp_path, source, recipe=None, set=fixed)
    assert not spec.trains
    assert spec.knobs["num_classes"] == 7
    assert spec.classes == [*names, "cat"]
    assert start(spec).labels is None
    assert "classes" not in spec.protocol
    some = {"from": saved(tmp_path / "some", ("cat", *names[1:])), "classes": "by_name"}
    (spec,) = specs(tmp_path, some, recipe=None, set=fixed)
    assert start(spec).labels == (None, 1, 2, 3, 4, 5)
    assert spec.protocol["classes"] == list(names[1:])


@pytest.mark.parametrize(
    ("classes", "given", "said"),
    [
        (("cat", "dog"), {}, "knows no class of data set shapes"),
        (None, {}, "`classes: same`"),
        ("some", {}, "classes: by_name}` evaluates over the others"),
        ("all", {"parts": ["backbone", "neck"]}, "backbone, neck alone finds nothing"),
    ],
)
def test_what_cannot_be_evaluated_is_refused(
    tmp_path: Path,
    names: tuple[str, ...],
    classes: Any,
    given: dict[str, Any],
    said: str,
) -> None:
    known = {"some": ("cat", *names[1:]), "all": names}.get(classes, classes)
    fixed = {k: v for k, v in STUDY["set"].items() if not k.startswith("recipe.")}
    source = {"from": saved(tmp_path / "w", known), **given}
    message = refused(tmp_path, source, recipe=None, set=fixed)
    assert said in message
    assert message.split(": ")[0] == str(line_of(tmp_path, "weights:"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("nothing.pth", "weights nothing.pth: no such file"),
        ("coco", "coco"),
        ({"from": "x.pth", "part": ["head"]}, "unknown key 'part'; did you mean parts?"),
        ({"from": "x.pth", "parts": ["nek"]}, "weights.parts.0: "),
        ({"parts": ["neck"]}, "weights.from is missing"),
        (3, "weights: expected a file, a folder"),
    ],
)
def test_weights_that_are_not_there_are_refused(tmp_path: Path, given: Any, said: str) -> None:
    message = refused(tmp_path, given)
    assert message.split(": ")[0].isdigit()
    assert said in message
