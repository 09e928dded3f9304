"""Backbones: features as their configs describe them, freezing, fusion, and a peer's numbers."""

import copy
from dataclasses import replace
from typing import Any, TypeAlias

import pytest
import torch
from torch import Tensor, nn

from detectors.backbones import hgnetv2_config, presnet, presnet_config
from detectors.backbones.cspnext import CSPNeXtConfig
from detectors.backbones.hgnetv2 import HGNetv2Config
from detectors.backbones.presnet import PResNetConfig
from detectors.config import describe
from detectors.interface import fuse
from detectors.layers import FrozenBatchNorm2d

Freezable: TypeAlias = PResNetConfig | HGNetv2Config

NARROW: dict[str, Freezable] = {
    "basic": PResNetConfig(width_mult=0.125),
    "bottleneck": PResNetConfig(block="bottleneck", blocks=(1, 2, 1, 2), width_mult=0.125),
    "hgnetv2": HGNetv2Config(
        blocks=(1, 1, 2, 1), width_mult=0.125, freeze_norm=False, frozen_stages=0
    ),
}
PUBLISHED: dict[str, Any] = {
    "r18": presnet_config.R18,
    "r34": presnet_config.R34,
    "r50": presnet_config.R50,
    "r101": presnet_config.R101,
    "hgnetv2_l": hgnetv2_config.L,
    "hgnetv2_x": hgnetv2_config.X,
}
# weights of convolutions, and the scales and shifts of norms, counted in upstream's state dicts
PARAMETERS = {
    "r18": (11_190_112, 9_856),
    "r34": (21_290_848, 17_280),
    "r50": (23_474_016, 53_248),
    "r101": (42_413_920, 105_472),
    "hgnetv2_l": (13_507_680, 45_696),
    "hgnetv2_x": (33_231_840, 93_920),
}
CHANNELS = {
    "r18": (128, 256, 512),
    "r34": (128, 256, 512),
    "r50": (512, 1024, 2048),
    "r101": (512, 1024, 2048),
    "hgnetv2_l": (512, 1024, 2048),
    "hgnetv2_x": (512, 1024, 2048),
}


@pytest.fixture(params=NARROW.values(), ids=NARROW.keys())
def narrow(request: pytest.FixtureRequest) -> Freezable:
    config: Freezable = request.param
    return config


@pytest.fixture
def images() -> Tensor:
    return torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))


def build(config: Any) -> nn.Module:
    """Make a backbone whose norms have statistics and affine terms of their own."""
    torch.manual_seed(0)
    model = config.build()
    perturb(model)
    return model


def perturb(model: nn.Module) -> None:
    for norm in model.modules():
        if isinstance(norm, (nn.BatchNorm2d, FrozenBatchNorm2d)):
            with torch.no_grad():
                norm.weight.uniform_(0.5, 1.0)
                norm.bias.normal_(0.0, 0.1)
                norm.running_mean.normal_(0.0, 0.1)
                norm.running_var.uniform_(0.8, 1.2)


def norms(model: nn.Module, kind: type[nn.Module]) -> list[nn.Module]:
    return [module for module in model.modules() if isinstance(module, kind)]


def parts(model: nn.Module) -> list[nn.Module]:
    """Return the stem and the four stages."""
    return [model.stem, *model.stages]


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_sizes(name: str) -> None:
    config = PUBLISHED[name]
    with torch.device("meta"):
        model = config.build()
    weights = [m.weight.numel() for m in model.modules() if isinstance(m, nn.Conv2d)]
    kinds = (FrozenBatchNorm2d, nn.BatchNorm2d)
    affine = [2 * m.weight.numel() for m in model.modules() if isinstance(m, kinds)]
    assert (sum(weights), sum(affine)) == PARAMETERS[name]
    assert config.channels == CHANNELS[name]


@pytest.mark.parametrize("name", PUBLISHED)
def test_what_learns_in_published_sizes(name: str) -> None:
    with torch.device("meta"):
        model = PUBLISHED[name].build()
    frozen = name not in ("r18", "r34")
    assert bool(norms(model, FrozenBatchNorm2d)) is frozen
    assert bool(norms(model, nn.BatchNorm2d)) is not frozen
    learns = [all(p.requires_grad for p in part.parameters()) for part in parts(model)]
    assert learns == [not frozen, True, True, True, True]


