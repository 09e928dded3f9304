"""What a detector takes from weights of other classes, or some parts of them."""

import re
from typing import Any

import pytest
import torch
from torch import Tensor

import detectors
from detectors.config import override
from detectors.interface import Detector, WeightsError
from detectors.weights import fill
from tests.detectors.small import SMALL
from tests.toy import TOY


def build(name: str, classes: int, seed: int) -> Detector:
    torch.manual_seed(seed)
    model = detectors.create(name, {**SMALL[name], "num_classes": classes}).eval()
    for value in model.state_dict().values():
        if value.is_floating_point():
            value += 0.05 * torch.rand(value.shape)
    return model


def copies(model: Detector) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in model.state_dict().items()}


@pytest.fixture(params=SMALL)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_each_detector_knows_the_tensors_that_follow_its_classes() -> None:
    assert build("tests.toy:TOY", 3, 0).class_tensors() == {
        "head.predict.weight": 0,
        "head.predict.bias": 0,
    }
    assert build("rtmdet_tiny", 3, 0).class_tensors() == {
        f"head.classify.predict.{level}.{part}": 0
        for level in range(3)
        for part in ("weight", "bias")
    }
    scores = ["head.selection.score", *(f"head.score_heads.{layer}" for layer in range(3))]
    assert build("rtdetr_r18", 3, 0).class_tensors() == {
        **{f"{score}.{part}": 0 for score in scores for part in ("weight", "bias")},
        "head.denoising_embed.weight": 0,
    }


def test_finding_them_draws_no_random_numbers(name: str) -> None:
    model = build(name, 3, 0)
    before = torch.random.get_rng_state()
    fill(model, copies(model), labels=(2, 1, 0))
    assert torch.equal(torch.random.get_rng_state(), before)


def test_other_classes_start_anew_and_all_else_is_taken(name: str) -> None:
    source, model = build(name, 7, 0), build(name, 3, 1)
    before = copies(model)
    taken = fill(model, source.state_dict(), labels="fresh")
    of_classes, theirs = model.class_tensors(), source.state_dict()
    for key, value in model.state_dict().items():
        expected = before[key] if key in of_classes else theirs[key]
        assert torch.equal(value, expected), key
    assert set(taken.fresh) == set(of_classes)
    assert taken.tensors == len(before) - len(of_classes)
    assert taken.parameters == sum(p.numel() for p in model.parameters())
    assert taken.fresh_parameters == sum(before[key].numel() for key in of_classes)
    assert f"without {len(of_classes)} tensors of 7 classes" in taken.text or "TOY" in name
    assert taken.text.count("\n") == 0


def test_the_line_names_parts_tensors_and_parameters() -> None:
    model = detectors.create("rtmdet_s", {"num_classes": 3})
    with torch.device("meta"):
        source = detectors.create("rtmdet_s")
    state = {key: torch.zeros(value.shape) for key, value in source.state_dict().items()}
    assert fill(model, state, labels="fresh").text == (
        "taken: backbone, neck, head without 6 tensors of 80 classes"
        " (0.0012 M of 8.9 M parameters start anew)"
    )


def test_classes_take_the_rows_of_their_labels_and_others_stay_fresh(name: str) -> None:
    source, model = build(name, 4, 0), build(name, 5, 1)
    before, theirs = copies(model), source.state_dict()
    taken = fill(model, theirs, labels=(3, None, 0, None, 1))
    state, of_classes = model.state_dict(), model.class_tensors()
    for key, dim in of_classes.items():
        value = state[key]
        assert dim == 0
        assert torch.equal(value[[0, 2, 4]], theirs[key][[3, 0, 1]])
        assert torch.equal(value[[1, 3]], before[key][[1, 3]])
        assert torch.equal(value[5:], theirs[key][4:]), "rows of no class"
    assert "without rows for 2 of 5 classes" in taken.text
    assert set(taken.fresh) == set(of_classes)
    assert 0 < taken.fresh_parameters < taken.parameters


def test_rows_are_those_of_the_classes_scores(name: str) -> None:
    source, model = build(name, 4, 0), build(name, 4, 1)
    fill(model, source.state_dict(), labels=(2, 0, 3, 1))
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        before, after = (each(images) for each in (source, model))
    torch.testing.assert_close(after.scores(), before.scores()[..., [2, 0, 3, 1]])


def test_parts_are_taken_alone(name: str) -> None:
    source, model = build(name, 7, 0), build(name, 3, 1)
    before, theirs = copies(model), source.state_dict()
    taken = fill(model, theirs, parts=["backbone"])
    for key, value in model.state_dict().items():
        is_taken = key.startswith("backbone.")
        assert torch.equal(value, theirs[key] if is_taken else before[key]), key
    assert taken.text.startswith("taken: backbone (")
    assert all(not key.startswith("backbone.") for key in taken.fresh)
    assert taken.fresh_parameters == sum(
        value.numel() for key, value in model.named_parameters() if not key.startswith("backbone.")
    )


def test_all_of_the_same_classes_is_taken(name: str) -> None:
    source, model = build(name, 3, 0), build(name, 3, 1)
    theirs = source.state_dict()
    taken = fill(model, theirs)
    assert all(torch.equal(value, theirs[key]) for key, value in model.state_dict().items())
    assert taken.fresh == ()
    assert taken.fresh_parameters == 0
    assert "anew" not in taken.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"parts": ["bakbone"]}, "no part 'bakbone'; did you mean backbone? The detector has"),
        ({"labels": (0, 1)}, "expected a label for each of 3 classes, got 2"),
        ({"labels": (0, 1, 7)}, "the weights have no label 7; they have 0 to 6"),
        ({}, "the weights have shape [11, 8, 1, 1], the detector [7, 8, 1, 1]"),
    ],
)
def test_what_cannot_be_taken_is_refused(options: dict[str, Any], message: str) -> None:
    model = override(TOY, {"num_classes": 3}).build()
    before = copies(model)
    with pytest.raises(WeightsError, match=re.escape(message)) as caught:
        fill(model, override(TOY, {"num_classes": 7}).build().state_dict(), **options)
    assert "\n" not in str(caught.value)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_a_misfit_besides_the_classes_is_refused_with_its_tensor() -> None:
    state = override(TOY, {"num_classes": 7, "width": 4}).build().state_dict()
    with pytest.raises(WeightsError, match=r"backbone\.0\.weight: the weights have shape"):
        fill(TOY.build(), state, labels="fresh")
