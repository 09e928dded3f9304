"""Upstream's and Hugging Face's weights find their places in ours."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import detectors
from detectors.interface import Detector
from detectors.rtdetr.releases import CHECKPOINTS, OBJECTS365_CHECKPOINTS
from detectors.rtdetr.weights import rename, translate
from detectors.weights import WeightsError
from tests.detectors import golden

SOURCES = [
    ("rtdetr_r18", "rtdetr_r18vd"),
    ("rtdetr_r34", "rtdetr_r34vd"),
    ("rtdetr_r50_m", "rtdetr_r50vd_m"),
    ("rtdetr_r50", "rtdetr_r50vd"),
    ("rtdetr_r101", "rtdetr_r101vd"),
    ("rtdetr_r18", "hf_r18"),
    ("rtdetr_hgnetv2_l", "hf_hgnet_l"),
    ("rtdetr_hgnetv2_x", "hf_hgnet_x"),
]
IN_MEMORY = {
    r"^model\.encoder\.encoder\.": "model.encoder.aifi.",
    r"self_attn\.out_proj\.": "self_attn.o_proj.",
    r"\.fc([12])\.": r".mlp.fc\1.",
}
R18 = "rtdetr_r18"


def build(name: str, **knobs: Any) -> Detector:
    with torch.device("meta"):
        return detectors.create(name, {path.replace("__", "."): knobs[path] for path in knobs})


def empty(source: str) -> dict[str, Tensor]:
    """A state dict under upstream's keys, without memory."""
    return {
        key: torch.empty(shape, dtype=getattr(torch, kind), device="meta")
        for key, shape, kind in golden.entries(golden.spec(source)["layers"])
    }


