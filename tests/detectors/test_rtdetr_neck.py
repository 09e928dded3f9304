"""RT-DETR's hybrid encoder: its variants by hand-worked counts, and against Hugging Face's."""

import copy
import re
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detectors.interface import fuse
from detectors.rtdetr.encoder_layers import FusionBlock, RepVGGBlock, encode_positions
from detectors.rtdetr.neck import HybridEncoder, HybridEncoderConfig

VARIANTS = ["A", "B", "C", "D", "D_S5", "E"]
CHANNELS = (8, 12, 20)
SMALL = {"hidden_dim": 16, "num_heads": 2, "feedforward_dim": 24, "num_blocks": 2}


def build(**knobs: Any) -> HybridEncoder:
    """Return a small encoder in eval mode, with statistics and affine terms of its own."""
    torch.manual_seed(0)
    model = HybridEncoderConfig(**(SMALL | knobs)).build(CHANNELS).eval()
    for part in model.modules():
        if isinstance(part, nn.BatchNorm2d | nn.LayerNorm):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.normal_(part.bias, std=0.3)
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.normal_(std=0.3)
            part.running_var.uniform_(0.5, 1.5)
    return model


def maps(height: int = 8, width: int = 12) -> list[Tensor]:
    """Return levels, fine to coarse, of which the finest has this size."""
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(2, channels, height >> level, width >> level, generator=generator)
        for level, channels in enumerate(CHANNELS)
    ]


@torch.no_grad()
def run(model: nn.Module, features: list[Tensor] | None = None) -> list[Tensor]:
    return model(maps() if features is None else features)


def differ(ours: list[Tensor], theirs: list[Tensor]) -> list[bool]:
    """Tell which tensors differ in any bit; both were computed in this process, by one module."""
    return [not torch.equal(a, b) for a, b in zip(ours, theirs, strict=True)]


@pytest.mark.parametrize("variant", VARIANTS)
def test_published_parameters_of_variants(variant: str) -> None:
    """Of R50, from E's total less its parts; the paper gives whole millions, cut."""
    norm, width = 2 * 256, 256
    projections = sum(c * width + norm for c in (512, 1024, 2048))
    attention = 3 * (width + 1) * width + (width + 1) * width + 2 * 2 * width
    attention += (width + 1) * 1024 + (1024 + 1) * width
    rep_vgg = (9 + 1) * width * width + 2 * norm
    path = 2 * (width * width + norm) + 2 * (9 * width * width + norm)
    path += 4 * 2 * (2 * width * width + norm)
    layers, fused, blocks, millions = {
        "A": (0, 0, 0, 31),
        "B": (1, 0, 0, 32),
        "C": (1, 0, 0, 32),
        "D": (1, 1, 0, 35),
        "D_S5": (1, 1, 0, 35),
        "E": (1, 1, 4 * 3, 42),
    }[variant]
    encoder = projections + layers * attention + fused * path + blocks * rep_vgg
    with torch.device("meta"):
        model = HybridEncoderConfig(variant=variant).build((512, 1024, 2048))
    assert sum(p.numel() for p in model.parameters()) == encoder
    rest = 42891372 - (projections + attention + path + 12 * rep_vgg)
    assert (rest + encoder) // 1_000_000 == millions


@pytest.mark.parametrize("variant", VARIANTS)
def test_shapes(variant: str) -> None:
    model = build(variant=variant)
    assert model.out_channels == (16, 16, 16)
    shapes = [tuple(x.shape) for x in run(model)]
    assert shapes == [(2, 16, 8, 12), (2, 16, 4, 6), (2, 16, 2, 3)]


@pytest.mark.parametrize("variant", VARIANTS)
def test_fused_equals_the_original(variant: str) -> None:
    model = build(variant=variant, expand_ratio=0.5)
    fused = copy.deepcopy(model)
    fuse(fused)
    parts = list(fused.modules())
    assert not any(isinstance(part, nn.BatchNorm2d | RepVGGBlock) for part in parts)
    once = run(fused)
    for ours, theirs in zip(once, run(model), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)
    fuse(fused)
    assert not any(differ(run(fused), once))


def test_a_fused_rep_vgg_block_is_one_convolution() -> None:
    block = build().top_down[0].blocks[0]
    before = copy.deepcopy(block.state_dict())
    conv, act = block.fuse()
    assert conv.kernel_size == (3, 3)
    assert isinstance(act, nn.SiLU)
    torch.testing.assert_close(block.state_dict(), before, rtol=0, atol=0)


