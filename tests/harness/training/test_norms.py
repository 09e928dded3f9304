"""Norms that came folded get statistics of training images before the first step."""

import copy

import pytest
import torch
from torch import nn

import detectors
from detectors import weights
from detectors.interface import Detector
from harness import data
from harness.config.data import DataConfig, ShapesConfig
from harness.config.recipe import Recipe
from harness.data import DataSet, normalize, val_loader
from harness.training import norms
from harness.training.train import train

SMALL = {"backbone.width_mult": 0.125, "num_classes": 6, "input.size": (64, 64)}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def shapes(tmp_path_factory: pytest.TempPathFactory) -> DataSet:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DETBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
        config = ShapesConfig(train_images=6, val_images=2, size=64)
        return data.load(DataConfig(source="shapes", shapes=config))


def geometry(part: nn.Conv2d) -> tuple[int, int]:
    return part.stride[0], part.groups


@pytest.fixture
def folded() -> Detector:
    """A nano as its convolutions alone make it, with norms that stand for folded ones."""
    torch.manual_seed(0)
    model = detectors.create("rtmdet_nano", SMALL)
    given = [
        detectors.Convolution(
            conv.weight * 3, torch.rand(len(conv.weight)), conv.stride[0], conv.groups
        )
        for conv in map(model.get_submodule, model.exported_convolutions())
    ]
    weights.fill(model, detectors.unfold(model, given))
    return model.eval()


@torch.no_grad()
def test_they_come_from_images_as_they_are(folded: Detector, shapes: DataSet) -> None:
    (batch,) = val_loader(shapes.train, folded.config.input, len(shapes.train), workers=0)
    images = normalize(batch.images, folded.config.input)
    before, stem = folded(images), folded.backbone.stem[0]
    assert norms.restore(folded, shapes.train, CPU) == 113
    after = folded(images)
    torch.testing.assert_close(after.logits, before.logits, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(after.boxes, before.boxes, rtol=1e-4, atol=2e-2)
    entered = stem.conv(images)
    torch.testing.assert_close(
        stem.norm.running_mean, entered.mean((0, 2, 3)), rtol=1e-3, atol=1e-4
    )
    assert norms.restore(folded, shapes.train, CPU) == 0


def test_a_training_restores_them_first_and_says_so(folded: Detector, shapes: DataSet) -> None:
    recipe = Recipe(epochs=1, batch_size=3, lr=1e-9, ema_decay=None, weight_decay=0, workers=0)
    wanted = copy.deepcopy(folded)
    norms.restore(wanted, shapes.train, CPU)
    training = train(folded, shapes, recipe, seed=0, device="cpu")
    assert training.details["norms_restored"] == 113
    assert detectors.folded_norms(folded) == []
    for key, value in wanted.named_parameters():  # which a rate of nothing leaves as they began
        torch.testing.assert_close(folded.get_parameter(key), value, rtol=0, atol=1e-6)


def test_other_trainings_have_nothing_to_tell(shapes: DataSet) -> None:
    recipe = Recipe(epochs=1, batch_size=6, lr=1e-3, workers=0)
    model = detectors.create("tests.toy:TOY")
    assert not any(isinstance(part, nn.BatchNorm2d) for part in model.modules())
    assert "norms_restored" not in train(model, shapes, recipe, seed=0, device="cpu").details
