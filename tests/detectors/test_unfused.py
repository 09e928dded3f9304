"""Weights of deployed models, for the models before they were."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

import detectors
from detectors.interface import Detector, WeightsError
from detectors.layers import ConvNormAct
from detectors.unfused import unfused
from detectors.weights import fill

SIZE = (64, 64)
SMALL = {"backbone.width_mult": 0.125, "input.size": SIZE}
NARROW = {**SMALL, "neck.hidden_dim": 32, "head.hidden_dim": 32}
NAMES: list[tuple[str, dict[str, Any]]] = [
    ("rtmdet_tiny", SMALL),
    ("rtmdet_tiny", {**SMALL, "head.sharing": "separate"}),
    ("rtmdet_tiny", {**SMALL, "head.sharing": "shared"}),
    ("rtdetr_r18", NARROW),
]


def trained(name: str, knobs: dict[str, Any], seed: int) -> Detector:
    """A detector whose norms do something."""
    torch.manual_seed(seed)
    model = detectors.create(name, knobs).eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias)
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return model


@torch.no_grad()
def features(model: Detector) -> list[Tensor]:
    images = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    return list(model.neck(model.backbone(images)))


@pytest.mark.parametrize(("name", "knobs"), NAMES)
def test_deployed_weights_compute_the_same_before_deployment(
    name: str, knobs: dict[str, Any]
) -> None:
    source, model = trained(name, knobs, 0), trained(name, knobs, 1)
    state = source.deploy().state_dict()
    assert not any("running_var" in key for key in state)
    if name.startswith("rtdetr"):  # what only training needs is gone
        kept = {k: v for k, v in source.state_dict().items() if k not in unfused(source, state)}
        assert all(key.startswith(("head.score_heads", "head.denoising")) for key in kept)
        with pytest.raises(WeightsError, match=r"missing head\.score_heads\.0\.weight"):
            fill(model, state)
        state |= kept
    fill(model, state)
    for ours, theirs in zip(features(model), features(source), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        images = torch.rand(1, 3, *SIZE, generator=torch.Generator().manual_seed(0))
        ours, theirs = (each(images).logits.sort(1).values for each in (model, source))
    torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-3)


def test_norms_folded_in_place_as_mmengine_does(tmp_path: Any) -> None:
    """Its `fuse_conv_bn` gives the convolution a bias and leaves its name."""
    source, model = trained(*NAMES[1], 0), trained(*NAMES[1], 1)
    state = source.state_dict()
    for name, module in source.named_modules():
        if isinstance(module, ConvNormAct):
            conv = fuse_conv_bn_eval(module.conv, module.norm)
            norms = [key for key in state if key.startswith(f"{name}.norm.")]
            for key in norms:
                del state[key]
            state |= {f"{name}.conv.weight": conv.weight, f"{name}.conv.bias": conv.bias}
    torch.save({"state_dict": state}, tmp_path / "fused.pth")
    fill(model, tmp_path / "fused.pth")
    for ours, theirs in zip(features(model), features(source), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_upstreams_deployed_rtdetr_keeps_its_parts_and_they_are_taken() -> None:
    source, model = trained(*NAMES[3], 0), trained(*NAMES[3], 1)
    state = dict(source.state_dict())
    block = "neck.top_down.0.blocks.0.dense.conv"
    sums = {
        "encoder.fpn_blocks.0.bottlenecks.0.conv.weight": torch.ones(
            state[f"{block}.weight"].shape
        ),
        "encoder.fpn_blocks.0.bottlenecks.0.conv.bias": torch.ones(len(state[f"{block}.weight"])),
    }
    fill(model, {**state, **sums})
    assert torch.equal(model.state_dict()[f"{block}.weight"], state[f"{block}.weight"])


def test_levels_that_are_not_one_convolution_are_refused() -> None:
    source, model = trained(*NAMES[0], 0), trained(*NAMES[0], 1)
    state = source.deploy().state_dict()
    state["head.classify.convs.0.1.0.weight"][0, 0] += 1
    with pytest.raises(WeightsError, match=r"head\.classify\.convs\.0: the levels' folded"):
        fill(model, state)


def test_a_channel_that_one_level_switches_off_keeps_its_weights() -> None:
    source, model = trained(*NAMES[0], 0), trained(*NAMES[0], 1)
    with torch.no_grad():
        source.head.classify.convs[0].norms[0].weight[0] = 0  # type: ignore[index,union-attr]
    fill(model, source.deploy().state_dict())
    images = torch.rand(1, 3, *SIZE)
    with torch.no_grad():
        torch.testing.assert_close(
            model(images).logits, source(images).logits, rtol=1e-3, atol=1e-3
        )


def test_weights_that_are_not_folded_stay_as_they_are() -> None:
    source = trained(*NAMES[0], 0)
    state = source.state_dict()
    assert unfused(source, state) == state
