"""Norms that were folded into convolutions: loaded, and given back before a training."""

import copy
from typing import NoReturn

import pytest
import torch
from torch import Tensor, nn

import detectors
from detectors import Convolution, weights
from detectors.interface import Detector, WeightsError

SMALL = {"backbone.width_mult": 0.125, "num_classes": 2, "input.size": (64, 64)}


def images(count: int = 4) -> Tensor:
    return torch.randn(count, 3, 64, 64, generator=torch.Generator().manual_seed(5))


def as_if_trained() -> Detector:
    """A small nano whose norms have statistics and terms of their own."""
    torch.manual_seed(0)
    model = detectors.create("rtmdet_nano", SMALL).train()
    with torch.no_grad():
        for norm in (part for part in model.modules() if isinstance(part, nn.BatchNorm2d)):
            norm.momentum = 1.0
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, std=0.3)
        model(images())  # so that every norm has the statistics of what enters it
    return model.eval()


def exported(model: Detector) -> list[Convolution]:
    """The convolutions of a deployed copy, in the order in which a graph has them."""
    pairs = zip(convolutions(model), convolutions(model.deploy()), strict=True)
    fused = {name: conv for (name, _), (_, conv) in pairs}
    return [
        Convolution(conv.weight, conv.bias, conv.stride[0], conv.groups)
        for conv in (fused[name] for name in model.exported_convolutions())
    ]


def convolutions(model: nn.Module) -> list[tuple[str, nn.Conv2d]]:
    return [(name, part) for name, part in model.named_modules() if isinstance(part, nn.Conv2d)]


@pytest.fixture(scope="module")
def trained() -> Detector:
    return as_if_trained()


@pytest.fixture
def folded(trained: Detector) -> Detector:
    model = detectors.create("rtmdet_nano", SMALL)
    weights.fill(model, detectors.unfold(model, exported(trained)))
    return model.eval()


@torch.no_grad()
def assert_alike(one: Detector, other: Detector) -> None:
    """Compare outputs up to rounding, which random weights enlarge; boxes reach 100 pixels."""
    ours, theirs = one(images()), other(images())
    torch.testing.assert_close(ours.logits, theirs.logits, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(ours.boxes, theirs.boxes, rtol=1e-4, atol=2e-2)


def test_every_convolution_is_exported_once(trained: Detector) -> None:
    names = trained.exported_convolutions()
    assert sorted(names) == sorted(name for name, _ in convolutions(trained))
    layer = [name for name in names if name.startswith("backbone.stages.0.1.")]
    assert [name.split(".")[4] for name in layer[:3]] == ["short", "main", "blocks"]
    head = [name.split(".")[1:4] for name in names if name.startswith("head.")]
    assert [part[:2] for part in head[:5]] == 4 * [["classify", "convs"]] + [
        ["classify", "predict"]
    ]
    assert [part[0] for part in head] == (5 * ["classify"] + 5 * ["regress"]) * 3


def test_folded_weights_compute_what_the_original_does(trained: Detector, folded: Detector) -> None:
    assert len(detectors.folded_norms(folded)) == 113
    assert detectors.folded_norms(trained) == []
    assert_alike(folded, trained)
    assert_alike(folded.deploy(), trained)


def test_norms_come_back_and_outputs_stay(folded: Detector) -> None:
    before = copy.deepcopy(folded)
    folded.train()
    assert detectors.restore_norms(folded, images().split(2)) == 113
    assert folded.training
    assert detectors.folded_norms(folded) == []
    assert_alike(folded.eval(), before)


@pytest.mark.parametrize("place", ["backbone.stem.0", "neck.out.2.1", "head.regress.convs.1.2.0"])
def test_restored_norms_have_the_statistics_of_what_enters_them(
    folded: Detector, place: str
) -> None:
    entered: list[Tensor] = []
    part = folded.get_submodule(place)
    hook = part.conv.register_forward_hook(lambda _, __, output: entered.append(output))
    detectors.restore_norms(folded, images().split(1))
    hook.remove()
    variance, mean = torch.var_mean(torch.cat(entered), dim=(0, 2, 3))
    torch.testing.assert_close(part.norm.running_mean, mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(part.norm.running_var, variance, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_a_training_starts_from_what_the_weights_know(folded: Detector) -> None:
    """Unrestored, a norm in training would scale every channel to what no layer ever saw."""
    wanted = folded(images()).logits
    lost = (copy.deepcopy(folded).train()(images()).logits - wanted).abs().max()
    detectors.restore_norms(folded, [images()])
    kept = (folded.train()(images()).logits - wanted).abs().max()
    assert kept < 0.2 * lost


def test_only_folded_norms_change(trained: Detector, folded: Detector) -> None:
    mixed = copy.deepcopy(trained)
    mixed.backbone.load_state_dict(folded.backbone.state_dict())
    wanted = copy.deepcopy(mixed)
    assert 0 < detectors.restore_norms(mixed, [images()]) < 113
    assert_alike(mixed, wanted)
    for key, value in mixed.neck.state_dict().items():
        assert torch.equal(value, trained.neck.state_dict()[key])


def test_a_detector_without_folded_norms_is_not_run() -> None:
    class Untouched:
        def __iter__(self) -> NoReturn:
            raise AssertionError("no batch is needed")

    assert detectors.restore_norms(detectors.create("rtmdet_nano", SMALL), Untouched()) == 0


def test_a_channel_that_never_varies_stays_finite(folded: Detector) -> None:
    nn.init.zeros_(folded.backbone.stem[0].conv.weight)
    before = copy.deepcopy(folded)
    detectors.restore_norms(folded, [images()])
    assert all(value.isfinite().all() for value in folded.state_dict().values())
    assert_alike(folded, before)


def test_convolutions_of_another_detector_are_refused(trained: Detector) -> None:
    given = exported(trained)
    with pytest.raises(WeightsError, match="has 122 convolutions, the detector 123"):
        detectors.unfold(trained, given[:-1])
    given[3] = given[3]._replace(stride=1)
    with pytest.raises(WeightsError, match=r"convolution 4 of the graph has .* stride 1, .* the "):
        detectors.unfold(trained, given)


@pytest.mark.parametrize(
    ("name", "words"), [("rtmdet_s", "head.sharing"), ("rtdetr_r18", "no exported graph")]
)
def test_detectors_whose_graph_is_unknown_say_so(name: str, words: str) -> None:
    with torch.device("meta"):
        model = detectors.create(name)
    with pytest.raises(WeightsError, match=words):
        model.exported_convolutions()
