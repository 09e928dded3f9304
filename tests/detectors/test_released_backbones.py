"""Backbones as upstream released them, for ImageNet, find their places in ours."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor

import detectors
from detectors.interface import Detector, WeightsError
from detectors.weights import fill
from tests import lanes
from tests.detectors import golden

PRESNETS = {"rtdetr_r18": "r18vd", "rtdetr_r34": "r34vd", "rtdetr_r50": "r50vd"}
COUNTER = "num_batches_tracked"


def of_backbone(spec: str, prefix: str) -> dict[str, Tensor]:
    """Return the backbone's tensors of an upstream detector, with another prefix."""
    return {
        prefix + key.removeprefix("backbone."): value
        for key, value in golden.upstream_weights(spec).items()
        if key.startswith("backbone.")
    }


def built(name: str) -> Detector:
    torch.manual_seed(0)
    return detectors.create(name)


def sums(detector: Detector) -> list[float]:
    """Return what is in the backbone, whatever its keys are."""
    state = detector.backbone.state_dict()
    return sorted(v.double().sum().item() for k, v in state.items() if COUNTER not in k)


def assert_taken(detector: Detector, given: dict[str, Tensor]) -> None:
    """See that the backbone has the given weights, and the rest those of a fresh model."""
    expected = [v.double().sum().item() for k, v in given.items() if COUNTER not in k]
    assert sums(detector) == sorted(expected)
    fresh = built(name_of(detector)).state_dict()
    for key, value in detector.state_dict().items():
        assert key.startswith("backbone.") or torch.equal(value, fresh[key]), key


def name_of(detector: Detector) -> str:
    return next(name for name, item in detectors.CONFIGS.items() if item == detector.config)


@pytest.mark.parametrize("size", ["tiny", "s"])
def test_cspnext_comes_from_a_classifier_whose_head_is_left_out(size: str) -> None:
    """As mmpretrain saves it: `backbone.` in front, 1000 classes behind, and a `meta`."""
    given = of_backbone(f"rtmdet_{size}", "backbone.")
    head = {"head.fc.weight": torch.ones(1000, 4), "head.fc.bias": torch.ones(1000)}
    content = {"meta": {"epoch": 600}, "state_dict": {**given, **head}}
    detector = built(f"rtmdet_{size}")
    fill(detector, content, parts=("backbone",))
    assert_taken(detector, given)


@pytest.mark.parametrize("name", lanes.split(PRESNETS, ("rtdetr_r18", "rtdetr_r50")))
def test_presnet_comes_without_a_prefix(name: str) -> None:
    given = of_backbone(f"rtdetr_{PRESNETS[name]}", "")
    assert "conv1.conv1_1.conv.weight" in given
    detector = built(name)
    fill(detector, given, parts=("backbone",))
    assert_taken(detector, given)


def test_frozen_norms_leave_counters_out() -> None:
    given = of_backbone("rtdetr_r50vd", "")
    norms = [key for key in given if key.endswith("running_mean")]
    counters = {key.replace("running_mean", COUNTER): torch.tensor(7) for key in norms}
    detector = built("rtdetr_r50")
    fill(detector, {**given, **counters}, parts=("backbone",))
    assert_taken(detector, given)


def hgnetv2(blocks: tuple[int, ...], layers: int = 6) -> Iterator[str]:
    """Yield upstream's names of convolutions with norms, their convolution's own name apart.

    Source: lyuwenyu/RT-DETR@068dfde rtdetrv2_pytorch/src/nn/backbone/hgnetv2.py (Apache-2.0).
    """
    yield from (f"stem.stem{part}" for part in ("1", "2a", "2b", "3", "4"))
    for stage, count in enumerate(blocks):
        if stage:
            yield f"stages.{stage}.downsample"
        for block in range(count):
            place = f"stages.{stage}.blocks.{block}"
            for layer in range(layers):
                light = (".conv1", ".conv2") if stage >= 2 else ("",)
                yield from (f"{place}.layers.{layer}{part}" for part in light)
            yield f"{place}.aggregation_squeeze_conv"
            yield f"{place}.aggregation_excitation_conv"


def upstream_of(ours: str) -> str:
    """Return upstream's key of one of our tensors, worked out from its name."""
    key = ours.removeprefix("backbone.").replace(".norm.", ".bn.")
    key = re.sub(r"(stem\.stem2[ab]\.conv)\.", r"\1.1.", key)  # behind its padding
    key = key.replace(".aggregation.0.", ".aggregation_squeeze_conv.")
    return key.replace(".aggregation.1.", ".aggregation_excitation_conv.")


@pytest.mark.parametrize(
    ("name", "blocks"),
    [
        ("rtdetr_hgnetv2_l", (1, 1, 3, 1)),
        pytest.param("rtdetr_hgnetv2_x", (1, 2, 5, 2), marks=pytest.mark.slow),
    ],
)
def test_hgnetv2_comes_under_the_names_of_upstreams_module(
    name: str, blocks: tuple[int, ...]
) -> None:
    detector = built(name)
    own = {k: v for k, v in detector.state_dict().items() if k.startswith("backbone.")}
    given = {
        upstream_of(key): torch.rand_like(value) if value.dim() else value
        for key, value in own.items()
    }
    padded = ("stem.stem2a", "stem.stem2b")
    norm = ("weight", "bias", "running_mean", "running_var")
    expected = {
        key
        for place in hgnetv2(blocks)
        for key in (
            f"{place}.conv.{'1.' if place in padded else ''}weight",
            *(f"{place}.bn.{item}" for item in norm),
        )
    }
    assert given.keys() == expected
    fill(detector, given, parts=("backbone",))
    assert_taken(detector, given)


def test_a_backbone_of_another_size_is_refused_with_the_tensor() -> None:
    given = of_backbone("rtdetr_r18vd", "")
    with pytest.raises(WeightsError, match="missing .*backbone"):
        fill(built("rtdetr_r34"), given, parts=("backbone",))


def test_the_names_are_those_that_upstream_made(shared: Path) -> None:
    """As the reference's own list of keys has them."""
    listed = json.loads((shared / "reference" / "spec_rtdetr_r101vd.json").read_text("utf-8"))
    with torch.device("meta"):
        detector = detectors.create("rtdetr_r101")
    given = {
        key.removeprefix("backbone."): torch.empty(shape, device="meta")
        for key, shape, *_ in listed["state_dict"]
        if key.startswith("backbone.")
    }
    content = {f"backbone.{key}": value for key, value in given.items()}
    translated = detector.translate(content)
    own = {k: v.shape for k, v in detector.state_dict().items() if k.startswith("backbone.")}
    assert {key: value.shape for key, value in translated.items()} == own
