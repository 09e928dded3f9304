"""Knobs: listing them, turning them, and refusing what cannot be."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

import pytest

import detectors
from detectors.config import (
    KnobError,
    added_later,
    alternatives,
    canonical,
    describe,
    flatten,
    inference_only,
    of_result,
    override,
)


@dataclass(frozen=True)
class Round:
    """One alternative."""

    radius: float = 1.0
    """How far."""


@dataclass(frozen=True)
class Square:
    """The other alternative."""

    side: float = 2.0
    """How long."""
    corners: tuple[int, ...] = (1, 2)
    """Which."""


@dataclass(frozen=True)
class Threshold:
    """Acts after training."""

    score: float = inference_only(0.5)
    """Smallest score."""
    at_training: int = 3
    """Acts in training all the same."""


@dataclass(frozen=True)
class Whole:
    """A config with a knob of every kind."""

    divisor: ClassVar[int] = 4

    width: int = 8
    """Channels,
    in two lines."""
    mode: Literal["fast", "slow", 3] = "fast"
    """Choice."""
    size: tuple[int, int] = (64, 32)
    """Pair."""
    channels: int | None = None
    """Optional."""
    shape: Round | Square = Round()
    """Union."""
    maybe: Round | None = None
    """Absent group."""
    threshold: Threshold = Threshold()
    """Group."""
    late: Round = field(default=Round(), metadata={"inference_only": True})
    """Group that acts after training as a whole."""
    enabled: bool = True
    """Switch."""

    def __post_init__(self) -> None:
        if self.width < 1:
            raise ValueError("width must be at least 1")


def test_flatten_lists_every_knob_in_order() -> None:
    assert flatten(Whole()) == {
        "width": 8,
        "mode": "fast",
        "size": (64, 32),
        "channels": None,
        "shape.type": "Round",
        "shape.radius": 1.0,
        "maybe": None,
        "threshold.score": 0.5,
        "threshold.at_training": 3,
        "late.radius": 1.0,
        "enabled": True,
    }


def test_describe_spells_types_and_docs() -> None:
    knobs = {knob.path: knob for knob in describe(Whole())}
    assert knobs["width"].doc == "Channels, in two lines."
    assert knobs["mode"].type == "fast | slow | 3"
    assert knobs["size"].type == "[int, int]"
    assert knobs["channels"].type == "int | none"
    assert knobs["shape.type"].type == "Round | Square"
    assert knobs["shape.type"].doc == "Union."


def test_alternatives_are_what_other_choices_would_bring() -> None:
    others = {
        choice: {knob.path: (knob.value, knob.doc) for knob in knobs}
        for choice, knobs in alternatives(Whole()).items()
    }
    assert others["shape.type=Square"] == {
        "shape.side": (2.0, "How long."),
        "shape.corners": ((1, 2), "Which."),
    }
    chosen = alternatives(override(Whole(), {"shape.type": "Square"}))
    assert "shape.type=Round" in chosen
    assert "shape.type=Square" not in chosen


def test_inference_marks_reach_into_groups() -> None:
    marked = [knob.path for knob in describe(Whole()) if knob.inference_only]
    assert marked == ["threshold.score", "late.radius"]


def test_override_leaves_the_original() -> None:
    config = Whole()
    changed = override(config, {"width": 16, "threshold.score": 0.25, "size": [96, 128]})
    assert (changed.width, changed.threshold.score, changed.size) == (16, 0.25, (96, 128))
    assert config == Whole()


@pytest.mark.parametrize(
    ("path", "given", "taken"),
    [
        ("threshold.score", 1, 1.0),
        ("channels", 5, 5),
        ("channels", None, None),
        ("mode", 3, 3),
        ("enabled", False, False),
    ],
)
def test_values_are_taken_as_the_field_types_them(path: str, given: object, taken: object) -> None:
    value = flatten(override(Whole(), {path: given}))[path]
    assert value == taken
    assert type(value) is type(taken)


@pytest.mark.parametrize(
    ("path", "value", "expected"),
    [
        ("width", "wide", "width: expected int, got 'wide'"),
        ("width", True, "width: expected int, got True"),
        ("width", 1.5, "width: expected int, got 1.5"),
        ("width", None, "width: expected int, got None"),
        ("enabled", 1, "enabled: expected bool, got 1"),
        ("mode", "medium", "mode: expected fast | slow | 3, got 'medium'"),
        ("size", [64], "size: expected [int, int], got [64]"),
        ("size", [64, "x"], "size: expected [int, int], got [64, 'x']"),
        ("threshold", 3, "threshold: expected the knobs of Threshold, got 3"),
        ("shape", "Square", "shape: expected the knobs of Round or Square, got 'Square'"),
        ("width", 0, "width: width must be at least 1"),
    ],
)
def test_wrong_values_are_refused(path: str, value: object, expected: str) -> None:
    with pytest.raises(KnobError) as caught:
        override(Whole(), {path: value})
    assert str(caught.value) == expected


def test_unknown_knob_names_the_nearest_and_lists_all() -> None:
    with pytest.raises(KnobError) as caught:
        override(Whole(), {"threshold.scores": 0.1})
    assert str(caught.value) == (
        "threshold.scores: Threshold has no knob 'scores'; did you mean threshold.score?"
        " It has score, at_training."
    )


def test_knob_of_a_knob_is_refused() -> None:
    with pytest.raises(KnobError, match="width: expected int"):
        override(Whole(), {"width.inner": 1})


def test_union_takes_another_type_and_its_knobs() -> None:
    by_path = override(Whole(), {"shape.type": "Square", "shape.side": 5})
    by_group = override(Whole(), {"shape": {"type": "Square", "side": 5}})
    assert by_path == by_group
    assert by_path.shape == Square(side=5.0)


def test_union_keeps_its_type_unless_told() -> None:
    square = override(Whole(), {"shape.type": "Square", "shape.side": 5})
    assert override(square, {"shape.corners": [3]}).shape == Square(side=5.0, corners=(3,))


def test_union_refuses_an_unknown_type() -> None:
    with pytest.raises(KnobError) as caught:
        override(Whole(), {"shape.type": "Squar"})
    assert str(caught.value) == (
        "shape.type: no 'Squar'; did you mean Square? Choose from Round, Square."
    )


def test_absent_group_is_made_when_a_knob_of_it_is_turned() -> None:
    assert override(Whole(), {"maybe.radius": 3}).maybe == Round(3.0)
    assert override(override(Whole(), {"maybe.radius": 3}), {"maybe": None}).maybe is None


@pytest.mark.parametrize(
    "changes",
    [
        {"shape": {"type": "Square"}, "shape.type": "Round"},
        {"maybe": None, "maybe.radius": 1.0},
        {"maybe.radius": 1.0, "maybe": None},
    ],
    ids=str,
)
def test_contradicting_changes_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(KnobError, match="as a whole"):
        override(Whole(), changes)


def test_round_trip_through_another_default() -> None:
    turned = override(
        Whole(),
        {"shape.type": "Square", "shape.side": 5, "maybe.radius": 2, "channels": 3, "mode": "slow"},
    )
    assert override(Whole(), flatten(turned)) == turned


@pytest.mark.parametrize("name", detectors.names())
def test_every_detector_can_be_rebuilt_from_its_flat_config(name: str) -> None:
    config = detectors.CONFIGS[name]
    assert override(type(config)(), flatten(config)) == config
    assert hash(config) == hash(override(config, {}))


@pytest.mark.parametrize("name", detectors.names())
def test_every_knob_has_a_doc(name: str) -> None:
    assert [knob.path for knob in describe(detectors.CONFIGS[name]) if not knob.doc] == []


def test_only_postprocessing_of_rtmdet_leaves_training_untouched() -> None:
    for knob in describe(detectors.CONFIGS["rtmdet_tiny"]):
        assert knob.inference_only == knob.path.startswith("postprocess."), knob.path


def test_names_resolve_to_configs() -> None:
    for name in detectors.names():
        assert detectors.resolve(name) is detectors.CONFIGS[name]
    assert detectors.resolve("tests.toy:TOY").build() is not None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("rtmdet_xs", "did you mean rtmdet_"),
        ("yolo", "detector: no 'yolo'. There is rtmdet_nano, "),
        ("tests.toy:NOTHING", "detector: cannot load 'tests.toy:NOTHING'"),
        ("no.such.module:TOY", "detector: cannot load 'no.such.module:TOY'"),
        ("tests.toy:STRIDE", "no detector config"),
    ],
)
def test_unknown_detectors_are_refused(name: str, expected: str) -> None:
    with pytest.raises(KnobError) as caught:
        detectors.resolve(name)
    assert expected in str(caught.value)


def test_input_size_must_fit_the_strides() -> None:
    with pytest.raises(KnobError) as caught:
        override(detectors.CONFIGS["rtmdet_s"], {"input.size": [550, 640]})
    assert str(caught.value) == "input: input size 550 is no multiple of 32; use 544 or 576"


def test_configs_that_lead_to_one_training_have_one_canonical_copy() -> None:
    base = detectors.CONFIGS["rtdetr_r18"]
    shared = [
        {"postprocess.score_threshold": 0.3, "head.layers_used": 2},
        {"input.size": [320, 320], "input.train_size": [640, 640]},
        {"input.train_size": [640, 640]},
    ]
    assert {canonical(override(base, changes)) for changes in shared} == {canonical(base)}
    for changes in ({"input.size": [320, 320]}, {"head.num_layers": 4}):
        assert canonical(override(base, changes)) == override(base, changes)
    with pytest.raises(KnobError, match="input size 100 is no multiple of 32"):
        override(base, {"input.train_size": [96, 100]})


@dataclass(frozen=True)
class Grown:
    """A config that a knob was added to after results existed."""

    width: int = 8
    """Channels."""
    deep: bool = added_later(default=False)
    """Whether there are more layers."""


def test_a_knob_added_later_is_in_hashes_only_where_it_is_turned() -> None:
    assert of_result(Grown()) == {"width": 8}
    assert of_result(Grown(deep=True)) == {"width": 8, "deep": True}
    assert flatten(Grown()) == {"width": 8, "deep": False}