def test_a_fusion_block_adds_its_branches() -> None:
    block = FusionBlock(6, 4, num_blocks=0, expand_ratio=1.0).eval()
    x = torch.randn(1, 6, 3, 5)
    with torch.no_grad():
        torch.testing.assert_close(block(x), block.main(x) + block.short(x), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("variant", "reached"),
    [
        ("A", [False, False, True]),
        ("B", [False, False, True]),
        ("C", [True, True, True]),
        ("D", [True, True, True]),
        ("E", [True, True, True]),
    ],
)
def test_levels_that_see_the_coarsest(variant: str, reached: list[bool]) -> None:
    model, changed = build(variant=variant), maps()
    changed[2][0, 0, 0, 0] += 1
    assert differ(run(model, changed), run(model)) == reached


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_is_trained(variant: str) -> None:
    model = build(variant=variant, expand_ratio=0.5).train()
    weights = [torch.randn_like(x) for x in run(model)]
    sum((w * x).sum() for w, x in zip(weights, model(maps()), strict=True)).backward()
    assert [key for key, p in model.named_parameters() if p.grad is None] == []


@pytest.mark.parametrize(
    ("knobs", "attending", "stacks"),
    [
        ({"variant": "A"}, (), 0),
        ({"variant": "B"}, ((3,), (4,), (5,)), 1),
        ({"variant": "C"}, ((3, 4, 5),), 1),
        ({"variant": "D"}, ((3,), (4,), (5,)), 1),
        ({"variant": "D", "attention_levels": (4, 5)}, ((4,), (5,)), 1),
        ({"variant": "D_S5"}, ((5,),), 1),
        ({}, ((5,),), 1),
        ({"attention_levels": (3, 5)}, ((3,), (5,)), 2),
        ({"num_layers": 0}, (), 0),
        ({"variant": "B", "num_layers": 0}, (), 0),
    ],
)
def test_where_attention_acts(knobs: dict[str, Any], attending: Any, stacks: int) -> None:
    model = build(**knobs, **({} if "num_layers" in knobs else {"num_layers": 2}))
    assert HybridEncoderConfig(**(SMALL | knobs)).attending == attending
    assert [len(stack) for stack in model.intra] == [2] * stacks
    projected = model.input_proj(maps())
    with torch.no_grad():
        encoded = model._attend(projected)
    levels = {level for group in attending for level in group}
    assert differ(encoded, projected) == [level in levels for level in (3, 4, 5)]


def test_shared_attention_is_the_same_for_every_level() -> None:
    model = build(variant="B")
    x = torch.randn(2, 16, 4, 6)
    with torch.no_grad():
        first, second, third = model._attend([x, x, x])
    assert torch.equal(first, second)
    assert torch.equal(first, third)


def test_positions_hold_row_and_column() -> None:
    table = encode_positions(3, 5, 8, torch.device("cpu")).view(3, 5, 8)
    row, column = torch.tensor(2.0), torch.tensor(4.0)
    expected = [
        *((row * f).sin() for f in (1.0, 0.01)),
        *((row * f).cos() for f in (1.0, 0.01)),
        *((column * f).sin() for f in (1.0, 0.01)),
        *((column * f).cos() for f in (1.0, 0.01)),
    ]
    torch.testing.assert_close(table[2, 4], torch.stack(expected))
    assert torch.equal(table[1, 0, :4], table[1, 3, :4])
    assert torch.equal(table[0, 2, 4:], table[2, 2, 4:])


def test_positions_are_added_to_queries_and_keys_alone() -> None:
    """A layer whose attention only averages values must not see positions."""
    layer = build().intra[0][0]
    layer.self_attn.in_proj_weight.data[: 2 * 16] = 0
    layer.self_attn.in_proj_bias.data[: 2 * 16] = 0
    tokens = torch.randn(1, 6, 16)
    with torch.no_grad():
        ours, theirs = layer(tokens, torch.randn(6, 16)), layer(tokens, torch.zeros(6, 16))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)


def test_dropout_acts_in_training_only() -> None:
    model = build(dropout=0.5)
    assert not any(differ(run(model), run(model)))
    stack = model.intra[0].train()
    x = torch.randn(1, 16, 2, 3)
    assert not torch.equal(stack([x])[0], stack([x])[0])


@pytest.mark.parametrize("variant", ["C", "E"])
def test_low_precision(variant: str) -> None:
    model = build(variant=variant)
    expected = run(model)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = run(model)
    cast = run(model.bfloat16(), [x.bfloat16() for x in maps()])
    assert all(x.dtype == torch.bfloat16 for x in cast)
    for low in (mixed, cast):
        for ours, theirs in zip(low, expected, strict=True):
            torch.testing.assert_close(ours.float(), theirs, rtol=0.1, atol=0.15)