@pytest.mark.parametrize("config", [*NARROW.values(), CSPNeXtConfig(width_mult=0.125)])
@pytest.mark.parametrize("width_mult", [0.125, 0.3])
def test_features_are_as_the_config_says(config: Any, width_mult: float, images: Tensor) -> None:
    config = replace(config, width_mult=width_mult)
    with torch.no_grad():
        features = config.build()(images)
    sizes = [(64 // stride, 96 // stride) for stride in config.strides]
    assert [tuple(x.shape) for x in features] == [
        (2, channels, *size) for channels, size in zip(config.channels, sizes, strict=True)
    ]


def test_the_narrowest_has_eight_channels(narrow: Freezable) -> None:
    with torch.device("meta"):
        model = replace(narrow, width_mult=0.01).build()
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    halves = 4  # inside HGNetv2's stem and the joints of its blocks
    least = halves if isinstance(narrow, HGNetv2Config) else 8
    assert min(conv.out_channels for conv in convs) == least


def test_odd_maps_are_rounded_up(narrow: Freezable) -> None:
    with torch.no_grad():
        features = narrow.build()(torch.zeros(1, 3, 44, 68))  # 11x17 at stride 4
    assert [tuple(x.shape[-2:]) for x in features] == [(6, 9), (3, 5), (2, 3)]


def test_a_pooled_shortcut_averages_what_there_is_at_the_border() -> None:
    block = presnet.BasicBlock(8, 8, stride=2, projected=True, frozen=False).eval()
    with torch.no_grad():
        block.conv2.norm.weight.zero_()  # the shortcut alone is left
        block.short.conv.weight.copy_(torch.eye(8)[:, :, None, None])
    x = torch.arange(15.0).reshape(1, 1, 3, 5).repeat(1, 8, 1, 1)
    with torch.no_grad():
        y = block(x)[0, 0]
    expected = torch.tensor([[3.0, 5.0, 6.5], [10.5, 12.5, 14.0]])
    torch.testing.assert_close(y, expected, rtol=1e-4, atol=1e-4)


def test_gradients_reach_every_parameter(narrow: Freezable, images: Tensor) -> None:
    model = build(narrow).train()
    sum(x.square().mean() for x in model(images)).backward()
    assert [key for key, p in model.named_parameters() if p.grad is None] == []
    assert all(p.grad.isfinite().all() and p.grad.any() for p in model.parameters())


@pytest.mark.parametrize("frozen_stages", range(6))
def test_frozen_stages_neither_learn_nor_count(
    narrow: Freezable, images: Tensor, frozen_stages: int
) -> None:
    model = build(replace(narrow, frozen_stages=frozen_stages)).train()
    before = copy.deepcopy(model.state_dict())
    learning = [p for p in model.parameters() if p.requires_grad]
    if learning:
        sum(x.square().mean() for x in model(images)).backward()
        torch.optim.SGD(learning, lr=1.0).step()
    after = model.state_dict()
    for index, part in enumerate(parts(model)):
        prefix = "stem." if index == 0 else f"stages.{index - 1}."
        changed = {key for key in after if not torch.equal(after[key], before[key])}
        own = {key for key in after if key.startswith(prefix)}
        assert own & changed == (set() if index < frozen_stages else own)
        assert all(p.requires_grad is (index >= frozen_stages) for p in part.parameters())


def test_frozen_norms_let_convolutions_learn(narrow: Freezable, images: Tensor) -> None:
    model = build(replace(narrow, freeze_norm=True)).train()
    assert norms(model, nn.BatchNorm2d) == []
    assert not any(".norm." in key for key, _ in model.named_parameters())
    sum(x.square().mean() for x in model(images)).backward()
    assert all(p.grad is not None and p.grad.any() for p in model.parameters())
    with torch.no_grad():
        in_training, after = model(images), model.eval()(images)
    for a, b in zip(in_training, after, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("freeze_norm", [False, True])
def test_fused_is_equal_and_without_norms(
    narrow: Freezable, images: Tensor, freeze_norm: bool
) -> None:
    model = build(replace(narrow, freeze_norm=freeze_norm)).eval()
    with torch.no_grad():
        expected = model(images)
        fuse(model)
        found = model(images)
    assert norms(model, nn.BatchNorm2d) + norms(model, FrozenBatchNorm2d) == []
    for a, b in zip(found, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["r18", "r34", "hgnetv2_l"])
def test_convolutions_start_with_the_variance_that_relu_needs(name: str) -> None:
    torch.manual_seed(0)
    model = replace(PUBLISHED[name], width_mult=0.25).build()
    convs = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.weight.numel() > 1000]
    ratios = [conv.weight.std() * (conv.weight[0].numel() / 2) ** 0.5 for conv in convs]
    assert all(0.9 < ratio < 1.1 for ratio in ratios)


@pytest.mark.parametrize("name", ["r50", "r101"])
def test_untrained_frozen_norms_let_no_feature_overflow(name: str) -> None:
    torch.manual_seed(0)
    model = replace(PUBLISHED[name], width_mult=0.25).build().eval()
    with torch.no_grad():
        features = model(torch.rand(1, 3, 96, 96))
    assert 0.1 < features[-1].std() < 100


@pytest.mark.parametrize("config", [PResNetConfig(), HGNetv2Config()])
def test_every_knob_is_described(config: Freezable) -> None:
    knobs = {knob.path: knob for knob in describe(config)}
    assert all(knob.doc for knob in knobs.values())
    assert "pre-trained weights" in " ".join(knobs["freeze_norm"].doc.split())


@pytest.mark.parametrize(
    ("config", "knobs", "named"),
    [
        (PResNetConfig, {"block": "wide"}, "block must"),
        (PResNetConfig, {"blocks": (2, 2, 0, 2)}, "blocks"),
        (PResNetConfig, {"blocks": (2, 2, 2)}, "blocks"),
        (PResNetConfig, {"width_mult": 0.0}, "width_mult"),
        (PResNetConfig, {"frozen_stages": 6}, "frozen_stages"),
        (PResNetConfig, {"frozen_stages": -1}, "frozen_stages"),
        (HGNetv2Config, {"stem_channels": (4, 48)}, "stem_channels"),
        (HGNetv2Config, {"mid_channels": (48, 96, 192)}, "mid_channels"),
        (HGNetv2Config, {"stage_channels": (128, 512, 1024, 0)}, "stage_channels"),
        (HGNetv2Config, {"blocks": (1, 1, 3, 0)}, "blocks"),
        (HGNetv2Config, {"layers_per_block": 0}, "layers_per_block"),
        (HGNetv2Config, {"width_mult": -1.0}, "width_mult"),
        (HGNetv2Config, {"frozen_stages": 6}, "frozen_stages"),
    ],
)
def test_impossible_knobs_are_refused(config: Any, knobs: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        config(**knobs)


@pytest.mark.parametrize("size", [(64, 96), (68, 44)])
def test_hgnetv2_parity_with_hugging_face(size: tuple[int, int]) -> None:
    transformers = pytest.importorskip("transformers")
    ours = (
        replace(hgnetv2_config.L, width_mult=0.25, freeze_norm=False, frozen_stages=0)
        .build()
        .eval()
    )
    theirs = transformers.HGNetV2Backbone(
        transformers.HGNetV2Config(
            stem_channels=[3, 8, 12],
            stage_in_channels=[12, 32, 128, 256],
            stage_mid_channels=[12, 24, 48, 96],
            stage_out_channels=[32, 128, 256, 512],
            out_features=["stage2", "stage3", "stage4"],
        )
    ).eval()
    torch.manual_seed(0)
    for module in theirs.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    perturb(theirs)
    ours.load_state_dict({our_name(key): value for key, value in theirs.state_dict().items()})
    images = torch.randn(2, 3, *size, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        found, expected = ours(images), theirs(images).feature_maps
    for a, b in zip(found, expected, strict=True):
        assert 0.1 < b.std() < 100
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def our_name(key: str) -> str:
    """Return our name of a tensor of Hugging Face's HGNetV2Backbone."""
    key = key.replace("embedder.", "stem.", 1).removeprefix("encoder.")
    return key.replace(".convolution.", ".conv.").replace(".normalization.", ".norm.")