def in_memory(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same under the keys that Hugging Face's model has once it is loaded."""
    renamed = {}
    for key, value in state.items():
        for pattern, replacement in IN_MEMORY.items():
            key = re.sub(pattern, replacement, key)
        renamed[key] = value
    return renamed


def shapes(state: dict[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(value.shape) for key, value in state.items()}


@pytest.mark.parametrize(("name", "source"), SOURCES)
def test_every_key_has_its_place(name: str, source: str) -> None:
    wanted = build(name).state_dict()
    assert shapes(translate(empty(source), wanted)) == shapes(wanted)


@pytest.mark.parametrize(("name", "source"), SOURCES[5:])
def test_every_key_in_memory_has_its_place(name: str, source: str) -> None:
    state = in_memory(empty(source))
    assert state.keys() != empty(source).keys()
    wanted = build(name).state_dict()
    assert shapes(translate(state, wanted)) == shapes(wanted)


@pytest.mark.parametrize(("name", "source"), SOURCES[:5])
def test_parameters(name: str, source: str) -> None:
    ours = sum(parameter.numel() for parameter in build(name).parameters())
    assert ours == golden.spec(source)["params"]


def assert_loaded(model: Detector) -> None:
    expected = golden.upstream_weights("rtdetr_r18vd")
    ours = model.state_dict()
    for key, theirs in {
        "backbone.stages.1.0.short.conv.weight": (
            "backbone.res_layers.1.blocks.0.short.conv.conv.weight"
        ),
        "neck.bottom_up.1.blocks.2.point.norm.running_var": (
            "encoder.pan_blocks.1.bottlenecks.2.conv2.norm.running_var"
        ),
        "neck.intra.0.0.self_attn.in_proj_weight": (
            "encoder.encoder.0.layers.0.self_attn.in_proj_weight"
        ),
        "head.selection.box.layers.2.bias": "decoder.enc_bbox_head.layers.2.bias",
        "head.layers.2.cross_attn.weights.bias": (
            "decoder.decoder.layers.2.cross_attn.attention_weights.bias"
        ),
        "head.score_heads.1.bias": "decoder.dec_score_head.1.bias",
    }.items():
        assert torch.equal(ours[key], expected[theirs]), key


WRAPPERS: dict[str, Callable[[dict[str, Tensor]], dict[str, Any]]] = {
    "bare": lambda state: state,
    "trained": lambda state: {"model": state, "last_epoch": 3, "ema": None},
    "average": lambda state: {"ema": {"module": state, "updates": 9}},
    "both": lambda state: {
        "model": {key: value + 1 for key, value in state.items()},
        "ema": {"module": state},
    },
    "with buffers": lambda state: {
        "ema": {
            "module": state
            | {
                "decoder.anchors": torch.zeros(1, 8400, 4),
                "decoder.valid_mask": torch.ones(1, 8400, 1),
                "encoder.pos_embed2": torch.zeros(1, 400, 256),
            }
        }
    },
}


@pytest.mark.parametrize("layout", WRAPPERS)
def test_upstream_layouts_load(layout: str, tmp_path: Path) -> None:
    content = WRAPPERS[layout](dict(golden.upstream_weights("rtdetr_r18vd")))
    torch.save(content, tmp_path / "checkpoint.pth")
    assert_loaded(detectors.create(R18, weights=tmp_path / "checkpoint.pth"))


def test_our_state_dict_loads() -> None:
    model = detectors.create(R18, weights=golden.upstream_weights("rtdetr_r18vd"))
    assert_loaded(detectors.create(R18, weights=model.state_dict()))


def test_projections_are_joined_in_order() -> None:
    theirs = golden.upstream_weights("hf_r18")
    ours = translate(theirs, build(R18).state_dict())
    prefix = "model.decoder.layers.1.self_attn"
    for part in ("weight", "bias"):
        joined = torch.cat([theirs[f"{prefix}.{letter}_proj.{part}"] for letter in "qkv"])
        assert torch.equal(ours[f"head.layers.1.self_attn.in_proj_{part}"], joined)


def test_counters_follow_the_detector() -> None:
    counter = "backbone.stem.0.norm.num_batches_tracked"
    ours = translate(golden.upstream_weights("hf_r18"), build(R18).state_dict())
    assert ours[counter].item() == 0
    frozen = build(R18, backbone__freeze_norm=True).state_dict()
    assert counter not in frozen
    assert translate(empty("rtdetr_r18vd"), frozen).keys() == frozen.keys()


def test_tied_copies_must_agree() -> None:
    theirs = dict(golden.upstream_weights("hf_r18"))
    copy, original = "class_embed.1.bias", "model.decoder.class_embed.1.bias"
    theirs[copy] = theirs[original]
    wanted = build(R18).state_dict()
    assert torch.equal(translate(theirs, wanted)["head.score_heads.1.bias"], theirs[original])
    theirs[copy] = theirs[original] + 1
    with pytest.raises(WeightsError, match=r"class_embed\.1\.bias: differs from its copy"):
        translate(theirs, wanted)


def test_missing_and_unknown_keys_are_refused() -> None:
    state = dict(golden.upstream_weights("rtdetr_r18vd"))
    state["decoder.extra.num_batches_tracked"] = state.pop("decoder.enc_score_head.bias")
    with pytest.raises(WeightsError) as caught:
        detectors.create(R18, weights=state)
    assert "missing head.selection.score.bias" in str(caught.value)
    assert "unknown head.extra.num_batches_tracked" in str(caught.value)


def test_our_weights_fit_other_switches() -> None:
    """Norms that are frozen elsewhere, and training without denoising queries."""
    small = {"backbone.width_mult": 0.125, "neck.hidden_dim": 32, "head.hidden_dim": 32}
    state = detectors.create(R18, small).state_dict()
    small["head.denoising.num_queries"] = 0
    other = detectors.create(R18, small | {"backbone.freeze_norm": True}, weights=state)
    assert "head.denoising_embed.weight" not in other.state_dict()
    back = detectors.create(R18, small, weights=other.state_dict())
    assert torch.equal(back.backbone.stem[0].conv.weight, state["backbone.stem.0.conv.weight"])


def test_a_lone_projection_is_refused() -> None:
    state = dict(golden.upstream_weights("hf_r18"))
    del state["model.decoder.layers.0.self_attn.k_proj.bias"]
    with pytest.raises(WeightsError) as caught:
        detectors.create(R18, weights=state)
    assert "missing head.layers.0.self_attn.in_proj_bias" in str(caught.value)
    assert "unknown head.layers.0.self_attn." in str(caught.value)


def test_our_keys_keep_their_names() -> None:
    for name in ("rtdetr_r50", "rtdetr_hgnetv2_l"):
        assert all(rename(key) == key for key in build(name).state_dict())


@pytest.mark.parametrize("table", [CHECKPOINTS, OBJECTS365_CHECKPOINTS])
def test_checkpoints_are_of_our_models(table: dict[str, Any]) -> None:
    assert table.keys() <= set(detectors.names())
    files = [file for released in table.values() for file in released]
    assert len({file.url for file in files}) == len(files)
    for file in files:
        assert file.url.endswith(".safetensors") == bool(file.sha256)
        assert file.sha256 is None or re.fullmatch("[0-9a-f]{64}", file.sha256)