def test_meta() -> None:
    with torch.device("meta"):
        model = HybridEncoderConfig(**SMALL, variant="D").build(CHANNELS)
        features = [x.to("meta") for x in maps()]
    assert [tuple(x.shape) for x in model(features)] == [tuple(x.shape) for x in run(build())]


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("variant", ["C", "E"])
def test_forward_can_be_exported(variant: str) -> None:
    model = build(variant=variant)
    program = torch.export.export(model, (maps(),))
    for ours, theirs in zip(run(program.module()), run(model), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("knobs", "field"),
    [
        ({"hidden_dim": 10, "num_heads": 2}, "hidden_dim"),
        ({"hidden_dim": 16, "num_heads": 3}, "hidden_dim"),
        ({"hidden_dim": 0}, "hidden_dim"),
        ({"num_heads": 0}, "num_heads"),
        ({"num_layers": -1}, "num_layers"),
        ({"feedforward_dim": 0}, "feedforward_dim"),
        ({"dropout": 1.0}, "dropout"),
        ({"num_blocks": -1}, "num_blocks"),
        ({"expand_ratio": 0.0}, "expand_ratio"),
        ({"attention_levels": (2,)}, "attention_levels"),
        ({"attention_levels": (5, 6)}, "attention_levels"),
        ({"attention_levels": (5, 5)}, "attention_levels"),
        ({"attention_levels": (5, 4)}, "attention_levels"),
        *(({"attention_levels": (5,), "variant": name}, "attention_levels") for name in "ABC"),
    ],
)
def test_impossible_knobs_are_refused(knobs: dict[str, Any], field: str) -> None:
    with pytest.raises(ValueError, match=field):
        HybridEncoderConfig(**knobs)


def test_another_number_of_levels_is_refused() -> None:
    with pytest.raises(ValueError, match="in_channels must name 3 levels"):
        HybridEncoderConfig().build((8, 16))


RENAMES = [
    (r"^aifi\.(\d+)\.layers\.", r"intra.\1."),
    (r"\.self_attn_layer_norm\.", ".norm1."),
    (r"\.final_layer_norm\.", ".norm2."),
    (r"\.mlp\.fc(\d)\.", r".linear\1."),
    (r"\.self_attn\.o_proj\.", ".self_attn.out_proj."),
    (r"^lateral_convs\.", "lateral."),
    (r"^fpn_blocks\.", "top_down."),
    (r"^downsample_convs\.", "downsample."),
    (r"^pan_blocks\.", "bottom_up."),
    (r"\.bottlenecks\.(\d+)\.conv1\.", r".blocks.\1.dense."),
    (r"\.bottlenecks\.(\d+)\.conv2\.", r".blocks.\1.point."),
    (r"\.conv1\.", ".main."),
    (r"\.conv2\.", ".short."),
    (r"\.conv3\.", ".final."),
]
"""Names in transformers' hybrid encoder and ours, applied one after the other."""


def translate(theirs: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return a state dict with our keys; queries, keys and values become one projection."""
    ours = {}
    for key, value in theirs.items():
        if ".k_proj." in key or ".v_proj." in key:
            continue
        if ".q_proj." in key:
            value = torch.cat([theirs[key.replace(".q_", f".{part}_")] for part in "qkv"])
            key = re.sub(r"\.q_proj\.(weight|bias)$", r".in_proj_\1", key)
        for pattern, replacement in RENAMES:
            key = re.sub(pattern, replacement, key)
        ours[key] = value
    return ours


def hugging_face(levels: tuple[int, ...], num_layers: int, expand_ratio: float) -> nn.Module:
    """Return transformers' hybrid encoder, random, in eval mode; it begins after input_proj."""
    module = pytest.importorskip("transformers.models.rt_detr.modeling_rt_detr")
    config = module.RTDetrConfig(
        encoder_hidden_dim=SMALL["hidden_dim"],
        encoder_in_channels=list(CHANNELS),
        encoder_ffn_dim=SMALL["feedforward_dim"],
        encoder_attention_heads=SMALL["num_heads"],
        num_attention_heads=SMALL["num_heads"],
        encode_proj_layers=[level - 3 for level in levels],
        encoder_layers=num_layers,
        hidden_expansion=expand_ratio,
    )
    torch.manual_seed(1)
    model = module.RTDetrHybridEncoder(config).eval()
    for name, value in model.state_dict().items():
        if value.dim() > 1:
            value.normal_(std=value[0].numel() ** -0.5)
        elif name.endswith(("running_var", "norm.weight")):
            value.uniform_(0.5, 1.5)
        elif value.is_floating_point():
            value.normal_(std=0.3)
    return model


@pytest.mark.parametrize("size", [(8, 8), (8, 12), (12, 4)])
@pytest.mark.parametrize(
    ("levels", "num_layers", "expand_ratio"), [((5,), 1, 1.0), ((3, 5), 2, 0.5)]
)
def test_parity_with_hugging_face(
    levels: tuple[int, ...], num_layers: int, expand_ratio: float, size: tuple[int, int]
) -> None:
    theirs = hugging_face(levels, num_layers, expand_ratio)
    ours = build(
        attention_levels=levels, num_layers=num_layers, expand_ratio=expand_ratio, num_blocks=3
    )
    missing, unexpected = ours.load_state_dict(translate(theirs.state_dict()), strict=False)
    assert unexpected == []
    assert {key.split(".")[0] for key in missing} == {"input_proj"}
    features = maps(*size)
    with torch.no_grad():
        expected = theirs(ours.input_proj(features)).last_hidden_state
    for x, y in zip(run(ours, features), expected, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-5)
