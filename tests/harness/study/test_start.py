"""Weights in a study: found, matched with its classes, and part of what names a trial."""

from pathlib import Path
from typing import Any

import pytest

from detectors import weights
from detectors.config import override
from detectors.interface import WeightsError
from harness.study import StudyError, TrialSpec, expand, load
from harness.study.start import take
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


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"form": "A"}, "unknown key 'form'; did you mean from?"),
        ({"from": "A", "parts": []}, "weights.parts: expected one at least"),
        ("", "weights.from: expected a name"),
        ("n" * 5000, "cannot be read: File name too long"),
    ],
)
def test_wrong_spellings_are_told_in_words_of_the_study(
    tmp_path: Path, given: Any, said: str
) -> None:
    assert said in refused(tmp_path, given)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"from": "A", "part": ["head"]}, "weights.part: no such key; did you mean parts?"),
        ({"parts": ["head"]}, "weights.from is missing"),
    ],
)
def test_a_wrong_spelling_in_an_axis_is_told_as_outside(
    tmp_path: Path, given: Any, said: str
) -> None:
    message = refused(tmp_path, None, sweep={"weights": [None, given]})
    assert message.split(": ")[0] == str(line_of(tmp_path, next(iter(given))))
    assert said in message


def test_one_start_for_a_study_that_sweeps_them_is_refused_as_it_was_given(tmp_path: Path) -> None:
    study = write(tmp_path, sweep={"weights": [None, "A"]})
    with pytest.raises(StudyError, match="^--weights coco: weights is swept; give its values"):
        load(study, sets=['weights="coco"'])


def test_one_part_needs_no_list(tmp_path: Path, names: tuple[str, ...]) -> None:
    source = saved(tmp_path / "w", names)
    one, listed = (
        specs(tmp_path, {"from": source, "parts": parts})[0] for parts in ("head", ["head"])
    )
    assert one.trial == listed.trial


@pytest.mark.parametrize("knob", ["weights.from", "weights.parts"])
def test_weights_are_no_knobs(tmp_path: Path, names: tuple[str, ...], knob: str) -> None:
    source = saved(tmp_path / "w", names)
    message = refused(tmp_path, source, sweep={knob: ["x", "y"]})
    assert f"{knob}: no knob; weights are named as a whole, by `weights:`" in message


def test_what_does_not_fit_is_named_with_its_line_and_its_detector(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    good, wide = saved(tmp_path / "good", names), saved(tmp_path / "wide", names, width=12)
    message = refused(tmp_path, None, sweep={"weights": [good, wide]})
    place, text = message.split(": ", 1)
    assert place == str(line_of(tmp_path, "/wide"))
    assert text.startswith(f"weights {wide} for tests.toy:TOY: backbone.0.weight: ")


def test_weights_of_which_nothing_is_taken_are_refused(tmp_path: Path) -> None:
    source = {"from": saved(tmp_path / "w", ("cat", "dog")), "parts": ["head"]}
    assert f"weights {source['from']}: nothing of them is taken" in refused(tmp_path, source)


def test_a_home_folder_may_be_written_short(
    tmp_path: Path, names: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = specs(tmp_path, saved(tmp_path / "w", names))[0]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert specs(tmp_path, "~/w")[0].trial == whole.trial


@pytest.mark.parametrize("given", [None, "backbone", "head"])
def test_nothing_is_frozen_that_weights_do_not_give(
    tmp_path: Path, names: tuple[str, ...], given: str | None
) -> None:
    source = saved(tmp_path / "w", names)
    frozen = {**STUDY["set"], "recipe.frozen": ["backbone" if given != "backbone" else "head"]}
    parts = None if given is None else {"from": source, "parts": [given]}
    message = refused(tmp_path, parts, set=frozen)
    assert message.split(": ")[0] == str(line_of(tmp_path, "recipe.frozen"))
    assert "comes from no weights" in message
    assert start(specs(tmp_path, source, set=frozen)[0]).labels is None


@pytest.mark.parametrize("classes", ["auto", "by_name", "fresh"])
def test_rows_of_classes_that_start_anew_are_not_frozen(
    tmp_path: Path, names: tuple[str, ...], classes: str
) -> None:
    frozen = {**STUDY["set"], "recipe.frozen": ["head"]}
    source = saved(tmp_path / "w", (*names[:5], "cat"))
    message = refused(tmp_path, {"from": source, "classes": classes}, set=frozen)
    assert "head tells classes apart, and some start anew here" in message
    assert specs(tmp_path, {"from": source, "classes": "same"}, set=frozen)


def test_weights_taken_by_two_recipes_are_told_for_each(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    given = {"from": saved(tmp_path / "w", (*names[:5], "cat")), "classes": "by_name"}
    fixed = {k: v for k, v in STUDY["set"].items() if not k.startswith("recipe.")}
    evaluated, trained = specs(
        tmp_path, given, recipe=None, set=fixed, sweep={"recipe": [None, "smoke"]}
    )
    assert start(evaluated).taken == "taken: backbone, head"
    assert "without rows for 1 of 6 classes" in start(trained).taken


def test_ways_to_match_classes_differ_before_the_weights_are_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETBENCH_CACHE", str(tmp_path / "cache"))
    changes = {"detector": "rtmdet_tiny", "measure": ["complexity"]}
    for source, count in {"coco": 4, "imagenet": 1}.items():
        trials = set()
        for word in ("auto", "by_name", "fresh", "same"):
            sweep = {"detector.input.size": [[64, 64]]}
            given = {"from": source, "classes": word}
            trials.add(specs(tmp_path, given, sweep=sweep, **changes)[0].trial)
        assert len(trials) == count, source


def test_classes_that_were_never_matched_are_not_taken_in_their_order(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    (spec,) = specs(tmp_path, saved(tmp_path / "w", names[::-1]))
    planned = start(spec).model_copy(update={"labels": "auto"})  # as before it was fetched
    with pytest.raises(WeightsError, match="was not at hand when the study was planned"):
        take(override(TOY, {"num_classes": 6}).build(), planned)


def test_a_condition_without_values_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    sweep = {
        "weights": [None, saved(tmp_path / "w", names)],
        "detector.width": {"values": [8], "when": {"weights": []}},
    }
    assert "when.weights: expected one at least" in refused(tmp_path, None, sweep=sweep)


def test_classes_that_are_the_same_are_evaluated_in_the_words_of_the_study(tmp_path: Path) -> None:
    fixed = {k: v for k, v in STUDY["set"].items() if not k.startswith("recipe.")}
    six, two = saved(tmp_path / "six", None), saved(tmp_path / "two", ("a", "b"))
    given = {"from": six, "classes": "same"}
    (note,) = start(specs(tmp_path, given, recipe=None, set=fixed)[0]).notes
    assert note.endswith("in its order, as `classes: same` says")
    message = refused(tmp_path, {"from": two, "classes": "same"}, recipe=None, set=fixed)
    assert f"`classes: same`: {two} tells 2 classes apart, data set shapes has 6" in message
